"""Fragments that the store writes itself are those that TileDB would have written."""

from __future__ import annotations

import math
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiledb
from hypothesis import HealthCheck, given, settings, strategies as st
from numpy.typing import NDArray

from radiobject_assets.store import Volume
from radiobject_assets.store.arrays.block_writer import BlockWriter
from radiobject_assets.store.arrays.tiledb_array import ATTRIBUTE, create_array
from radiobject_assets.store.arrays.voxels import Chunk
from radiobject_assets.store.blocks.index import DATA_FILE
from radiobject_assets.store.blocks.tile_layout import TileLayout
from radiobject_assets.store.storage.config import CompressionConfig, Compressor, TileConfig

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


def values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray[Any]:
    """Voxels of any dtype whose sums are exact in any order."""
    rng = np.random.default_rng(seed)
    low = 0 if np.dtype(dtype).kind == "u" else -100
    return np.asfortranarray(rng.integers(low, 100, shape).astype(dtype))


def by_tiledb(
    folder: Path, voxels: NDArray[Any], tile: TileConfig, compression: CompressionConfig
) -> TileLayout:
    """Write `voxels` with TileDB into a new array with the store's schema."""
    ctx = tiledb.Ctx()
    layout = create_array(str(folder), voxels.shape, voxels.dtype, tile, compression, ctx)
    assert layout is not None
    with tiledb.open(str(folder), "w", ctx=ctx) as array:
        array[:] = voxels
    return layout


def by_us(folder: Path, voxels: NDArray[Any], tile: TileConfig, compression: CompressionConfig) -> None:
    layout = create_array(str(folder), voxels.shape, voxels.dtype, tile, compression, tiledb.Ctx())
    assert layout is not None
    with BlockWriter(folder, layout, compression.level, threads=2) as writer:
        writer.write(Chunk((0,) * voxels.ndim, voxels))
        writer.finish()


