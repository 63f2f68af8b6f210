"""How an array lies in storage, what a read of it takes, and what another codec would make of its blocks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from zstandard import ZstdCompressor

from radiobject_assets.store.arrays.block_reader import BlockReader
from radiobject_assets.store.arrays.doors import VoxelReader
from radiobject_assets.store.blocks.decoding import decode
from radiobject_assets.store.blocks.regions import Region, plan_region
from radiobject_assets.store.blocks.tile_layout import TileLayout

# About 4 MB of voxels, and 10 ms to decode them.
_TRIAL_BLOCKS = 64
_REPEATS = 5


@dataclass(frozen=True)
class StoredLayout:
    """How an array lies in storage."""

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    """Extents in voxels."""
    dtype: str
    """Of what carries the voxels."""
    codec: str
    """`zstd`, `lz4`, `gzip` or `none`; empty where TileDB alone knows."""
    files: int
    """That hold voxels; 0 where TileDB alone knows."""
    stored_bytes: int
    """Of these."""
    indexed: bool
    """Whether it has a tile index, without which TileDB reads it."""

    @property
    def voxel_bytes(self) -> int:
        """Of all voxels in memory."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def decoded_bytes(self, start: Sequence[int], size: Sequence[int]) -> int:
        """Bytes of voxels that have to be decoded for a region: those of all blocks that it touches."""
        layout = TileLayout(self.shape, self.tile, self.dtype, self.codec or "zstd")
        return sum(plan_region(layout, Region(tuple(start), tuple(size))).sizes)


@dataclass(frozen=True)
class CodecTrial:
    """The same blocks under a codec."""

    stored_bytes: int
    voxel_bytes: int
    decode_cpu_s: float
    """CPU seconds to decode them once, least of several."""


def layout_of(reader: VoxelReader) -> StoredLayout:
    """How the array of a reader lies in storage."""
    blocks = _blocks_of(reader)
    if blocks is None:
        return StoredLayout(reader.shape, reader.tile, reader.dtype.name, "", 0, 0, indexed=False)
    index = blocks.index
    nbytes = sum(file.nbytes for file in index.files)
    codec, files = index.layout.codec, len(index.files)
    return StoredLayout(reader.shape, reader.tile, reader.dtype.name, codec, files, nbytes, indexed=True)


def codec_trials(reader: VoxelReader) -> dict[str, CodecTrial]:
    """Some of an array's own blocks, as they are stored and as `zstd` (level 1) and `lz4` would store them.

    Decoded in turns, in CPU seconds of this thread, so that a busy machine is the same to all of them. Empty
    where the array has no index.
    """
    blocks = _blocks_of(reader)
    if blocks is None:
        return {}
    stored, sizes = blocks.sample(_TRIAL_BLOCKS)
    own = blocks.index.layout
    plain = np.empty(sum(sizes), np.uint8)
    decode(own, stored, sizes, plain)
    candidates = {own.codec: (own, stored)}
    for codec in ("zstd", "lz4"):
        layout = TileLayout(own.shape, own.tile, own.dtype, codec)
        # As they are stored they may have another level: a trial under the codec's own name is what is there.
        candidates.setdefault(codec, (layout, _encoded(layout, plain, sizes)))
    taken: dict[str, float] = dict.fromkeys(candidates, math.inf)
    for _ in range(_REPEATS):
        for name, (layout, contents) in candidates.items():
            began = time.thread_time()
            decode(layout, contents, sizes, plain)
            taken[name] = min(taken[name], time.thread_time() - began)
    return {
        name: CodecTrial(sum(map(len, contents)), sum(sizes), taken[name])
        for name, (_, contents) in candidates.items()
    }


def _encoded(layout: TileLayout, plain: np.ndarray, sizes: Sequence[int]) -> list[memoryview]:
    compressor = ZstdCompressor(level=1)
    packed: list[memoryview] = []
    at = 0
    for size in sizes:
        block = plain[at : at + size]
        if layout.shuffled:
            block = block.reshape(-1, layout.itemsize).T.ravel()
        content = block.tobytes()
        if layout.codec == "zstd":
            packed.append(memoryview(compressor.compress(content)))
        else:
            packed.append(memoryview(pa.compress(content, codec="lz4_raw", asbytes=True)))
        at += size
    return packed


def _blocks_of(reader: VoxelReader) -> BlockReader | None:
    return reader if isinstance(reader, BlockReader) else getattr(reader, "blocks", None)
