"""A flipped byte anywhere in a store is an error or a finding of verify; it never comes back as data."""

from __future__ import annotations

import multiprocessing
import shutil
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from radiobject_assets.errors import AlignmentError, RadiObjectError, StorageError
from radiobject_assets.store import (
    CompressionConfig,
    Compressor,
    RadiObject,
    ReadConfig,
    TileConfig,
    Volume,
    VolumeCollectionWriter,
    WriteConfig,
    commit_volumes,
    configure,
    ensure_collection,
    stage_volume,
)
from radiobject_assets.store.arrays.tile_cache import forget_array
from radiobject_assets.store.format.obs_rows import obs_rows
from radiobject_assets.store.storage.context import get_tiledb_ctx
from radiobject_assets.store.tables.table import Table
from tests.store.conftest import AFFINE, put, voxels


def everything(store: str) -> str:
    """All that can be read of the store, as text: missing values equal themselves there."""
    radi = RadiObject(store)
    volumes = []
    for name in radi.collection_names:
        collection = radi.collection(name)
        for volume in collection:
            forget_array(volume.uri)
            volumes.append((volume.obs_id, volume.affine.tolist(), volume.to_numpy().tolist()))
    rows = [radi.collection(name).to_obs().astype(str).to_numpy().tolist() for name in radi.collection_names]
    subjects = radi.obs_meta.read().astype(str).to_numpy().tolist()
    return repr((radi.obs_subject_ids, volumes, rows, subjects))


def answer(store: str, requests: Connection) -> None:
    """In a process of its own: what can be read of the store, or None where an error says that it cannot."""
    while requests.recv():
        try:
            requests.send(everything(store))
        except (RadiObjectError, KeyError, ValueError):
            requests.send(None)


