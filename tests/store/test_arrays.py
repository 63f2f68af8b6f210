"""Both readers and both writers of voxels: the same arrays, and the same answers to damage."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
import tiledb
from hypothesis import given, settings, strategies as st

from radiobject_assets.errors import StorageError
from radiobject_assets.store import ReadConfig, TileConfig, configure, stage_volume
from radiobject_assets.store.arrays.block_reader import BlockReader
from radiobject_assets.store.arrays.reader_cache import open_reader
from radiobject_assets.store.arrays.tiledb_array import TileDBReader
from radiobject_assets.store.blocks.decoding import decode
from radiobject_assets.store.blocks.index import INDEX_NAME, TileIndex, index_digest_of
from radiobject_assets.store.blocks.regions import Region
from radiobject_assets.store.blocks.tile_layout import TileLayout
from radiobject_assets.store.format.staging import StagedVolume
from radiobject_assets.store.storage.config import CompressionConfig, Compressor
from radiobject_assets.store.storage.context import get_tiledb_ctx
from tests.store.conftest import voxels

Way = Literal["fast", "tiledb"]
WAYS: tuple[Way, ...] = ("fast", "tiledb")
SHAPE = (90, 70, 40)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Who reads."""
    chosen: Way = request.param
    return chosen


@pytest.fixture(params=WAYS)
def written_by(request: pytest.FixtureRequest) -> Way:
    """Who writes."""
    chosen: Way = request.param
    return chosen


def stage(folder: Path, content: np.ndarray, by: Way = "fast", **options: Any) -> tuple[str, StagedVolume]:
    configure(voxels=by, read=ReadConfig(tile_cache_size_mb=0))
    staged = stage_volume(str(folder), obs_id="one", obs_subject_id="ada", voxels=content, **options)
    return f"{folder}/volumes/{staged.token}", staged


def read(uri: str, way: Way, digest: str | None, region: Region | None = None) -> np.ndarray:
    reader = open_reader(uri, get_tiledb_ctx(), digest, way)
    region = region or Region((0,) * len(reader.shape), reader.shape)
    out = np.empty(region.size, reader.dtype, order="F")
    reader.read(region, out)
    return out


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_both_writers_leave_arrays_that_both_readers_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    shape = tuple(data.draw(st.integers(1, most)) for most in (50, 40, 30, 3)[: data.draw(st.integers(3, 4))])
    dtype = data.draw(st.sampled_from(["uint8", "int16", "float32", "float64"]))
    tile = TileConfig(x=data.draw(st.integers(4, 40)), y=16, z=data.draw(st.integers(1, 12)))
    compression = CompressionConfig(algorithm=data.draw(st.sampled_from(list(Compressor))))
    content = np.random.default_rng(0).integers(0, 90, shape).astype(dtype)
    buffer = data.draw(st.sampled_from([1, None]))
    for by in WAYS:
        folder = tmp_path_factory.mktemp("written")
        uri, staged = stage(folder, content, by, tile=tile, compression=compression, buffer_bytes=buffer)
        assert staged.index_digest == index_digest_of((Path(uri) / INDEX_NAME).read_bytes())
        for way in WAYS:
            assert np.array_equal(read(uri, way, staged.index_digest), content)
            start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
            part = Region(start, tuple(n - s for s, n in zip(start, shape, strict=True)))
            wanted = content[tuple(slice(s, None) for s in start)]
            assert np.array_equal(read(uri, way, None, part), wanted)


def test_the_setting_chooses_and_a_format_that_is_not_known_is_left_to_tiledb(tmp_path: Path) -> None:
    uri, staged = stage(tmp_path, voxels(1, SHAPE))
    ctx = get_tiledb_ctx()
    assert isinstance(open_reader(uri, ctx, staged.index_digest, "fast"), BlockReader)
    assert isinstance(open_reader(uri, ctx, staged.index_digest, "tiledb"), TileDBReader)
    index = Path(uri) / INDEX_NAME
    decoded = TileIndex.decode(index.read_bytes())
    (name,) = (Path(uri) / "__fragments").iterdir()
    later = name.name.removesuffix("22") + "23"
    os.rename(name, name.with_name(later))
    os.rename(Path(uri, "__commits", f"{name.name}.wrt"), Path(uri, "__commits", f"{later}.wrt"))
    index.write_bytes(decoded.encode().replace(name.name.encode(), later.encode())[:-16])
    content = index.read_bytes()
    index.write_bytes(content + bytes.fromhex(index_digest_of(content).removeprefix("xxh3-128:")))
    assert isinstance(open_reader(uri, ctx, None, "fast"), TileDBReader)


