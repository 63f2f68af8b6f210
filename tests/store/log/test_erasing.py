"""Erasing takes a person out of every state and every file, and nothing of anybody else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    RadiObject,
    commit_volumes,
    consolidate,
    create_snapshot,
    delete_subjects,
    ensure_collection,
    stage_volume,
    upsert_subjects,
    vacuum,
)
from tests.store.conftest import put, voxels
from tests.store.log.jobs import killed, stopped, together
from tests.store.log.stores import (
    files,
    manifests,
    places_of,
    put_subjects,
    rows,
    segments,
    snapshot_digests,
    without,
)

GONE, UID = "gone-person", "1.2.826.0.1.999.77"
MINE = (GONE, UID)


def put_gone(store: str, seed: int = 1) -> None:
    put(store, "ct", GONE, seed, series_uid=f"{UID}.{seed}", note=f"of {GONE}")


@pytest.fixture
def history(store: str) -> str:
    """A store in which one person was in many states: replaced, deleted, merged, named."""
    put(store, "ct", "anna", 11)
    put(store, "ct", "ben", 12)
    put_gone(store)
    create_snapshot(store, "one")
    RadiObject(store).ct.delete(["ben_ct"])
    put_gone(store, 2)
    put(store, "mr", GONE, 3)
    create_snapshot(store, "two")
    put(store, "ct", "anna", 13)
    consolidate(store)
    put(store, "ct", "carl", 14)
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["anna", GONE], "age": [50, 60]}))
    create_snapshot(store, "three")
    RadiObject(store).ct.delete([f"{GONE}_ct"])
    return store


MOMENTS = (None, "one", "two", "three")


def test_every_state_has_all_others_as_before_and_no_byte_of_the_person_is_left(history: str) -> None:
    stamps = [one["committed_ms"] for one in manifests(history)]
    before = {moment: rows(history, moment) for moment in (*MOMENTS, *stamps)}
    arrays = {path.name for path in Path(history).glob("collections/*/volumes/*")}
    delete_subjects(history, [GONE])
    for moment, had in before.items():
        assert rows(history, moment) == without(had, GONE)
    assert list(places_of(history, *MINE)) == []
    assert len(arrays - {path.name for path in Path(history).glob("collections/*/volumes/*")}) == 3
    for merge in (consolidate, lambda store: vacuum(store, grace_s=0)):
        merge(history)
        for moment in MOMENTS:
            assert rows(history, moment) == without(before[moment], GONE)
    old = RadiObject(history, timestamp="one")
    assert np.array_equal(old.ct["ben_ct"].to_numpy(stored=True), voxels(12))
    assert np.array_equal(old.ct["anna_ct"].to_numpy(stored=True), voxels(11))
    assert set(snapshot_digests(history)) == {"one", "two", "three"}
    assert all(not RadiObject(history, timestamp=moment).ct.verify() for moment in MOMENTS)


def test_snapshots_without_the_person_keep_their_digests(store: str) -> None:
    put(store, "ct", "anna", 1)
    create_snapshot(store, "before")
    put_gone(store)
    create_snapshot(store, "with")
    digests = snapshot_digests(store)
    delete_subjects(store, [GONE])
    assert snapshot_digests(store)["before"] == digests["before"]
    assert snapshot_digests(store)["with"] != digests["with"]


def test_one_person_after_another_is_erased_from_what_took_the_place_of_erased_rows(history: str) -> None:
    before = {moment: rows(history, moment) for moment in MOMENTS}
    for subject in (GONE, "anna", "carl"):
        delete_subjects(history, [subject])
        before = {moment: without(had, subject) for moment, had in before.items()}
        for moment in MOMENTS:
            for name, texts in rows(history, moment).items():
                assert texts == before[moment][name]
    assert list(places_of(history, *MINE, "anna", "carl")) == []
    delete_subjects(history, ["ben"])
    assert RadiObject(history, timestamp="one").obs_subject_ids == []
    put(history, "ct", "anna", 5)
    assert RadiObject(history).ct.obs_ids == ["anna_ct"]


def seen_by(view: RadiObject) -> dict[str, list[tuple[str, int]]]:
    """Volumes of others that another process is shown by a view it was sent, with their voxels."""
    collections = [view.collection(name) for name in view.collection_names]
    return {
        collection.name: [
            (volume.obs_id or "", int(volume.to_numpy(stored=True).sum()))
            for volume in collection
            if volume.obs_subject_id not in (GONE, None)
        ]
        for collection in collections
    }


def test_a_view_of_before_shows_all_others_as_they_were(history: str) -> None:
    views = [RadiObject(history, timestamp=moment) for moment in MOMENTS]
    filtered = [view.filter(f"obs_subject_id != '{GONE}'") for view in views]
    before = [seen_by(view) for view in filtered]
    assert all(any(found.values()) for found in before)
    put(history, "ct", "anna", 99)
    delete_subjects(history, [GONE])
    consolidate(history)
    assert together(*((seen_by, view) for view in filtered)) == before
    assert [seen_by(view) for view in filtered] == before


def put_many(store: str) -> None:
    """One commit of so many rows that they are compressed, a few of them the person's."""
    subjects = [GONE, *(f"s{n}" for n in range(300))]
    put_subjects(store, **dict.fromkeys(subjects, 1))


