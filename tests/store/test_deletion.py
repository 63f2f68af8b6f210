"""Deleting a patient removes voxels and rows physically, from every snapshot, and leaves the others alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    RadiObject,
    create_snapshot,
    delete_subjects,
    list_snapshots,
    upsert_subjects,
)
from radiobject_assets.store.format.snapshots import describe_state
from radiobject_assets.store.storage.context import get_tiledb_ctx
from tests.store.conftest import put, voxels

MARKER = np.frombuffer(b"PATIENT-VOXELS!!", dtype=np.int16)


def files_with(store: str, needle: bytes) -> list[Path]:
    return [p for p in Path(store).rglob("*") if p.is_file() and needle in p.read_bytes()]


def test_nothing_of_a_deleted_patient_is_left_in_any_file_or_snapshot(store: str) -> None:
    for subject, seed in {"GONE-7": 1, "stays": 2}.items():
        put(store, "ct", subject, seed)
        put(store, "t1", subject, seed + 10)
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["GONE-7"], "note": ["GONE-7 again"]}))
    create_snapshot(store, "before")
    put(store, "ct", "GONE-7", 3)
    create_snapshot(store, "after")
    report = delete_subjects(store, ["GONE-7"])
    assert report.arrays == 3
    assert files_with(store, b"GONE-7") == []
    for timestamp in (None, "before", "after", *(s.timestamp_ms for s in list_snapshots(store))):
        radi = RadiObject(store, timestamp=timestamp)
        assert radi.obs_subject_ids == ["stays"]
        assert radi.ct.obs_ids == ["stays_ct"]
        assert np.array_equal(radi.ct["stays_ct"].to_numpy(stored=True), voxels(2))
        radi.validate()
    tokens = [p for p in Path(store).glob("collections/*/volumes/*") if not p.name.startswith("__")]
    assert len(tokens) == 2


def test_snapshot_digests_are_brought_up_to_date(store: str) -> None:
    put(store, "ct", "GONE-7", 1)
    put(store, "ct", "stays", 2)
    create_snapshot(store, "one")
    delete_subjects(store, ["GONE-7"])
    snapshot = list_snapshots(store)[0]
    assert snapshot.counts == {"subjects": 1, "ct": 1}
    assert describe_state(store, snapshot.timestamp_ms, get_tiledb_ctx())[1] == snapshot.digest


def test_the_last_patient_can_be_deleted_while_somebody_reads(store: str) -> None:
    put(store, "ct", "LAST-1", 1)
    readers = [RadiObject(store), RadiObject(store, timestamp=create_snapshot(store, "one").timestamp_ms)]
    assert [len(reader.ct) for reader in readers] == [1, 1]
    delete_subjects(store, ["LAST-1"])
    assert len(RadiObject(store).ct) == 0
    put(store, "ct", "next", 2)
    assert RadiObject(store).ct.obs_ids == ["next_ct"]


def test_the_last_patients_can_be_deleted_and_the_store_used_again(store: str) -> None:
    put(store, "ct", "GONE-7", 1)
    put(store, "ct", "GONE-8", 2)
    delete_subjects(store, ["GONE-7", "GONE-8"])
    assert files_with(store, b"GONE-") == []
    assert len(RadiObject(store)) == 0
    put(store, "ct", "new", 3)
    assert RadiObject(store).ct.obs_ids == ["new_ct"]


def test_a_patient_whose_rows_were_deleted_earlier_is_removed_from_history(store: str) -> None:
    put(store, "ct", "GONE-7", 1)
    put(store, "ct", "stays", 2)
    create_snapshot(store, "old")
    RadiObject(store).ct.delete(["GONE-7_ct"])
    delete_subjects(store, ["GONE-7"])
    assert files_with(store, b"GONE-7") == []
    assert RadiObject(store, timestamp="old").ct.obs_ids == ["stays_ct"]


def test_a_snapshot_name_cannot_be_given_to_other_data(store: str) -> None:
    put(store, "ct", "s1", 1)
    first = create_snapshot(store, "v1")
    assert create_snapshot(store, "v1") == first
    put(store, "ct", "s2", 2)
    with pytest.raises(StorageError, match="other data"):
        create_snapshot(store, "v1")
