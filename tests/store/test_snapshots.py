"""A named snapshot never changes: not by slow writers, wrong clocks, merges, or what is written meanwhile."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Event
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
    list_snapshots,
    stage_volume,
    upsert_subjects,
    vacuum,
)
from radiobject_assets.store.format.layout import rename_collection
from radiobject_assets.store.format.snapshots import describe_state
from radiobject_assets.store.storage.context import get_tiledb_ctx
from tests.store.conftest import put, voxels

_FRESH = multiprocessing.get_context("forkserver")


def same(store: str, name: str) -> bool:
    """Whether a snapshot opens and shows what its digest says, by its name and at its moment."""
    snapshot = next(s for s in list_snapshots(store) if s.name == name)
    RadiObject(store, timestamp=name)
    ctx = get_tiledb_ctx()
    return all(describe_state(store, at, ctx)[1] == snapshot.digest for at in (name, snapshot.timestamp_ms))


@pytest.mark.parametrize("deleted", [False, True])
def test_what_is_committed_after_a_snapshot_is_not_in_it(store: str, deleted: bool) -> None:
    put(store, "ct", "s1", 1)
    ct = ensure_collection(store, "ct")
    slow = stage_volume(ct, obs_id="s3_ct", obs_subject_id="s3", voxels=voxels(3))  # before the snapshot
    put(store, "ct", "s2", 2)
    create_snapshot(store, "one")
    if deleted:
        RadiObject(store).ct.delete(["s2_ct"])
        present = ["s1_ct"]
    else:
        commit_volumes(ct, [slow])
        present = ["s1_ct", "s2_ct", "s3_ct"]
    assert same(store, "one")
    consolidate(store)
    assert same(store, "one")
    assert RadiObject(store, timestamp="one").ct.obs_ids == ["s1_ct", "s2_ct"]
    assert RadiObject(store).ct.obs_ids == present


def test_what_a_snapshot_needs_and_is_gone_is_told(store: str) -> None:
    put(store, "ct", "s1", 1)
    create_snapshot(store, "one")
    put(store, "ct", "s2", 2)
    pinned = max(Path(store).glob("log/*/*.json"), key=lambda path: b'"snapshot"' in path.read_bytes())
    number = int(pinned.stem) - 1
    pinned.with_name(f"{number:012d}.json").unlink()
    with pytest.raises(StorageError, match=rf"state {number} is gone"):
        RadiObject(store, timestamp="one")
    assert RadiObject(store).ct.obs_ids == ["s1_ct", "s2_ct"]


def test_another_manifest_in_the_place_of_the_pinned_one_is_told(store: str) -> None:
    put(store, "ct", "s1", 1)
    create_snapshot(store, "one")
    before = RadiObject(store)
    earlier = sorted(Path(store).glob("log/*/*.json"))
    assert before.obs_subject_ids == ["s1"]
    earlier[-2].write_bytes(earlier[-3].read_bytes())
    with pytest.raises(StorageError, match="exchanged"):
        RadiObject(store, timestamp="one")


@pytest.mark.parametrize("behind_s", [3, 86_400])
def test_the_later_of_two_writes_wins_though_its_clock_is_behind(
    store: str, behind_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["a"], "age": [1]}))
    create_snapshot(store, "one")
    clock = time.time_ns
    with monkeypatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: clock() - behind_s * 10**9)
        upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["a"], "age": [2]}))
        create_snapshot(store, "two")
    assert RadiObject(store).obs_meta.read()["age"].tolist() == [2]
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["a"], "age": [3]}))
    consolidate(store)
    for name, age in (("one", 1), ("two", 2)):
        assert same(store, name)
        assert RadiObject(store, timestamp=name).obs_meta.read()["age"].tolist() == [age]
    assert RadiObject(store).obs_meta.read()["age"].tolist() == [3]
    stamps = [snapshot.timestamp_ms for snapshot in list_snapshots(store)]
    assert stamps[0] < stamps[1]


def test_snapshots_survive_merges_deletions_and_renames(store: str) -> None:
    for seed in range(4):
        put(store, "ct", f"s{seed}", seed)
    create_snapshot(store, "one")
    put(store, "ct", "s0", 9)
    rename_collection(store, "ct", "chest")
    create_snapshot(store, "two")
    consolidate(store)
    assert same(store, "one")
    assert same(store, "two")
    delete_subjects(store, ["s3"])
    assert same(store, "one")
    assert same(store, "two")
    assert RadiObject(store, timestamp="one").ct.obs_ids == ["s0_ct", "s1_ct", "s2_ct"]


def test_erasing_one_leaves_what_a_snapshot_has_of_others_though_it_was_deleted_or_replaced_since(
    store: str,
) -> None:
    for seed, subject in enumerate(("anna", "ben", "carl", "gone")):
        put(store, "ct", subject, seed)
    create_snapshot(store, "paper")
    RadiObject(store).ct.delete(["ben_ct"])
    put(store, "ct", "carl", 9)
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["anna"], "age": [50]}))
    delete_subjects(store, ["gone"])
    for merge in (False, True):
        if merge:
            consolidate(store)
            vacuum(store, grace_s=0)
        old, new = RadiObject(store, timestamp="paper"), RadiObject(store)
        assert old.ct.obs_ids == ["anna_ct", "ben_ct", "carl_ct"]
        assert old.obs_subject_ids == ["anna", "ben", "carl"]
        for seed, subject in enumerate(("anna", "ben", "carl")):
            assert np.array_equal(old.ct[f"{subject}_ct"].to_numpy(stored=True), voxels(seed))
        assert new.ct.obs_ids == ["anna_ct", "carl_ct"]
        assert np.array_equal(new.ct["carl_ct"].to_numpy(stored=True), voxels(9))
        assert same(store, "paper")


def _write_until(store: str, writer: int, stop: Event) -> None:
    number = 0
    uri = ensure_collection(store, "ct")
    while not stop.is_set():
        number += 1
        volume = stage_volume(uri, obs_id=f"{writer}-{number}", obs_subject_id="s", voxels=voxels(number))
        commit_volumes(uri, [volume])
        upsert_subjects(store, pd.DataFrame({"obs_subject_id": [f"w{writer}"], "n": [number]}))
        if number % 5 == 0:
            RadiObject(store).ct.delete([f"{writer}-{number}"])
            consolidate(store)


def test_snapshots_of_a_store_that_is_written_to_stay_what_they_were(store: str) -> None:
    ensure_collection(store, "ct")
    stop = _FRESH.Event()
    writers = [_FRESH.Process(target=_write_until, args=(store, n, stop)) for n in range(2)]
    for writer in writers:
        writer.start()
    try:
        for number in range(12):
            create_snapshot(store, str(number))
    finally:
        stop.set()
        for writer in writers:
            writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert all(same(store, str(number)) for number in range(12))
    consolidate(store)
    assert all(same(store, str(number)) for number in range(12))