def files_of(folder: Path) -> tuple[bytes, list[bytes]]:
    """Data of an array's one fragment, and the tables of its metadata, the footer without names."""
    (name,) = (path.name for path in (folder / "__fragments").iterdir())
    assert (folder / "__commits" / f"{name}.wrt").is_file()
    data = (folder / DATA_FILE.format(name)).read_bytes()
    content = (folder / "__fragments" / name / "__fragment_metadata.tdb").read_bytes()
    (length,) = struct.unpack("<Q", content[-8:])
    footer = content[-8 - length :]
    tables, at = [], 0
    while at < len(content) - len(footer):
        _, persisted, size, *_, filters = struct.unpack_from("<IQQBQBI", content, at)
        at += 34 + filters
        chunks, table = struct.unpack_from("<Q", content, at)[0], b""
        position = at + 8
        for _ in range(chunks):
            _, packed, notes = struct.unpack_from("<III", content, position)
            position += 12 + notes + packed
            table += zlib.decompress(content[position - packed : position])
        at += persisted
        assert position == at
        assert len(table) == size
        tables.append(table)
    (name_length,) = struct.unpack_from("<Q", footer, 4)
    return data, [*tables, footer[12 + name_length :]]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(1, 40), min_size=3, max_size=4),
    tile=st.tuples(*[st.integers(1, 40)] * 3),
    thick=st.integers(1, 3),
    dtype=st.sampled_from(DTYPES),
    algorithm=st.sampled_from([Compressor.ZSTD, Compressor.LZ4, Compressor.GZIP, Compressor.NONE]),
    level=st.sampled_from([-1, 1, 2, 5]),  # 0 of gzip: as many stored blocks as fit a buffer
    seed=st.integers(0, 3),
)
def test_every_byte_is_that_of_tiledbs_own_writer(
    tmp_path_factory: pytest.TempPathFactory,
    shape: list[int],
    tile: tuple[int, int, int],
    thick: int,
    dtype: str,
    algorithm: Compressor,
    level: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("fragment")
    voxels = values(tuple(shape[:3]) + tuple(min(n, 3) for n in shape[3:]), dtype, seed)
    cut = TileConfig(x=tile[0], y=tile[1], z=tile[2], t=thick)
    extents = cut.extents_for_shape(voxels.shape)
    if math.prod(-(-n // e) for n, e in zip(voxels.shape, extents, strict=True)) > 500:
        cut = TileConfig(x=16, y=16, z=16)
    compression = CompressionConfig(algorithm=algorithm, level=level)
    by_tiledb(folder / "theirs", voxels, cut, compression)
    by_us(folder / "ours", voxels, cut, compression)
    assert files_of(folder / "ours") == files_of(folder / "theirs")
    with tiledb.open(str(folder / "ours")) as array:
        assert np.array_equal(array[:][ATTRIBUTE], voxels)


def test_a_fragment_of_many_chunks_is_that_of_one_write(tmp_path: Path) -> None:
    voxels = values((70, 50, 40, 2), "int16")
    cut, compression = TileConfig(x=32, y=32, z=16), CompressionConfig()
    layout = by_tiledb(tmp_path / "theirs", voxels, cut, compression)
    create_array(str(tmp_path / "ours"), voxels.shape, voxels.dtype, cut, compression, tiledb.Ctx())
    with BlockWriter(tmp_path / "ours", layout, compression.level, threads=3) as writer:
        for t in range(2):
            for z in range(0, 40, 16):
                writer.write(Chunk((0, 0, z, t), voxels[:, :, z : z + 16, t : t + 1]))
        writer.finish()
    assert files_of(tmp_path / "ours") == files_of(tmp_path / "theirs")


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_sums_beyond_64_bits_stay_at_the_limit(tmp_path: Path, dtype: str) -> None:
    limits = np.iinfo(dtype)
    for fill in (limits.min, limits.max):
        voxels = np.full((20, 20, 20), fill, dtype, order="F")
        name = str(fill)
        by_tiledb(tmp_path / name / "theirs", voxels, TileConfig(), CompressionConfig())
        by_us(tmp_path / name / "ours", voxels, TileConfig(), CompressionConfig())
        assert files_of(tmp_path / name / "ours")[1] == files_of(tmp_path / name / "theirs")[1]


def test_tiledb_aggregates_and_consolidates_what_was_written(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(0, 50, (60, 50, 40)).astype(np.float32)
    voxels[3, 4, 5] = np.nan
    uri = str(tmp_path / "volume")
    Volume.from_numpy(uri, voxels, tile=TileConfig(x=32, y=32, z=32))
    with tiledb.open(uri) as array:
        told = array.query().agg({ATTRIBUTE: ["min", "max"]})[:, :, :]
        part = array.query().agg("sum")[0:32, 0:32, 6:20]
    assert told["min"] == np.nanmin(voxels)
    assert told["max"] == np.nanmax(voxels)
    assert part == pytest.approx(voxels[0:32, 0:32, 6:20].sum(dtype=np.float64), rel=1e-9)
    with tiledb.open(uri, "w") as array:
        array[0:10, 0:10, 0:10] = np.ones((10, 10, 10), np.float32)
    tiledb.consolidate(uri)
    tiledb.vacuum(uri)
    voxels[0:10, 0:10, 0:10] = 1
    with tiledb.open(uri) as array:
        assert np.array_equal(array[:][ATTRIBUTE], voxels, equal_nan=True)
    assert len(tiledb.array_fragments(uri)) == 1


def test_tiledb_finds_a_flipped_bit_anywhere_in_the_voxels(tmp_path: Path) -> None:
    voxels = values((40, 40, 40), "int16")
    by_us(tmp_path / "array", voxels, TileConfig(x=32, y=32, z=32), CompressionConfig())
    (data,) = (tmp_path / "array").glob("__fragments/*/a0.tdb")
    sound = data.read_bytes()
    with tiledb.open(str(tmp_path / "array")) as array:
        for at in np.random.default_rng(1).integers(0, len(sound), 40):
            damaged = bytearray(sound)
            damaged[at] ^= 0x10
            data.write_bytes(damaged)
            try:
                read = array[:][ATTRIBUTE]
            except tiledb.TileDBError:
                continue
            assert np.array_equal(read, voxels)  # what is not voxels may be flipped, but never unseen


def test_no_fragment_appears_where_writing_ended_in_the_middle(tmp_path: Path) -> None:
    voxels = values((64, 64, 64), "int16")
    cut, compression = TileConfig(x=32, y=32, z=32), CompressionConfig()
    layout = create_array(str(tmp_path / "a"), voxels.shape, voxels.dtype, cut, compression, tiledb.Ctx())
    assert layout is not None
    before = threading.active_count()
    with BlockWriter(tmp_path / "a", layout, 1, 2) as writer:
        writer.write(Chunk((0, 0, 0), voxels[:, :, :32]))  # and never `finish`
    assert threading.active_count() == before
    with tiledb.open(str(tmp_path / "a")) as array:
        assert not array[:][ATTRIBUTE].any()
    assert len(tiledb.array_fragments(str(tmp_path / "a"))) == 0
