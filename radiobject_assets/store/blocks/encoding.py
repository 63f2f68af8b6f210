"""Voxels into the bytes of TileDB's tiles: cut, shuffled, compressed, with a checksum for every block.

The bytes are those that TileDB's own filters (byte shuffle, compressor, SHA-256) make of the same voxels; a
test compares them. TileDB reads every voxel several times on the way, this once while it is in a core's
cache, and the tile index and the tiles' statistics fall out of the same pass.
"""

from __future__ import annotations

import hashlib
import math
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest
from zstandard import ZstdCompressor

from radiobject_assets.store.blocks.tile_layout import TileLayout

_COUNT = struct.Struct("<Q")
_CHUNK = struct.Struct("<III")
_PARTS = struct.Struct("<II")
_SUMMED = struct.Struct("<Q32s")
# Elements that are added up in one row: narrow integers are widened once for many additions.
_ROW = 256


@dataclass(frozen=True)
class EncodedTile:
    """A tile as it is stored, and what the array's tables say of it."""

    content: bytes
    begins: tuple[int, ...]
    """Of each block's compressed bytes within `content`."""
    sizes: tuple[int, ...]
    checksums: tuple[int, ...]
    """XXH3 (64 bits) of them."""
    low: Any
    """Smallest voxel; a tile's part beyond the array's far faces does not count."""
    high: Any
    total: int | float
    """Sum of the voxels, exact for integers."""


class _Scratch(threading.local):
    """What a thread keeps from one tile to the next."""

    def __init__(self) -> None:
        self.compressors: dict[int, ZstdCompressor] = {}
        self.buffers: dict[str, NDArray[np.uint8]] = {}

    def buffer(self, name: str, nbytes: int) -> NDArray[np.uint8]:
        held = self.buffers.get(name)
        if held is None or held.size < nbytes:
            held = self.buffers[name] = np.empty(nbytes, np.uint8)
        return held[:nbytes]

    def compressor(self, level: int) -> ZstdCompressor:
        if level not in self.compressors:
            self.compressors[level] = ZstdCompressor(level=level)
        return self.compressors[level]


_scratch = _Scratch()


