"""What is open, damaged or named oddly while somebody is erased."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radiobject_assets.errors import SchemaError, StorageError
from radiobject_assets.store import (
    Dataframe,
    RadiObject,
    consolidate,
    create_snapshot,
    delete_snapshot,
    delete_subjects,
    list_snapshots,
    upsert_subjects,
)
from radiobject_assets.store.log.commit_log import now_ms
from radiobject_assets.store.tables.table import Table
from tests.store.conftest import put, voxels
from tests.store.log.stores import ages, put_subjects


def erased_elsewhere(store: str, subject: str) -> None:
    program = "import sys; from radiobject_assets.store import *; delete_subjects(sys.argv[1], sys.argv[2:])"
    subprocess.run([sys.executable, "-c", program, store, subject], check=True)


def look_at_a_held_collection(store: str) -> tuple[object, ...]:
    held = RadiObject(store).ct
    ids = held.obs_ids
    erased_elsewhere(store, "ben")
    try:
        held["ben_ct"]
        told = ""
    except StorageError as error:
        told = str(error)
    whole = bool(np.array_equal(held["cem_ct"].to_numpy(stored=True), voxels(2)))
    return ids, held.shape, [volume.obs_id for volume in held], whole, told


def test_a_collection_that_was_open_passes_over_the_erased_and_says_so_when_asked(store: str) -> None:
    for number, subject in enumerate(("anna", "ben", "cem")):
        put(store, "ct", subject, number)
    # in a process that has not all rows in its memory already
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        ids, shape, left, whole, told = pool.apply(look_at_a_held_collection, (store,))
    assert ids == ["anna_ct", "ben_ct", "cem_ct"]
    assert left == ["anna_ct", "cem_ct"]
    assert shape == voxels(0).shape
    assert whole
    assert "erased since" in str(told)


def read_on_threads(store: str) -> list[int]:
    table = Table(f"{store}/obs_meta")
    assert table.state.segments  # the state is taken
    erased_elsewhere(store, "s1")
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: table.read().num_rows, range(8)))


def test_readers_on_threads_follow_an_erasure_together(store: str) -> None:
    put_subjects(store, **{f"s{number}": number for number in range(40)})
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_on_threads, (store,)) == [39] * 8


def test_a_column_of_subjects_may_be_called_volume(store: str) -> None:
    frame = pd.DataFrame({"obs_subject_id": ["anna", "ben"], "volume": ["left", "right"]})
    upsert_subjects(store, frame)
    put(store, "ct", "anna", 1)
    delete_subjects(store, ["anna"])
    assert RadiObject(store).obs_meta.read()["volume"].tolist() == ["right"]
    assert len(RadiObject(store).ct) == 0


def test_erasing_that_cannot_read_a_file_takes_it_for_nothing_damaged(store: str) -> None:
    put_subjects(store, anna=1, ben=2)
    moment = now_ms()
    time.sleep(0.01)
    (earlier,) = Path(store, "obs_meta").iterdir()
    put_subjects(store, cem=3)
    consolidate(store)
    content = earlier.read_bytes()
    earlier.unlink()
    earlier.symlink_to(earlier)  # "too many levels of symbolic links", even for root
    with pytest.raises(StorageError, match=r"cannot (list|read)"):
        delete_subjects(store, ["anna"])
    assert earlier.is_symlink()
    earlier.unlink()
    earlier.write_bytes(content)
    delete_subjects(store, ["anna"])
    assert ages(store) == {"ben": 2, "cem": 3}
    assert ages(store, moment) == {"ben": 2}


def test_a_snapshot_that_is_damaged_can_be_let_go_so_that_somebody_is_erased(store: str) -> None:
    put_subjects(store, anna=1, ben=2)
    create_snapshot(store, "old")
    put_subjects(store, anna=3, ben=4)
    consolidate(store)
    (newest,) = Table(f"{store}/obs_meta").state.segments
    for path in Path(store, "obs_meta").iterdir():
        if path.name != newest.name:
            path.write_bytes(b"damaged")
    with pytest.raises(StorageError, match="delete_snapshot"):
        delete_subjects(store, ["anna"])
    delete_snapshot(store, "old")
    with pytest.raises(StorageError, match="no snapshot 'old'"):
        delete_snapshot(store, "old")
    delete_subjects(store, ["anna"])
    assert ages(store) == {"ben": 4}
    assert list_snapshots(store) == []
    assert [path.name for path in Path(store, "obs_meta").iterdir() if path.read_bytes() == b"damaged"] == []


def test_keys_that_could_be_taken_for_others_are_refused(tmp_path: Path, store: str) -> None:
    frame = pd.DataFrame({"one": ["a\x1fb"], "two": ["c"], "v": [1]})
    with pytest.raises(SchemaError, match="control characters"):
        Dataframe.from_pandas(tmp_path / "table", frame, index_columns=("one", "two"))
    for bad in ("", "x\ny"):
        with pytest.raises(SchemaError):
            upsert_subjects(store, pd.DataFrame({"obs_subject_id": [bad]}))


def test_rows_are_found_by_text_that_was_a_number(store: str) -> None:
    put_subjects(store, anna=5)
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["ben"], "age": ["old"]}))
    found = Table(f"{store}/obs_meta").rows_where("age", ["5", "old"])
    assert found.column("obs_subject_id").to_pylist() == ["anna", "ben"]
