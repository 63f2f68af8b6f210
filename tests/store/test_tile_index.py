"""Reads through a tile index give what TileDB gives, and damage is found before anything is decoded."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiledb
import xxhash
import zstandard
from hypothesis import given, settings, strategies as st

from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    CompressionConfig,
    Compressor,
    RadiObject,
    ReadConfig,
    TileConfig,
    TileDBStats,
    Volume,
    commit_volumes,
    configure,
    delete_subjects,
    ensure_collection,
    stage_volume,
)
from radiobject_assets.store.arrays.array_files import MAX_KEPT_OPEN
from radiobject_assets.store.arrays.block_reader import BlockReader
from radiobject_assets.store.arrays.reader_cache import READERS, open_reader
from radiobject_assets.store.arrays.tile_cache import forget_array
from radiobject_assets.store.arrays.writing import write_index
from radiobject_assets.store.blocks.chunks import build_index
from radiobject_assets.store.blocks.index import DATA_FILE, INDEX_NAME, TileIndex
from radiobject_assets.store.blocks.regions import Region
from tests.store.conftest import put, voxels

DTYPES = ("int8", "uint8", "bool", "int16", "uint16", "float16", "int32", "float32", "float64", "uint64")


def index_of(volume: Volume) -> TileIndex | None:
    """The index through which a volume is read here."""
    reader = READERS.get(volume.uri, volume._ctx.get())
    return reader.index if isinstance(reader, BlockReader) else None


def in_layers(folder: Path, content: Any) -> None:
    """Make the array in `folder` one of several fragments, a layer of tiles each, as other writers may."""
    decoded = TileIndex.decode((folder / INDEX_NAME).read_bytes())
    for part in ("__fragments", "__commits"):
        shutil.rmtree(folder / part)
    names = []
    for z in range(0, content.shape[2], decoded.layout.tile[2]):
        with tiledb.open(str(folder), "w") as array:
            layer = slice(z, z + decoded.layout.tile[2])
            array[:, :, layer] = content[:, :, layer]
        (made,) = {path.name for path in (folder / "__fragments").iterdir()} - set(names)
        names.append(made)
    files = []
    for name in map(DATA_FILE.format, names):
        stored = (folder / name).read_bytes()
        files.append((name, len(stored), lambda at, size, stored=stored: stored[at : at + size]))
    write_index(folder, build_index(decoded.layout, files, {}))
    forget_array(str(folder))


@st.composite
def arrays_and_regions(draw: st.DrawFn) -> tuple[dict[str, Any], list[tuple[list[int], list[int]]]]:
    """An array's description, and regions of it."""
    ndim = draw(st.sampled_from([3, 3, 4]))
    shape = tuple(draw(st.integers(1, most)) for most in (70, 40, 30, 4)[:ndim])
    extents = [draw(st.none() | st.integers(1, 64)) for _ in range(3)]
    made = {
        "shape": shape,
        "dtype": draw(st.sampled_from(DTYPES)),
        "tile": TileConfig(x=extents[0], y=extents[1], z=extents[2], t=draw(st.integers(1, 3))),
        "compression": CompressionConfig(algorithm=draw(st.sampled_from(list(Compressor)))),
        "noise": draw(st.sampled_from([1, 90, 60_000])),
        "slab_bytes": draw(st.sampled_from([None, 1])),
    }
    regions = []
    for _ in range(4):
        start = [draw(st.integers(0, size - 1)) for size in shape]
        regions.append((start, [draw(st.integers(1, n - s)) for s, n in zip(start, shape, strict=True)]))
    return made, [*regions, ([0] * ndim, list(shape))]


@settings(max_examples=15, deadline=None)
@given(arrays_and_regions())
def test_any_region_of_any_array_is_what_tiledb_reads(
    case: tuple[dict[str, Any], list[tuple[list[int], list[int]]]],
) -> None:
    made, regions = case
    configure(read=ReadConfig(tile_cache_size_mb=0))
    rng = np.random.default_rng(0)
    content = rng.integers(0, made["noise"], made["shape"]).astype(made["dtype"])
    several = made["slab_bytes"] is not None and made["tile"].t == 1
    with tempfile.TemporaryDirectory() as folder:
        staged = stage_volume(
            folder,
            obs_id="a",
            obs_subject_id="a",
            voxels=content,
            tile=made["tile"],
            compression=made["compression"],
            buffer_bytes=1 if several else None,  # a layer of tiles at once
        )
        volume = Volume(f"{folder}/volumes/{staged.token}")
        assert index_of(volume) is not None
        for start, size in regions:
            found = volume.read_box(start, size)
            assert found.dtype == content.dtype
            assert found.flags.f_contiguous
            wanted = content[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))]
            assert np.array_equal(found, wanted)
            by_tiledb = open_reader(volume.uri, volume._ctx.get(), None, "tiledb")
            out = np.empty(size, by_tiledb.dtype, order="F")
            by_tiledb.read(Region(tuple(start), tuple(size)), out)
            assert np.array_equal(out.view(content.dtype), wanted)
        assert volume.verify()


