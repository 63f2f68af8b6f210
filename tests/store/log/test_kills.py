"""Killed before any call that changes the disk, everything is as before or as after, and works at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    RadiObject,
    consolidate,
    create_snapshot,
    delete_subjects,
    ensure_collection,
    ensure_store,
    vacuum,
)
from tests.store.conftest import put
from tests.store.log.jobs import killed, started
from tests.store.log.stores import ages, manifests, places_of, put_subjects, rows, snapshot_digests, without

MOMENTS = (None, "one", "two")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a past, from which every test begins."""
    folder = tmp_path_factory.mktemp("kills") / "base"
    store = ensure_store(folder)
    put(store, "ct", "anna", 1)
    put(store, "ct", "gone", 2)
    create_snapshot(store, "one")
    put(store, "ct", "anna", 3)
    RadiObject(store).ct.delete(["gone_ct"])
    put(store, "ct", "gone", 4)
    put_subjects(store, anna=40, gone=70)
    create_snapshot(store, "two")
    put(store, "ct", "ben", 5)
    return folder


def commit(store: str) -> None:
    put_subjects(store, new=1, anna=41)


def merge(store: str) -> None:
    consolidate(store)


def tidy(store: str) -> None:
    vacuum(store, grace_s=0)


def erase(store: str) -> None:
    delete_subjects(store, ["gone"])


def name_it(store: str) -> None:
    create_snapshot(store, "three")


def commit_often(store: str) -> None:
    for number in range(6):  # the last ones merge
        put_subjects(store, **{f"n{number}": number})


def works(store: str) -> None:
    """Every operation, at once."""
    before = rows(store)
    put(store, "ct", "zoe", 9)
    name = f"at once {len(manifests(store))}"
    create_snapshot(store, name)
    consolidate(store)
    delete_subjects(store, ["zoe"])
    vacuum(store, grace_s=0)
    consolidate(store)
    assert rows(store) == before
    assert rows(store, name) == before
    assert RadiObject(store).ct.verify() == []
    snapshot_digests(store)


def at_every_call(job: Callable[[str], None], base: Path, folder: Path, every: int) -> list[str]:
    """Copies of a store, in each of which the job was killed before another call."""
    found: list[str] = []
    while True:
        store = str(folder / f"s{len(found)}")
        shutil.copytree(base, store)
        if not killed(job, store, number=len(found) * every + 1):
            return found
        found.append(store)
        assert len(found) < 150


in_steps = pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])


@in_steps
@pytest.mark.parametrize("job", [merge, tidy, name_it])
def test_what_changes_no_rows_changes_none_where_it_is_killed(
    base: Path, tmp_path: Path, job: Callable[[str], None], every: int
) -> None:
    truth = {moment: rows(str(base), moment) for moment in MOMENTS}
    digests = snapshot_digests(str(base))
    stores = at_every_call(job, base, tmp_path, every if job is not commit else 1)
    assert stores
    for number, store in enumerate(stores):
        assert {moment: rows(store, moment) for moment in MOMENTS} == truth
        assert snapshot_digests(store).items() >= digests.items()
        job(store)
        assert {moment: rows(store, moment) for moment in MOMENTS} == truth
        if number % 3 == 1:
            works(store)


@in_steps
@pytest.mark.parametrize("job", [commit, commit_often])
def test_a_killed_commit_is_there_whole_or_not_at_all(
    base: Path, tmp_path: Path, job: Callable[[str], None], every: int
) -> None:
    truth = {moment: rows(str(base), moment) for moment in ("one", "two")}
    was = ages(str(base))
    stores = at_every_call(job, base, tmp_path, every if job is not commit else 1)
    seen = set()
    for number, store in enumerate(stores):
        now = ages(store)
        new = now.keys() - was.keys()
        assert new == {f"n{n}" for n in range(len(new))} if job is commit_often else new <= {"new"}
        assert now["anna"] == (41 if "new" in new else 40)
        assert {moment: rows(store, moment) for moment in truth} == truth
        seen.add(len(new))
        if number % 4 == 1:
            works(store)
        job(store)
        assert len(ages(store)) == len(was) + (6 if job is commit_often else 1)
    assert len(seen) > 2 if job is commit_often else seen == {0, 1}


@in_steps
def test_a_killed_erasing_is_completed_by_the_same_call_and_hides_nobody_else(
    base: Path, tmp_path: Path, every: int
) -> None:
    truth = {moment: rows(str(base), moment) for moment in MOMENTS}
    after = {moment: without(had, "gone") for moment, had in truth.items()}
    stores = at_every_call(erase, base, tmp_path, every)
    assert len(stores) > 20 / every
    for number, store in enumerate(stores):
        seen = {moment: rows(store, moment) for moment in MOMENTS}
        assert seen in (truth, after)
        snapshot_digests(store)
        if number % 5 == 1:
            works(store)
        erase(store)
        assert {moment: rows(store, moment) for moment in MOMENTS} == after
        assert list(places_of(store, "gone")) == []
        vacuum(store, grace_s=0)
        assert all(not RadiObject(store, timestamp=moment).ct.verify() for moment in MOMENTS)
        tokens = {v.uri for moment in MOMENTS for v in RadiObject(store, timestamp=moment).ct}
        assert len(list(Path(store).glob("collections/*/volumes/*"))) == len(tokens)


def make(store: str) -> None:
    uri = ensure_store(store)
    ensure_collection(uri, "ct")
    put_subjects(uri, anna=1)


def test_a_store_that_was_being_made_is_not_there_or_whole_and_the_same_call_makes_it(tmp_path: Path) -> None:
    number = 0
    there = []
    while True:
        number += 1
        store = str(tmp_path / f"new{number}")
        if not killed(make, store, number=number):
            break
        try:
            RadiObject(store).obs_subject_ids  # noqa: B018 - it is whole
            there.append(number)
        except StorageError as error:
            assert "no store at" in str(error)  # noqa: PT017 - either is right
            assert not there
        make(store)
        assert ages(store) == {"anna": 1}
        put(store, "ct", "anna", 1)
        assert RadiObject(store).ct.verify() == []
    assert 3 < number < 60
    assert there


def test_a_process_that_is_killed_at_any_time_holds_nobody_up(base: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "s")
    shutil.copytree(base, store)
    for number in range(6):
        with started(commit_often, store):
            put_subjects(store, mine=number)  # beside it; then it is killed
    assert ages(store)["mine"] == 5
    works(store)
