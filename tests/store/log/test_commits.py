"""A commit is one step: whole or not at all, after all that were before it, whoever else commits."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from blake3 import blake3

from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    RadiObject,
    commit_volumes,
    consolidate,
    create_snapshot,
    delete_subjects,
    ensure_collection,
    stage_volume,
    vacuum,
)
from tests.store.conftest import put, voxels
from tests.store.log.jobs import stopped, together
from tests.store.log.stores import ages, files, manifests, put_subjects, rows


def put_twelve(store: str, writer: int) -> None:
    for number in range(12):
        put_subjects(store, **{f"w{writer}_{number}": number, "all": writer})


def test_commits_of_many_processes_are_all_there_each_once_and_in_one_order(store: str) -> None:
    together(*((put_twelve, store, writer) for writer in range(4)))
    assert ages(store) == {f"w{w}_{n}": n for w in range(4) for n in range(12)} | {"all": ages(store)["all"]}
    found = manifests(store)
    assert [one["number"] for one in found] == list(range(1, len(found) + 1))
    assert [one["operation"] for one in found].count("update") == 48
    assert len({one["commit"] for one in found}) == len(found)
    stamps = [one["committed_ms"] for one in found]
    assert stamps == sorted(set(stamps))
    paths = sorted(Path(store).glob("log/[0-9]*/*.json"))
    digests = [blake3(path.read_bytes()).hexdigest() for path in paths]
    assert [one["previous"] for one in found[1:]] == digests[:-1]


def look_often(store: str, times: int) -> list[tuple[str, ...]]:
    found = []
    for _ in range(times):
        found.append(
            tuple(row["obs_subject_id"] for row in RadiObject(store).obs_meta.read().to_dict("records"))
        )
    return found


def put_pairs(store: str, times: int) -> None:
    for number in range(times):
        put_subjects(store, **{f"a{number}": number, f"b{number}": number})


def test_readers_see_all_of_a_commit_or_nothing(store: str) -> None:
    _, seen = together((put_pairs, store, 25), (look_often, store, 60))
    for subjects in seen:
        assert {s[1:] for s in subjects if s[0] == "a"} == {s[1:] for s in subjects if s[0] == "b"}
    assert seen == sorted(seen, key=len)


def put_one(store: str) -> None:
    put_subjects(store, late=1, shared=1)


def interfere(store: str) -> None:
    """All that others may do meanwhile."""
    for number in range(12):
        put_subjects(store, shared=100 + number, **{f"s{number}": number})
    consolidate(store)
    create_snapshot(store, "meanwhile")
    delete_subjects(store, ["gone"])


@pytest.fixture
def used(store: str) -> str:
    """A store with a few subjects and volumes."""
    put(store, "ct", "gone", 1)
    put(store, "ct", "stays", 2)
    put_subjects(store, shared=0, gone=7)
    return store


@pytest.mark.parametrize("where", ["/obs_meta", "/log/", "/state.json"])
@pytest.mark.parametrize("grace_s", [86_400.0, None])
def test_a_writer_that_was_stopped_commits_once_and_whole_when_it_goes_on(
    used: str, where: str, grace_s: float | None
) -> None:
    counted = where == "/state.json"
    with stopped(put_one, used, number=2 if where != "/state.json" else 1, where=where) as writer:
        assert ("late" in ages(used)) is counted
        interfere(used)
        if grace_s is not None:
            vacuum(used, grace_s=grace_s)
        before = rows(used, "meanwhile")
        writer.go_on()
        writer.result()
    found = ages(used)
    assert found["late"] == 1
    assert found["shared"] == (111 if counted else 1)
    assert "gone" not in found
    assert rows(used, "meanwhile") == before
    assert [one["number"] for one in manifests(used)] == list(range(1, len(manifests(used)) + 1))


def test_a_writer_whose_left_over_was_vacuumed_while_it_was_stopped_writes_it_again(used: str) -> None:
    with stopped(put_one, used, number=2, where="/log/") as writer:
        assert vacuum(used, grace_s=0).segments >= 1
        writer.go_on()
        writer.result()
    assert ages(used)["late"] == 1
    put_subjects(used, more=1)
    vacuum(used, grace_s=0)
    assert ages(used)["late"] == 1


def test_a_writer_whose_number_was_vacuumed_while_it_was_stopped_is_told_and_can_repeat_it(
    used: str,
) -> None:
    commits = 120
    with stopped(put_one, used, number=2, where="/log/") as writer:
        for number in range(commits):
            put_subjects(used, shared=100 + number)
        vacuum(used, grace_s=0)
        writer.go_on()
        with pytest.raises(StorageError, match="may not have counted"):
            writer.result()
    assert ages(used)["shared"] == 99 + commits
    assert "late" not in ages(used)
    put_one(used)
    assert ages(used)["late"] == 1
    vacuum(used, grace_s=0)
    assert RadiObject(used).ct.verify() == []
    assert ages(used)["late"] == 1


@pytest.mark.parametrize("commits", [3, 120])
def test_a_copy_of_the_state_that_came_much_too_late_hides_nothing(used: str, commits: int) -> None:
    with stopped(put_one, used, where="/state.json") as writer:
        create_snapshot(used, "kept")
        for number in range(commits):
            put_subjects(used, shared=100 + number)
        vacuum(used, grace_s=0)
        writer.go_on()
        writer.result()
    truth = {"late": 1, "shared": 99 + commits}
    assert {name: ages(used)[name] for name in truth} == truth
    put_subjects(used, new=3)
    assert {name: ages(used)[name] for name in truth} == truth
    assert ages(used)["new"] == 3


def test_a_copy_of_the_state_that_is_old_stands_in_nobodys_way(store: str) -> None:
    put_subjects(store, a=1)
    old = Path(store, "state.json").read_bytes()
    for number in range(130):
        put_subjects(store, a=number)
    vacuum(store, grace_s=0)
    Path(store, "state.json").write_bytes(old)
    assert ages(store) == {"a": 129}
    put_subjects(store, b=1)
    assert ages(store) == {"a": 129, "b": 1}
    assert json.loads(Path(store, "state.json").read_bytes().partition(b"\n")[0])["number"] > 130


def test_a_commit_stages_and_names_at_most_twenty_files(store: str) -> None:
    uri = ensure_collection(store, "ct")
    for count in (1, 30):
        staged = [
            stage_volume(
                uri, obs_id=f"{count}-{n}", obs_subject_id="s", voxels=voxels(n), attributes={f"column{n}": n}
            )
            for n in range(count)
        ]
        before = files(store)
        commit_volumes(uri, staged)
        assert len(files(store) - before) <= 20


def test_commits_are_ordered_though_clocks_are_not(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = time.time_ns
    for number, ahead_s in enumerate((0, 3600, -3600, 0)):
        with monkeypatch.context() as patched:
            patched.setattr(time, "time_ns", lambda s=ahead_s: clock() + s * 10**9)
            put_subjects(store, a=number)
    stamps = [one["committed_ms"] for one in manifests(store)]
    assert stamps == sorted(set(stamps))
    assert [ages(store, stamp).get("a") for stamp in stamps] == [None, 0, 1, 2, 3]
    assert ages(store) == {"a": 3}


def test_a_state_is_read_at_its_millisecond_and_until_the_next(store: str) -> None:
    for number in range(9):
        put_subjects(store, a=number)
        time.sleep(0.003)
    found = [one for one in manifests(store) if one["operation"] == "update"]
    for number, one in enumerate(found):
        assert ages(store, one["committed_ms"]) == {"a": number}
        assert ages(store, one["committed_ms"] - 1) == ({"a": number - 1} if number else {})
    assert ages(store, 1) == {}


def test_of_a_moment_before_the_oldest_state_that_is_kept_it_is_said_that_it_was_vacuumed(store: str) -> None:
    put_subjects(store, a=1)
    moment = manifests(store)[-1]["committed_ms"]
    create_snapshot(store, "named")
    for number in range(3):
        put_subjects(store, a=number)
    vacuum(store, grace_s=0)
    assert ages(store, moment) == {"a": 1}  # the snapshot's own
    with pytest.raises(StorageError, match="were vacuumed"):
        ages(store, moment - 1)


def test_a_store_that_is_copied_is_itself(store: str, tmp_path: Path) -> None:
    put_subjects(store, a=1)
    copy = str(tmp_path / "copy")
    shutil.copytree(store, copy)
    put_subjects(copy, a=2)
    assert (ages(store), ages(copy)) == ({"a": 1}, {"a": 2})