def test_the_file_is_what_the_format_says(tmp_path: Path) -> None:
    content = voxels(4, (40, 30, 20), "uint16")
    volume = Volume.from_numpy(tmp_path / "v", content, tile=TileConfig(x=16, y=16, z=16))
    kept = (tmp_path / "v" / "tiles.index").read_bytes()
    assert kept[:8] == b"RADTILES"
    at = 12 + int.from_bytes(kept[8:12], "little")
    said = json.loads(kept[12:at])
    assert (said["version"], said["shape"], said["tile"]) == (1, [40, 30, 20], [16, 16, 16])
    assert (said["dtype"], said["codec"]) == ("uint16", "zstd")
    ((name, nbytes, blocks),) = said["files"]
    data = (tmp_path / "v" / name).read_bytes()
    assert (len(data), blocks) == (nbytes, 3 * 2 * 2)
    assert len(kept) == at + 20 * blocks + 16
    assert kept[-16:].hex() == xxhash.xxh3_128_hexdigest(kept[:-16])
    number = 2 + 3 * (1 + 2 * 0)  # tile (2, 1, 0)
    offset = int.from_bytes(kept[at + 8 * number : at + 8 * number + 8], "little")
    at += 8 * blocks
    size = int.from_bytes(kept[at + 4 * number : at + 4 * number + 4], "little")
    at += 4 * blocks
    assert int.from_bytes(kept[at + 8 * number : at + 8 * number + 8], "little") == xxhash.xxh3_64_intdigest(
        data[offset : offset + size]
    )
    planes = np.frombuffer(zstandard.decompress(data[offset : offset + size]), np.uint8).reshape(2, 4096)
    tile = (planes[0] + 256 * planes[1].astype(np.uint16)).reshape((16, 16, 16), order="F")
    assert np.array_equal(tile[:8, :14, :16], content[32:40, 16:30, 0:16])
    assert volume.verify()


@pytest.fixture
def large(tmp_path: Path) -> tuple[Volume, np.ndarray]:
    """A volume of many blocks, and its voxels."""
    content = voxels(5, (150, 100, 64))  # the last block has voxels of the array
    return Volume.from_numpy(tmp_path / "v", content), content


def test_every_flipped_byte_of_the_stored_blocks_is_an_error_of_the_region_that_needs_it(
    large: tuple[Volume, np.ndarray],
) -> None:
    volume, content = large
    configure(read=ReadConfig(tile_cache_size_mb=0))
    index = index_of(volume)
    assert index is not None
    data = Path(volume.uri) / index.files[0].name
    stored = data.read_bytes()
    for block in (0, len(index.offsets) // 2, len(index.offsets) - 1):
        for place in (0, int(index.sizes[block]) - 1, int(index.sizes[block]) // 2):
            damaged = bytearray(stored)
            damaged[int(index.offsets[block]) + place] ^= 0x10
            data.write_bytes(damaged)
            forget_array(volume.uri)
            with pytest.raises(StorageError, match=r"[Cc]hecksum"):
                volume.to_numpy()
    data.write_bytes(stored)
    assert np.array_equal(volume[1:40, 2:30, 3:60], content[1:40, 2:30, 3:60])


def test_a_data_file_that_lost_its_end_is_an_error(large: tuple[Volume, np.ndarray]) -> None:
    volume, content = large
    index = index_of(volume)
    assert index is not None
    data = Path(volume.uri) / index.files[0].name
    os.truncate(data, data.stat().st_size - 7)
    with pytest.raises(StorageError, match="shorter"):
        volume.to_numpy()
    assert np.array_equal(volume[:20, :20, :20], content[:20, :20, :20])
    with pytest.raises(StorageError):
        volume.verify()


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "of another version"])
def test_a_damaged_index_is_found_by_verify_and_never_used(
    large: tuple[Volume, np.ndarray], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    volume, content = large
    path = Path(volume.uri) / INDEX_NAME
    whole = path.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 40)):
        changed = bytearray(whole)
        changed[position] ^= 0x04
        contents = {"flipped": bytes(changed), "cut": whole[:position], "empty": b""}
        path.write_bytes(contents.get(damage, whole.replace(b'"version":1', b'"version":7')))
        forget_array(volume.uri)
        assert index_of(volume) is None
    assert np.array_equal(volume.to_numpy(), content)
    assert not volume.verify()
    assert "verify" in caplog.text
    path.write_bytes(whole)
    forget_array(volume.uri)
    assert volume.verify()


def test_an_index_of_another_array_is_found_by_verify(tmp_path: Path) -> None:
    one = Volume.from_numpy(tmp_path / "one", voxels(1, (40, 30, 20)))
    two = Volume.from_numpy(tmp_path / "two", voxels(2, (40, 30, 20)))
    shutil.copy(Path(one.uri) / INDEX_NAME, Path(two.uri) / INDEX_NAME)
    assert not two.verify()
    assert np.array_equal(Volume(two.uri).to_numpy(), voxels(2, (40, 30, 20)))


