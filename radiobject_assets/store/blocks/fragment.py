"""The metadata of a dense fragment with one attribute, as TileDB's format 22 lays it out.

TileDB's reader wants to know where each tile begins, and answers aggregates and conditions from the tiles'
smallest and largest values and sums. The layout is that of TileDB's published format specification
("Fragment", "Generic Tile"); tables that only sparse arrays or variable sizes need are there and empty.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from radiobject_assets.store.blocks.tile_layout import FORMAT_VERSION

METADATA_FILE = "__fragment_metadata.tdb"

_TILE_HEAD = struct.Struct("<IQQBQBI")
_CHAR, _NO_ENCRYPTION = 4, 0
_CHUNK_BYTES = 65536
# Largest chunk, number of filters; gzip, length of its settings, gzip again, level.
_GZIP = struct.pack("<IIBIBi", _CHUNK_BYTES, 1, 1, 5, 1, 1)
FANOUT = 10


@dataclass(frozen=True)
class DenseFragment:
    """A fragment that covers a whole dense array."""

    schema: str
    """Name of the array's schema file."""
    shape: tuple[int, ...]
    """Of the array, whose dimensions are 32-bit integers from 0."""
    tile_cells: int
    dtype: np.dtype[Any]
    data_bytes: int
    """Size of the attribute's file."""
    offsets: Sequence[int]
    """Of each tile in it, in the order of storage."""
    lows: Sequence[Any]
    """Smallest value of each tile."""
    highs: Sequence[Any]
    totals: Sequence[int | float]

    def encode(self) -> bytes:
        """The bytes of the fragment's metadata file."""
        dims, tiles = len(self.shape), len(self.offsets)
        # The fields are the attribute, the coordinates (of sparse arrays), and each dimension.
        fields = dims + 2
        none = counted_values(np.zeros(tiles, np.uint64))
        offsets = counted_values(np.array(self.offsets, np.uint64))
        no_coordinates = fixed_values(bytes(tiles * dims * 4))
        unused = [fixed_values(b"")] * dims
        tables = [
            [struct.pack("<II", FANOUT, 0)],
            [offsets, *[none] * (fields - 1)],
            *[[none] * fields] * 3,  # of variable sizes and of validity
            [fixed_values(np.array(self.lows, self.dtype).tobytes()), no_coordinates, *unused],
            [fixed_values(np.array(self.highs, self.dtype).tobytes()), no_coordinates, *unused],
            [counted_values(self._sums()), none, *[counted_values(np.empty(0, np.uint64))] * dims],
            [counted_values(np.empty(0, np.uint64))] * fields,
            [self._whole()],
            [counted_values(np.empty(0, np.uint64))],  # conditions that were applied
        ]
        content, places = bytearray(), []
        made: dict[bytes, bytes] = {}
        for table in (table for group in tables for table in group):
            places.append(len(content))
            if table not in made:
                made[table] = generic_tile(table)
            content += made[table]
        footer = self._footer(places)
        return bytes(content) + footer + struct.pack("<Q", len(footer))

    def _sums(self) -> Any:
        """Sums of the tiles as 64 bits each: of floats their doubles."""
        if self.dtype.kind == "f":
            return np.array(self.totals, np.float64).view(np.uint64)
        return np.array([_to_64_bits(int(total), self.dtype) for total in self.totals], np.uint64)

    def _whole(self) -> bytes:
        """Smallest, largest, sum and number of nulls of the whole fragment."""
        smallest, largest = np.array(self.lows, self.dtype), np.array(self.highs, self.dtype)
        total: int | float = sum(self.totals)
        if self.dtype.kind == "f":
            low, high = np.fmin.reduce(smallest), np.fmax.reduce(largest)
            sums = struct.pack("<d", total)
        else:
            low, high = smallest.min(), largest.max()
            sums = struct.pack("<Q", _to_64_bits(int(total), self.dtype))
        size = struct.pack("<Q", self.dtype.itemsize)
        own: bytes = size + low.tobytes() + size + high.tobytes() + sums + bytes(8)
        coordinates = struct.pack("<QIQIQQ", 4, 0, 4, 0, 0, 0)
        return own + coordinates + bytes(32) * len(self.shape)

    def _footer(self, places: Sequence[int]) -> bytes:
        dims = len(self.shape)
        fields = dims + 2
        name = self.schema.encode()
        corners = [bound for size in self.shape for bound in (0, size - 1)]
        sizes = [self.data_bytes, *[0] * (3 * fields - 1)]  # data, variable data, validity
        return b"".join(
            (
                struct.pack("<IQ", FORMAT_VERSION, len(name)),
                name,
                struct.pack(f"<BB{2 * dims}i", 1, 0, *corners),
                struct.pack("<QQBB", 0, self.tile_cells, 0, 0),
                struct.pack(f"<{len(sizes)}Q", *sizes),
                struct.pack(f"<{len(places)}Q", *places),
            )
        )


def _to_64_bits(total: int, dtype: np.dtype[Any]) -> int:
    """A sum as TileDB keeps it: at the limit of its 64 bits where it goes beyond, in two's complement."""
    if dtype.kind == "u":
        return min(total, 2**64 - 1)
    return max(-(2**63), min(total, 2**63 - 1)) % 2**64


def counted_values(values: Any) -> bytes:
    content: bytes = values.tobytes()
    return struct.pack("<Q", values.size) + content


def fixed_values(content: bytes) -> bytes:
    """Values of one size: their bytes, and none of variable size."""
    return struct.pack("<QQ", len(content), 0) + content


def generic_tile(content: bytes) -> bytes:
    """A tile that describes itself, compressed in chunks."""
    chunks = []
    for at in range(0, len(content), _CHUNK_BYTES):
        plain = content[at : at + _CHUNK_BYTES]
        packed = zlib.compress(plain, 1)
        notes = struct.pack("<IIII", 0, 1, len(plain), len(packed))
        chunks.append(struct.pack("<III", len(plain), len(packed), len(notes)) + notes + packed)
    body = struct.pack("<Q", len(chunks)) + b"".join(chunks)
    head = (FORMAT_VERSION, len(body), len(content), _CHAR, 1, _NO_ENCRYPTION, len(_GZIP))
    return _TILE_HEAD.pack(*head) + _GZIP + body