class Reader:
    """A child process that reads: libtiledb may end its process over damaged metadata of its own."""

    def __init__(self, store: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._requests, theirs = context.Pipe()
        self._process = context.Process(target=answer, args=(store, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def everything(self) -> object:
        self._requests.send(True)
        if not self._requests.poll(120):
            raise TimeoutError("a damaged store was read for two minutes")
        return self._requests.recv()

    def stop(self) -> None:
        self._process.kill()
        self._process.join()


def test_flipped_bytes_in_any_file_never_change_what_is_read(store: str) -> None:
    put(store, "ct", "s1", 1, modality="CT")
    put(store, "ct", "s2", 2, echo_time_ms=4.5)
    truth = everything(store)
    files = sorted(p for p in Path(store).rglob("*") if p.is_file() and p.stat().st_size)
    rng = np.random.default_rng(7)
    detected = ended = 0
    reader = Reader(store)
    for path in files:
        content = bytearray(path.read_bytes())
        for position in {0, len(content) - 1, *rng.integers(0, len(content), 4).tolist()}:
            damaged = content.copy()
            damaged[position] ^= 0x40
            path.write_bytes(bytes(damaged))
            try:
                seen = reader.everything()
                detected += seen is None
                assert seen in (None, truth), f"{path.relative_to(store)} byte {position} of {len(content)}"
            except (EOFError, ConnectionError):
                ended += 1
                reader.stop()
                reader = Reader(store)
            finally:
                path.write_bytes(bytes(content))
    reader.stop()
    assert detected > len(files)
    assert ended <= 2  # seldom, and never as data
    assert everything(store) == truth


def test_verify_names_the_damaged_volume_and_only_that(store: str) -> None:
    configure(tile=TileConfig(x=4, y=4, z=4))
    put(store, "ct", "s1", 1)
    put(store, "ct", "s2", 2)
    collection = RadiObject(store).ct
    good, bad = collection["s1_ct"], collection["s2_ct"]
    data = next(Path(bad.uri).glob("__fragments/*/a0.tdb"))
    content = bytearray(data.read_bytes())
    content[-1] ^= 1  # of compressed voxels
    data.write_bytes(bytes(content))
    problems = collection.verify()
    assert [p.token for p in problems] == [bad.uri.rsplit("/", 1)[-1]]
    assert "s2" not in str(problems[0])
    forget_array(bad.uri)
    with pytest.raises(RuntimeError, match=r"[Cc]hecksum"):
        bad.to_numpy()
    assert np.array_equal(good.to_numpy(stored=True), voxels(1))


def test_a_flipped_byte_in_a_file_of_rows_is_told_by_verify_also_where_they_were_read_before(
    store: str,
) -> None:
    put(store, "ct", "s1", 1)
    assert RadiObject(store).ct.verify() == []
    (path,) = Path(store).glob("collections/ct/obs/*.parquet")
    whole = path.read_bytes()
    for position in range(0, len(whole), 61):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match=r"damaged: it is not the file that was written"):
            RadiObject(store).ct.verify()
    path.unlink()
    with pytest.raises(StorageError, match="it is missing"):
        RadiObject(store).ct.verify()
    path.write_bytes(whole)
    assert RadiObject(store).ct.verify() == []


def test_an_array_in_place_of_another_is_found(store: str) -> None:
    put(store, "ct", "s1", 1)
    put(store, "ct", "s2", 2)
    collection = RadiObject(store).ct
    one, two = collection["s1_ct"].uri, collection["s2_ct"].uri
    shutil.rmtree(one)
    shutil.copytree(two, one)
    assert {p.code for p in collection.verify()} == {"id"}
    with pytest.raises(RuntimeError, match="another obs_id"):
        collection.validate()
    assert ensure_collection(store, "ct") == collection.uri
    assert np.array_equal(collection["s2_ct"].affine, AFFINE)


def test_checksums_are_verified_at_every_read_unless_switched_off(store: str) -> None:
    configure(write=WriteConfig(compression=CompressionConfig(algorithm=Compressor.NONE)))
    put(store, "ct", "s1", 1)
    volume = RadiObject(store).ct["s1_ct"]
    truth = volume.to_numpy(stored=True)
    data = next(Path(volume.uri).glob("__fragments/*/a0.tdb"))
    content = bytearray(data.read_bytes())
    content[-1] ^= 0x01  # a voxel itself: nothing but the checksum can tell
    data.write_bytes(bytes(content))
    with pytest.raises(StorageError, match=r"[Cc]hecksum"):
        volume.to_numpy()

    configure(read=ReadConfig(verify_checksums=False))
    volume = RadiObject(store).ct["s1_ct"]
    assert (volume.to_numpy(stored=True) != truth).sum() == 1
    assert not volume.verify()


def test_an_id_that_two_writers_gave_to_two_subjects_is_found(store: str) -> None:
    put(store, "ct", "s1", 1, obs_id="shared")
    put(store, "ct", "s3", 3)
    uri = ensure_collection(store, "ct")
    other = stage_volume(uri, obs_id="shared", obs_subject_id="s2", voxels=voxels(2))
    with pytest.raises(AlignmentError, match="another subject's volume"):
        commit_volumes(uri, [other])
    assert "s2" not in RadiObject(store).ct.obs_subject_ids
    Table(f"{uri}/obs", get_tiledb_ctx()).upsert(obs_rows([other]))  # as a program that does not look can
    collection = RadiObject(store).ct
    found = collection.verify()
    assert [problem.code for problem in found] == ["id", "id"]
    assert "more than one subject" in str(found[0])
    assert "s1" not in str(found[0])  # ids of patients are not repeated
    with pytest.raises(AlignmentError, match="more than one subject"):
        collection.validate()
    with pytest.raises(AlignmentError, match="more than one subject"):
        collection["shared"]


def test_a_writer_refuses_an_id_of_another_subject(store: str) -> None:
    put(store, "ct", "s1", 1)
    with VolumeCollectionWriter(ensure_collection(store, "ct")) as writer:
        with pytest.raises(AlignmentError, match="another subject"):
            writer.write_volume(voxels(2), obs_id="s1_ct", obs_subject_id="s2")
        writer.write_volume(voxels(3), obs_id="s1_ct", obs_subject_id="s1")  # the same one, written anew
    assert RadiObject(store).ct.verify() == []


def test_a_flipped_byte_in_what_tiledb_parses_of_a_volume_is_found_by_verify(store: str) -> None:
    put(store, "ct", "s1", 1)
    (volume,) = RadiObject(store).ct
    folder = Path(volume.uri)
    names = ("__schema/*", "__fragments/*/__fragment_metadata.tdb", "__meta/*", "tiles.index")
    files = [path for name in names for path in folder.glob(name) if path.is_file()]
    assert len(files) == len(names)
    for path in files:
        whole = path.read_bytes()
        for place in (0, len(whole) // 3, len(whole) // 2, len(whole) - 1):
            damaged = bytearray(whole)
            damaged[place] ^= 0x10
            path.write_bytes(damaged)
            forget_array(volume.uri)
            (problem,) = RadiObject(store).ct.verify()
            assert problem.code == ("unreadable" if path.name == "tiles.index" else "files")
            if problem.code == "files":
                with pytest.raises(StorageError, match="not what was written"):
                    Volume(volume.uri)
        path.unlink()
        forget_array(volume.uri)
        assert RadiObject(store).ct.verify() != [] or path.name == "tiles.index"
        path.write_bytes(whole)
    forget_array(volume.uri)
    assert RadiObject(store).ct.verify() == []
