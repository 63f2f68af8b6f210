"""Stores of every released format version can be read; an unknown version and other things are refused."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject, list_snapshots
from radiobject_assets.store.context import get_tiledb_ctx
from radiobject_assets.store.snapshots import describe_state
from tests.store.conftest import AFFINE, voxels

DATA = Path(__file__).parent / "data"


@pytest.fixture
def version_1(tmp_path: Path) -> str:
    """The store that was kept when format 1 was made."""
    with tarfile.open(DATA / "format-1.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return str(tmp_path / "format-1")


def test_format_1_is_read(version_1: str) -> None:
    radi = RadiObject(version_1)
    assert radi.obs_subject_ids == ["b", "患者-1"]
    assert radi.collection_names == ("ct", "masks")
    assert radi.obs_meta.read()["sex"].tolist() == ["F", "M"]
    assert np.array_equal(radi.ct["患者-1_ct"].to_numpy(), voxels(1) * np.float32(2.0) - np.float32(100.0))
    assert np.array_equal(radi.ct["b_ct"].to_numpy(stored=True), voxels(3))
    assert np.array_equal(radi.ct["b_ct"].affine, AFFINE)
    for number, dtype in enumerate(["bool", "float16", "uint8", "float64"]):
        volume = radi.masks[f"b_{dtype}"]
        assert volume.dtype == np.dtype(dtype)
        assert np.array_equal(volume.to_numpy(), voxels(10 + number, (4, 3, 2, 2), dtype))
    assert set(radi.masks.to_obs()["labels_of"]) == {"b_ct"}
    assert radi.ct.verify() == []
    radi.validate()


def test_a_snapshot_of_format_1_shows_what_was_there(version_1: str) -> None:
    radi = RadiObject(version_1, timestamp="first")
    assert radi.collection_names == ("ct",)
    assert np.array_equal(radi.ct["b_ct"].to_numpy(stored=True), voxels(2))
    assert radi.ct.filter("grade == 4").obs_ids == ["b_ct"]
    snapshot = list_snapshots(version_1)[0]
    assert snapshot.digest == "blake3:64bc33cce0c730947f8dba19e098af96a0ed0a0be25e8299cad46a0f28ace773"
    assert describe_state(version_1, snapshot.timestamp_ms, get_tiledb_ctx())[1] == snapshot.digest


def test_a_newer_format_is_refused_with_what_to_do(store: str) -> None:
    with tiledb.Group(store, "w") as group:
        group.meta["format_version"] = 2
    with pytest.raises(StorageError, match=r"format version 2.*update"):
        RadiObject(store)


def test_a_group_or_array_of_another_program_is_refused(tmp_path: Path) -> None:
    tiledb.Group.create(str(tmp_path / "group"))
    tiledb.from_numpy(str(tmp_path / "array"), np.zeros(3))
    for name in ("group", "array"):
        with pytest.raises(StorageError, match="not a radiobject-assets store"):
            RadiObject(tmp_path / name)
    with pytest.raises(StorageError, match="nothing that TileDB knows"):
        RadiObject(tmp_path / "absent")
