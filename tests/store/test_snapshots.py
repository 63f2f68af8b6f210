"""A named snapshot never changes: not by slow writers, wrong clocks, merges, or what is written meanwhile."""

from __future__ import annotations

import multiprocessing
import secrets
from multiprocessing.synchronize import Event
from pathlib import Path

import pandas as pd
import pytest
import tiledb

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
)
from radiobject_assets.store.context import get_tiledb_ctx
from radiobject_assets.store.layout import rename_collection
from radiobject_assets.store.snapshots import describe_state
from tests.store.conftest import put, voxels

_FRESH = multiprocessing.get_context("forkserver")


def land_as_of(table: Path, stamp: int, suffix: str = ".wrt") -> None:
    """Give the newest commit of a table an earlier stamp: what a writer does that is slow, or behind."""
    newest = max((table / "__commits").glob(f"*{suffix}")).name.removesuffix(suffix)
    version = newest.rsplit("_", 1)[1]
    old = f"__{stamp}_{stamp}_{secrets.token_hex(16)}_{version}"
    if suffix == ".wrt":
        (table / "__fragments" / newest).rename(table / "__fragments" / old)
    (table / "__commits" / (newest + suffix)).rename(table / "__commits" / (old + suffix))


def same(store: str, name: str) -> bool:
    """Whether a snapshot opens and shows what its digest says."""
    snapshot = next(s for s in list_snapshots(store) if s.name == name)
    RadiObject(store, timestamp=name)
    return describe_state(store, snapshot.timestamp_ms, get_tiledb_ctx())[1] == snapshot.digest


@pytest.mark.parametrize("deleted", [False, True])
def test_a_commit_that_lands_in_a_snapshot_afterwards_is_told_and_put_after_it(
    store: str, deleted: bool
) -> None:
    put(store, "ct", "s1", 1)
    put(store, "ct", "s2", 2)
    snapshot = create_snapshot(store, "one")
    if deleted:
        RadiObject(store).ct.delete(["s2_ct"])
        suffix, present = ".del", ["s1_ct"]
    else:
        put(store, "ct", "s3", 3)
        suffix, present = ".wrt", ["s1_ct", "s2_ct", "s3_ct"]
    land_as_of(Path(ensure_collection(store, "ct")) / "obs", snapshot.timestamp_ms, suffix)
    assert describe_state(store, snapshot.timestamp_ms, get_tiledb_ctx())[1] != snapshot.digest
    with pytest.raises(StorageError, match=r"snapshot 'one'.*after it was made"):
        RadiObject(store, timestamp="one")
    consolidate(store)
    assert same(store, "one")
    assert RadiObject(store, timestamp="one").ct.obs_ids == ["s1_ct", "s2_ct"]
    assert RadiObject(store).ct.obs_ids == present


def test_late_commits_do_not_win_over_what_was_written_since(store: str) -> None:
    put(store, "ct", "s1", 1)
    snapshot = create_snapshot(store, "one")
    obs = Path(ensure_collection(store, "ct")) / "obs"
    for seed in (2, 3):
        put(store, "ct", "s1", seed)
        land_as_of(obs, snapshot.timestamp_ms)
    put(store, "ct", "s1", 4)
    consolidate(store)
    assert same(store, "one")
    assert RadiObject(store).ct["s1_ct"].to_numpy(stored=True).sum() == voxels(4).sum()


def test_what_a_snapshot_needs_and_is_gone_is_told(store: str) -> None:
    put(store, "ct", "s1", 1)
    put(store, "ct", "s2", 2)
    create_snapshot(store, "one")
    obs = Path(ensure_collection(store, "ct")) / "obs"
    min((obs / "__commits").glob("*.wrt")).unlink()
    with pytest.raises(StorageError, match=r"a commit of collections/ct/obs is gone"):
        RadiObject(store, timestamp="one")


def test_the_later_of_two_writes_wins_though_its_clock_is_behind(store: str) -> None:
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["a"], "age": [1]}))
    table = Path(store) / "obs_meta"
    newest = max((table / "__commits").iterdir()).name
    land_as_of(table, int(newest.split("_")[2]) + 3000)  # as if this machine were three seconds behind
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["a"], "age": [2]}))
    with tiledb.open(str(table), timestamp=2**62) as array:
        assert array[:]["age:int64"].tolist() == [2]


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