def test_every_damage_to_any_file_is_told_or_without_effect(
    tmp_path: Path, way: Way, written_by: Way
) -> None:
    content = voxels(1, SHAPE)
    uri, staged = stage(tmp_path / "one", content, written_by)
    other, _ = stage(tmp_path / "two", voxels(2, SHAPE), written_by)
    files = sorted(path for path in Path(uri).rglob("*") if path.is_file())
    theirs = sorted(path for path in Path(other).rglob("*") if path.is_file())
    told = 0
    rng = np.random.default_rng(3)
    for path, foreign in zip(files, theirs, strict=True):
        whole = path.read_bytes()
        flipped, zeroed = bytearray(whole), bytearray(whole)
        if whole:
            flipped[int(rng.integers(len(whole)))] ^= 0x40
            at = int(rng.integers(len(whole))) // 4096 * 4096
            zeroed[at : at + 4096] = bytes(len(zeroed[at : at + 4096]))
        for damaged in (bytes(flipped), bytes(zeroed), whole[: len(whole) // 2], foreign.read_bytes(), None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            try:
                assert np.array_equal(read(uri, way, staged.index_digest), content)
            except StorageError:
                told += 1
            path.unlink(missing_ok=True)
            path.write_bytes(whole)
    assert told >= 8  # of the voxels and of the index, whoever reads
    assert np.array_equal(read(uri, way, staged.index_digest), content)


def test_an_array_in_place_of_another_is_told_by_what_its_row_pins(tmp_path: Path, way: Way) -> None:
    uri, staged = stage(tmp_path / "one", voxels(1, SHAPE))
    other, _ = stage(tmp_path / "two", voxels(2, SHAPE))
    shutil.rmtree(uri)
    shutil.copytree(other, uri)
    with pytest.raises(StorageError, match="damaged or exchanged"):
        read(uri, way, staged.index_digest)
    (Path(uri) / INDEX_NAME).unlink()
    with pytest.raises(StorageError, match="index is gone"):
        read(uri, way, staged.index_digest)


def test_voxels_of_another_array_without_checksums_of_their_own_are_told(tmp_path: Path, way: Way) -> None:
    plain = CompressionConfig(algorithm=Compressor.NONE)
    uri, staged = stage(tmp_path / "one", voxels(1, SHAPE), compression=plain)
    other, _ = stage(tmp_path / "two", voxels(2, SHAPE), compression=plain)
    (mine,), (theirs,) = (list(Path(place).glob("__fragments/*/a0.tdb")) for place in (uri, other))
    shutil.copy(theirs, mine)  # sound for TileDB, whose checksums are of each tile alone
    with pytest.raises(StorageError, match="Checksum"):
        read(uri, way, staged.index_digest, Region((3, 4, 5), (20, 20, 20)))


WRITER = """
import os, signal, sys
import numpy as np
from radiobject_assets.store import configure, stage_volume
configure(voxels=sys.argv[2])
def slabs():
    yield 0, 0, np.ones((64, 64, 32), np.int16)
    yield 32, 0, np.ones((64, 64, 32), np.int16)
    os.kill(os.getpid(), signal.SIGKILL)
    yield 64, 0, np.ones((64, 64, 32), np.int16)
stage_volume(sys.argv[1], obs_id="one", obs_subject_id="ada", shape=(64, 64, 96), dtype="int16",
             slabs=slabs(), buffer_bytes=1)
"""


def test_what_a_killed_writer_leaves_says_whose_it_is(tmp_path: Path, written_by: Way) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), written_by]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "volumes").iterdir()
    assert list(left.glob("__fragments/*/a0.tdb"))
    assert not (left / INDEX_NAME).exists()
    with tiledb.open(str(left)) as array:
        assert '"obs_subject_id": "ada"' in array.meta["radiobject_assets"]


def test_a_block_that_compression_left_as_long_as_it_was_is_decoded() -> None:
    layout = TileLayout((8, 8, 16), (8, 8, 8), "uint8", "lz4")
    rng = np.random.default_rng(0)
    for zeros in range(200):
        plain = rng.integers(0, 256, 512, dtype=np.uint8)
        plain[: zeros // 4] = 0
        packed = pa.compress(plain.tobytes(), codec="lz4_raw", asbytes=True)
        if len(packed) == plain.size:
            break
    assert len(packed) == plain.size
    out = np.empty(1024, np.uint8)
    decode(layout, [memoryview(packed)] * 2, [512, 512], out)
    assert np.array_equal(out, np.tile(plain, 2))