@pytest.mark.parametrize("number", range(1, 6))
def test_what_a_killed_writer_left_keeps_no_byte_of_the_person(store: str, number: int) -> None:
    put(store, "ct", "anna", 1)
    killed(put_many, store, number=number)
    there = "s1" in RadiObject(store).obs_subject_ids
    delete_subjects(store, [GONE])
    assert list(places_of(store, GONE)) == []
    assert ("s1" in RadiObject(store).obs_subject_ids) is there
    put_many(store)
    assert RadiObject(store).ct.verify() == []


def commit_staged(store: str) -> None:
    uri = ensure_collection(store, "ct")
    staged = [
        stage_volume(uri, obs_id=f"{s}_ct", obs_subject_id=s, voxels=voxels(n))
        for n, s in enumerate((GONE, "other"))
    ]
    commit_volumes(uri, staged)


def test_arrays_that_a_writer_held_while_their_person_was_erased_are_committed_by_nobody(store: str) -> None:
    put(store, "ct", "anna", 1)
    with stopped(commit_staged, store, number=1, where="ct/obs") as writer:
        delete_subjects(store, [GONE])
        assert list(places_of(store, GONE)) == []
        for number in range(3):
            put_subjects(store, n=number)
        consolidate(store)
        writer.go_on()
        with pytest.raises(StorageError, match=r"1 of 2 volumes.*deleted.*write them again"):
            writer.result()
    assert RadiObject(store).ct.obs_ids == ["anna_ct"]
    assert list(places_of(store, GONE)) == []
    commit_staged(store)
    assert RadiObject(store).ct.obs_ids == ["anna_ct", f"{GONE}_ct", "other_ct"]
    assert RadiObject(store).ct.verify() == []


def test_arrays_that_a_writer_held_while_they_were_vacuumed_are_committed_by_nobody(store: str) -> None:
    put(store, "ct", "anna", 1)
    with stopped(commit_staged, store, number=1, where="ct/obs") as writer:
        assert vacuum(store, grace_s=0).arrays == 2
        writer.go_on()
        with pytest.raises(StorageError, match=r"2 of 2 volumes.*write them again"):
            writer.result()
    commit_staged(store)
    assert RadiObject(store).ct.verify() == []


def test_a_row_that_was_deleted_while_another_was_erased_stays_deleted(history: str) -> None:
    for number in range(1, 9):
        subject = f"x{number}"
        put(history, "ct", subject, number)
        put(history, "ct", f"y{number}", number)
        with stopped(erase, history, subject, number=number) as eraser:
            RadiObject(history).ct.delete([f"y{number}_ct"])
            eraser.go_on()
            eraser.result()
        ids = RadiObject(history).ct.obs_ids
        assert f"y{number}_ct" not in ids
        assert f"{subject}_ct" not in ids
        assert list(places_of(history, f"{subject}_ct")) == []


def erase(store: str, subject: str = GONE) -> None:
    delete_subjects(store, [subject])


def test_erasing_nobody_changes_no_file(history: str) -> None:
    before = files(history)
    delete_subjects(history, ["nobody", ""])
    delete_subjects(history, [])
    assert files(history) == before
    assert segments(history)


def test_an_array_whose_writer_was_cut_off_while_it_said_whose_it_is_goes_with_the_first_erasure(
    store: str,
) -> None:
    put(store, "ct", "anna", 2)
    kept = next(Path(store).glob("collections/ct/volumes/*"))
    put(store, "ct", GONE, 1)
    create_snapshot(store, "before")
    uri = ensure_collection(store, "ct")
    left = stage_volume(uri, obs_id="left", obs_subject_id="somebody", voxels=voxels(3))
    said = next(Path(uri, "volumes", left.token, "__meta").iterdir())
    said.write_bytes(said.read_bytes()[:52])
    delete_subjects(store, [GONE])
    assert not Path(uri, "volumes", left.token).exists()
    assert list(places_of(store, GONE)) == []
    assert kept.exists()
    assert RadiObject(store, timestamp="before").ct.verify() == []


def test_a_damaged_array_that_only_a_snapshot_names_stands_in_nobodys_way_and_is_kept(store: str) -> None:
    put(store, "ct", "anna", 2)
    named = next(Path(store).glob("collections/ct/volumes/*"))
    create_snapshot(store, "before")
    put(store, "ct", "anna", 3)
    put(store, "ct", GONE, 1)
    said = next((named / "__meta").iterdir())
    said.write_bytes(said.read_bytes()[:52])
    delete_subjects(store, [GONE])
    assert named.exists()
    assert list(places_of(store, GONE)) == []
