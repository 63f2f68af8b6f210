"""A store of another format version, a damaged one and other things are refused, each with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiledb
from blake3 import blake3

from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject, VolumeCollection, consolidate, ensure_store, vacuum
from tests.store.conftest import put


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    """Groups of TileDB as format version 1 had them."""
    store = tmp_path / "old"
    for folder in ("", "/collections", "/collections/ct"):
        tiledb.Group.create(f"{store}{folder}")
    for folder, kind in (("", "store"), ("/collections/ct", "collection")):
        with tiledb.Group(f"{store}{folder}", "w") as group:
            group.meta["format"] = f"radiobject-assets/{kind}"
            group.meta["format_version"] = 1
    return store


def test_a_store_of_version_1_is_refused_and_left_alone(version_1: Path) -> None:
    before = sorted(version_1.rglob("*"))
    for attempt in (RadiObject, consolidate, vacuum):
        with pytest.raises(StorageError, match="format version 1 ingest the data again"):
            attempt(version_1)
    with pytest.raises(StorageError, match="format version 1 ingest the data again"):
        VolumeCollection(version_1 / "collections" / "ct")
    with pytest.raises(StorageError, match="already holds something else"):
        ensure_store(version_1)
    assert sorted(version_1.rglob("*")) == before


def as_version(version: int, path: Path) -> None:
    """Let a manifest say that it is of another version, sound in itself."""
    document = json.loads(path.read_bytes().partition(b"\n")[0])
    line = json.dumps({**document, "format_version": version}).encode()
    path.write_bytes(line + b"\n" + blake3(line).hexdigest().encode() + b"\n")


def test_a_newer_format_is_refused_with_what_to_do(store: str) -> None:
    put(store, "ct", "s1", 1)
    as_version(3, Path(store, "state.json"))
    with pytest.raises(StorageError, match=r"format version 3.*update"):
        RadiObject(store)
    with pytest.raises(StorageError, match=r"format version 3.*update"):
        put(store, "ct", "s2", 2)


def test_a_newer_format_is_also_refused_where_only_the_newest_commit_has_it(store: str) -> None:
    before = Path(store, "state.json").read_bytes()
    put(store, "ct", "s1", 1)
    as_version(3, max(Path(store).glob("log/*/*.json")))
    Path(store, "state.json").write_bytes(before)
    with pytest.raises(StorageError, match=r"format version 3.*update"):
        RadiObject(store)
    Path(store, "state.json").unlink()
    with pytest.raises(StorageError, match=r"format version 3.*update"):
        RadiObject(store)


def test_a_group_or_array_of_another_program_is_refused(tmp_path: Path) -> None:
    tiledb.Group.create(str(tmp_path / "group"))
    tiledb.from_numpy(str(tmp_path / "array"), np.zeros(3))
    for name in ("group", "array"):
        with pytest.raises(StorageError, match="not a radiobject-assets store"):
            RadiObject(tmp_path / name)
    with pytest.raises(StorageError, match="no store at"):
        RadiObject(tmp_path / "absent")


def test_a_collection_is_not_taken_for_a_store_nor_a_store_for_a_collection(
    store: str, tmp_path: Path
) -> None:
    alone = VolumeCollection.create(tmp_path / "alone")
    with pytest.raises(StorageError, match="is a radiobject-assets collection, not a store"):
        RadiObject(alone.uri)
    with pytest.raises(StorageError, match="is a radiobject-assets collection, not a store"):
        ensure_store(alone.uri)
    with pytest.raises(StorageError, match="no collection at"):
        VolumeCollection(store)