def test_an_array_without_an_index_is_read_by_tiledb(large: tuple[Volume, np.ndarray]) -> None:
    volume, content = large
    (Path(volume.uri) / INDEX_NAME).unlink()
    forget_array(volume.uri)
    assert index_of(volume) is None
    assert np.array_equal(volume[3:140:2, -50:, 7], content[3:140:2, -50:, 7])
    assert volume.verify()


def test_an_array_that_another_program_wrote_to_is_read_as_it_is(
    large: tuple[Volume, np.ndarray],
) -> None:
    volume, content = large
    with tiledb.open(volume.uri, "w") as array:
        array[0:64, 0:64, 0:32] = np.full((64, 64, 32), 7, content.dtype)
    changed = content.copy()
    changed[0:64, 0:64, 0:32] = 7
    assert np.array_equal(Volume(volume.uri).to_numpy(), changed)


def test_an_index_is_removed_with_its_volume(store: str) -> None:
    put(store, "ct", "leaves", 1)
    put(store, "ct", "stays", 2)
    assert len(list(Path(store).rglob(INDEX_NAME))) == 2
    delete_subjects(store, ["leaves"])
    (left,) = Path(store).rglob(INDEX_NAME)
    assert left.parent == Path(RadiObject(store).ct["stays_ct"].uri)


def test_nothing_but_the_blocks_that_a_region_needs_is_read_and_counted(tmp_path: Path) -> None:
    configure(read=ReadConfig(tile_cache_size_mb=0))
    volume = Volume.from_numpy(tmp_path / "v", voxels(5, (128, 128, 64)), tile=TileConfig(x=64, y=64, z=32))
    with TileDBStats() as stats:
        volume[0:10, 70:80, 33:35]
    assert stats.cache_stats().tile_bytes_read == 64 * 64 * 8 * 2
    assert 0 < stats.cache_stats().vfs_read_bytes < 64 * 64 * 8 * 2
    assert stats.s3_stats().read_ops == 1
    assert stats.cache_stats().cache_misses == 1


def _read_in_child(volume: Volume, answer: Any) -> None:
    answer.send(volume[5:100, 6:90, 7:60].tobytes())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_on_after_this_one_has_read(
    large: tuple[Volume, np.ndarray], method: str
) -> None:
    volume, content = large
    expected = content[5:100, 6:90, 7:60]
    assert np.array_equal(volume[5:100, 6:90, 7:60], expected)
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=_read_in_child, args=(volume, there))
    process.start()
    assert here.poll(60)
    assert here.recv() == volume[5:100, 6:90, 7:60].tobytes()
    process.join(60)
    assert np.array_equal(pickle.loads(pickle.dumps(volume))[5:100, 6:90, 7:60], expected)


def test_many_threads_read_one_volume_while_its_index_is_forgotten(large: tuple[Volume, np.ndarray]) -> None:
    volume, content = large
    configure(read=ReadConfig(tile_cache_size_mb=0, concurrency=4))
    rng = np.random.default_rng(1)

    def read(number: int) -> bool:
        start = [int(value) for value in rng.integers(0, 40, 3)]
        if number % 7 == 0:
            forget_array(volume.uri)
        part = tuple(slice(s, s + 30) for s in start)
        return np.array_equal(volume[part], content[part])

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(read, range(60)))


def test_a_volume_in_several_fragments_has_one_index(store: str) -> None:
    content = voxels(3, (64, 40, 96))
    uri = ensure_collection(store, "ct")
    staged = stage_volume(uri, obs_id="a", obs_subject_id="a", voxels=content)
    in_layers(Path(uri, "volumes", staged.token), content)
    volume = Volume(f"{uri}/volumes/{staged.token}")
    index = index_of(volume)
    assert index is not None
    assert len(index.files) == 3
    assert np.array_equal(volume[10:60, 5:30, 20:80], content[10:60, 5:30, 20:80])


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="nothing lists this process's open files")
def test_a_volume_in_many_files_holds_few_of_them_open(store: str) -> None:
    uri = ensure_collection(store, "ct")
    content = voxels(2, (5, 4, 24))
    tile = TileConfig(x=4, y=4, z=2)
    staged = stage_volume(uri, obs_id="a", obs_subject_id="a", voxels=content, tile=tile)
    folder = Path(uri) / "volumes" / staged.token
    in_layers(folder, content)
    assert len(list(folder.glob("__fragments/*"))) == 12
    volume = Volume(str(folder))
    assert np.array_equal(volume.to_numpy(), content)
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert 0 < sum(link.startswith(str(folder)) for link in links) <= MAX_KEPT_OPEN


@pytest.mark.parametrize("said", [(7, 6, 9), (7, 6, 5, 1)])
def test_a_row_that_says_another_shape_than_its_array_has_is_an_error(
    store: str, said: tuple[int, ...]
) -> None:
    uri = ensure_collection(store, "ct")
    staged = stage_volume(uri, obs_id="a", obs_subject_id="a", voxels=voxels(2))
    commit_volumes(uri, [replace(staged, shape=said)])
    volume = RadiObject(store).ct["a"]
    with pytest.raises(StorageError, match=r"shape|dimensions"):
        volume.to_numpy()
    with pytest.raises(StorageError, match=r"shape|dimensions"):
        volume[:2, 0, -1]