@dataclass(frozen=True)
class TileEncoder:
    """How the tiles of one array are made.

    Parameters
    ----------
    layout
        Of the array; its dtype carries the voxels.
    level
        Of the compressor.
    """

    layout: TileLayout
    level: int

    def tiles(self, shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """The tiles of a chunk of `shape` that begins at a tile's corner, in the order of storage."""
        grid = [-(-size // extent) for size, extent in zip(shape, self.layout.tile, strict=True)]
        for flat in range(math.prod(grid)):
            place = []
            for count, extent, size in zip(grid, self.layout.tile, shape, strict=True):
                flat, position = divmod(flat, count)
                place.append(slice(position * extent, min(size, (position + 1) * extent)))
            yield tuple(place)

    def encode(self, voxels: NDArray[Any]) -> EncodedTile:
        """The tile with these voxels: up to `tile` of the layout of them along each axis, others are zero."""
        layout = self.layout
        flat = _scratch.buffer("tile", layout.tile_cells * layout.itemsize).view(layout.dtype)
        tile = flat.reshape(layout.tile, order="F")
        if voxels.shape != layout.tile:
            flat[:] = 0
        tile[tuple(map(slice, voxels.shape))] = voxels
        low, high, total = _statistics(tile[tuple(map(slice, voxels.shape))], flat)
        plain = self._shuffled(flat) if layout.shuffled else flat.view(np.uint8)
        step = layout.block_cells * layout.itemsize
        blocks = [plain[at : at + step].data for at in range(0, plain.size, step)]
        packed = self._compressed(blocks)
        pieces: list[Any] = [_COUNT.pack(len(blocks))]
        begins, sizes, checksums = [], [], []
        position = _COUNT.size
        for block, content in zip(blocks, packed, strict=True):
            head = self._head(block.nbytes, content)
            pieces += (head, content)
            position += len(head)
            begins.append(position)
            sizes.append(len(content))
            checksums.append(xxh3_64_intdigest(content))
            position += len(content)
        return EncodedTile(b"".join(pieces), tuple(begins), tuple(sizes), tuple(checksums), low, high, total)

    def _shuffled(self, flat: NDArray[Any]) -> NDArray[np.uint8]:
        """All first bytes of a block's voxels, then all second bytes, and so on; block after block."""
        layout = self.layout
        words = flat.view(f"u{layout.itemsize}")
        out = _scratch.buffer("planes", flat.nbytes)
        cells, itemsize = layout.block_cells, layout.itemsize
        whole = layout.tile_cells // cells
        planes = out[: whole * cells * itemsize].reshape(whole, itemsize, cells)
        last = words[whole * cells :]
        ends = out[whole * cells * itemsize :].reshape(itemsize, last.size)
        rows = words[: whole * cells].reshape(whole, cells)
        for byte in range(itemsize):
            # Narrowing keeps a word's low byte, whatever the rest is, and runs through vector units.
            np.copyto(planes[:, byte], rows, casting="unsafe")
            np.copyto(ends[byte], last, casting="unsafe")
            if byte + 1 < itemsize:
                np.right_shift(words, 8, out=words)
        return out

    def _compressed(self, blocks: Sequence[memoryview]) -> Sequence[Any]:
        match self.layout.codec:
            case "zstd":
                # All of a tile in one call: threads that hand the interpreter's lock to each other for
                # every block wait for it longer.
                made: Any = _scratch.compressor(self.level).multi_compress_to_buffer(list(blocks), threads=1)
                return [memoryview(made[i]) for i in range(len(made))]
            case "lz4":
                return [pa.compress(pa.py_buffer(block), codec="lz4_raw", asbytes=True) for block in blocks]
            case "gzip":
                return [zlib.compress(block, self.level) for block in blocks]
            case _:
                return [bytes(block) for block in blocks]

    @cached_property
    def _shuffle_notes(self) -> dict[int, bytes]:
        """What the shuffle notes of a block of so many bytes, compressed: it stands before the voxels."""
        return {
            cells * self.layout.itemsize: bytes(
                self._compressed([memoryview(_PARTS.pack(1, cells * self.layout.itemsize))])[0]
            )
            for cells in {
                self.layout.block_cells,
                self.layout.cells_of(self.layout.blocks_per_tile - 1),
            }
        }

    def _head(self, plain: int, content: Any) -> bytes:
        """All that stands in front of a block's compressed bytes; see `chunks`."""
        layout = self.layout
        note = self._shuffle_notes[plain] if layout.shuffled else b""
        if layout.codec == "none":
            parts = b""
        elif layout.shuffled:
            parts = struct.pack("<6I", 1, 1, _PARTS.size, len(note), plain, len(content))
        else:
            parts = struct.pack("<4I", 0, 1, plain, len(content))
        digest = hashlib.sha256(note) if note else hashlib.sha256()
        digest.update(content)
        stored = len(note) + len(content)
        sums = [_PARTS.pack(1 if parts else 0, 1)]
        if parts:
            sums.append(_SUMMED.pack(len(parts), hashlib.sha256(parts).digest()))
        sums.append(_SUMMED.pack(stored, digest.digest()))
        notes = b"".join(sums) + parts
        return _CHUNK.pack(plain, stored, len(notes)) + notes + note


def _statistics(inside: NDArray[Any], flat: NDArray[Any]) -> tuple[Any, Any, int | float]:
    """Smallest, largest and sum of a tile's voxels; `flat` is the whole tile, with zeros outside."""
    whole = inside.size == flat.size
    values = flat if whole else inside
    if flat.dtype.kind == "f":
        with np.errstate(all="ignore"):  # infinities of both signs add up to no number
            low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
            return low, high, float(np.add.reduce(flat, dtype=np.float64))
    wide = np.uint64 if flat.dtype.kind == "u" else np.int64
    low, high = values.min(), values.max()
    if max(abs(int(low)), abs(int(high))) >= 2**63 // flat.size:  # halves of words can be added up exactly
        words = np.ravel(values)
        lows = int(np.add.reduce(words & wide(0xFFFFFFFF), dtype=wide))
        return low, high, lows + (int(np.add.reduce(words >> wide(32), dtype=wide)) << 32)
    rows = flat[: flat.size // _ROW * _ROW].reshape(-1, _ROW)
    total = int(np.add.reduce(np.add.reduce(rows, axis=0, dtype=wide), dtype=wide))
    total += int(np.add.reduce(flat[rows.size :], dtype=wide))
    return low, high, total
