"""Erasing, vacuum and consolidation at once with themselves, each other and writers; and many rows."""

from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from radiobject_assets.errors import SchemaError, StorageError
from radiobject_assets.store import (
    RadiObject,
    consolidate,
    create_snapshot,
    delete_subjects,
    ensure_store,
    upsert_subjects,
    vacuum,
    verify_store,
)
from radiobject_assets.store.tables.table import Table
from tests.store.conftest import put, voxels
from tests.store.log.jobs import together
from tests.store.log.stores import ages, put_subjects


def write_some(store: str, name: str) -> None:
    # rows alone: with no grace, vacuum takes an array that somebody is writing, and its commit is refused
    for number in range(12):
        put_subjects(store, **{f"{name}{number:02d}": number})


def erase(store: str, *ids: str) -> None:
    for subject in ids:
        delete_subjects(store, [subject])


def tidy(store: str) -> None:
    for _ in range(4):
        consolidate(store)
        vacuum(store, grace_s=0)


def merge(store: str) -> None:
    for _ in range(6):
        consolidate(store)


def test_two_of_each_at_once_lose_nothing_and_bring_nobody_back(store: str) -> None:
    for number, subject in enumerate(("anna", "ben", "cem", "dora")):
        put(store, "ct", subject, number)
        put_subjects(store, **{subject: number})
    create_snapshot(store, "before")
    together(
        (erase, store, "anna", "ben"),
        (erase, store, "ben", "anna"),
        (tidy, store),
        (tidy, store),
        (merge, store),
        (write_some, store, "w"),
    )
    radi = RadiObject(store)
    assert radi.obs_subject_ids == ["cem", "dora", *(f"w{n:02d}" for n in range(12))]
    assert radi.ct.obs_ids == ["cem_ct", "dora_ct"]
    assert RadiObject(store, timestamp="before").ct.obs_ids == ["cem_ct", "dora_ct"]
    assert np.array_equal(radi.ct["dora_ct"].to_numpy(stored=True), voxels(3))
    assert verify_store(store) == []
    for name in ("anna", "ben"):
        assert not [p for p in Path(store).rglob("*") if p.is_file() and name.encode() in p.read_bytes()]


ROWS = 70_000


def many(start: int, value: int, count: int = ROWS) -> pa.Table:
    ids = pa.array([f"s{number:06d}" for number in range(start, start + count)], pa.large_string())
    columns = {f"c{n}": pa.array(np.arange(start, start + count) * (n + 1) + value) for n in range(30)}
    return pa.table({"obs_subject_id": ids, **columns})


def test_more_rows_than_a_segment_holds_are_merged_in_order_and_each_once(store: str) -> None:
    table = Table(f"{store}/obs_meta")
    table.upsert(many(0, 0))
    table.upsert(many(ROWS // 2, 7))
    table.delete([("s000003",), (f"s{ROWS:06d}",)])
    before = table.read(["c0", "c29"])
    consolidate(store)
    after = Table(f"{store}/obs_meta")
    assert len(after.state.segments) == 2
    assert not any(segment.deletions for segment in after.state.segments)
    assert after.read(["c0", "c29"]).equals(before)
    expected = [n for n in range(ROWS // 2 + ROWS) if n not in (3, ROWS)]
    assert before.column("obs_subject_id").to_pylist() == [f"s{n:06d}" for n in expected]
    assert before.column("c0").to_pylist() == [n + 7 * (n >= ROWS // 2) for n in expected]


def consolidated_with_mb(store: str) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    consolidate(store)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def test_merging_holds_a_few_segments_in_memory_whatever_the_number_of_rows(store: str) -> None:
    table = Table(f"{store}/obs_meta")
    for part in range(5):
        table.upsert(many(part * 40_000, 0, 40_000))
        table.upsert(many(part * 40_000, 1, 1000))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        used = pool.apply(consolidated_with_mb, (store,))
    # 200,000 rows of 30 numbers are 48 MB and their keys; TileDB took 3.7 GB for 75 commits of one row
    assert used < 400
    assert Table(f"{store}/obs_meta").read([]).num_rows == 200_000


def test_columns_are_not_put_into_a_row_that_another_deleted_meanwhile(store: str) -> None:
    put(store, "ct", "anna", 1)
    put(store, "ct", "ben", 2)
    held = RadiObject(store).ct
    assert len(held) == 2
    RadiObject(store).ct.delete(["ben_ct"])
    frame = pd.DataFrame({"obs_subject_id": ["anna", "ben"], "obs_id": ["anna_ct", "ben_ct"], "seen": [1, 2]})
    with pytest.raises(SchemaError, match="no volume"):
        held.obs.update(frame)
    assert RadiObject(store).ct.obs_ids == ["anna_ct"]
    assert "seen" not in RadiObject(store).ct.obs.columns


def test_rows_are_deleted_by_what_they_say_when_they_are_deleted(store: str) -> None:
    put_subjects(store, anna=1, ben=2)
    held = RadiObject(store)
    assert len(held) == 2
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["anna"], "age": [5]}))
    assert held.obs_meta.delete("age == 1") == 0
    assert ages(store) == {"anna": 5, "ben": 2}


def test_an_earlier_state_that_was_exchanged_or_lost_is_told_and_not_another_shown(
    store: str, tmp_path: Path
) -> None:
    put_subjects(store, anna=1)
    put_subjects(store, anna=2)
    shutil.copytree(store, tmp_path / "branched")
    put_subjects(store, anna=3)
    moments = {}
    for path in sorted(Path(store).glob("log/[0-9]*/*.json")):
        said = json.loads(path.read_bytes().partition(b"\n")[0])
        moments[said["number"]] = (said["committed_ms"], path)
    newest = max(moments)
    put_subjects(store, anna=4)
    moment, path = moments[newest]
    put_subjects(str(tmp_path / "branched"), anna=99)
    (other,) = (tmp_path / "branched").glob(f"log/*/{path.name}")
    original = path.read_bytes()
    path.write_bytes(other.read_bytes())
    with pytest.raises(StorageError, match=r"exchanged|damaged"):
        RadiObject(store, timestamp=moment).obs_meta.read()
    path.write_bytes(original)
    path.unlink()
    with pytest.raises(StorageError):
        RadiObject(store, timestamp=moment).obs_meta.read()
    assert ensure_store(store) == store
