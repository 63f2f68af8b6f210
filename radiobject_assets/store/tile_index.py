"""The tile index of a volume: where every block of stored voxels is, with a checksum of its bytes.

TileDB keeps a tile as a row of blocks ("chunks" in its format) of 64 KB before compression, each of them
filtered on its own. A reader that knows where they are fetches only those that a region touches, all of them
at once, and decodes them straight into the result. Without an index TileDB reads the array as any other; the
index is made from the array's own files and holds nothing that they don't.

    magic, length of the description, description (JSON), tables (offsets, sizes, checksums), checksum of all
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest, xxh3_128_digest
from zstandard import frame_content_size

INDEX_NAME = "tiles.index"
# TileDB's name for the voxels of a fragment, relative to the array: the first attribute's file.
DATA_FILE = "__fragments/{}/a0.tdb"
INDEX_VERSION = 1
_MAGIC = b"RADTILES"
_HEAD = struct.Struct("<8sI")
_DIGEST_BYTES = 16
# Bytes of a block before compression; TileDB's own, whatever an array's schema says.
BLOCK_BYTES = 64 * 1024
_TILE_HEAD = struct.Struct("<Q")
_WINDOW_BYTES = 4 * 1024 * 1024

CODECS = frozenset(["zstd", "lz4", "gzip", "none"])

ReadBytes = Callable[[int, int], "bytes | memoryview"]


class DamagedError(ValueError):
    """Stored bytes are not those that were written."""


class IndexDamagedError(DamagedError):
    """An index whose bytes are not those that were written, or of a version that is not known."""


class NotIndexableError(ValueError):
    """A data file that is laid out in another way than an index describes."""


@dataclass(frozen=True)
class DataFile:
    """A file of stored blocks: a fragment's."""

    name: str
    """Relative to the array."""
    nbytes: int
    blocks: int


@dataclass(frozen=True)
class Layout:
    """How the voxels of an array are cut into tiles and blocks, all of them in Fortran order."""

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    dtype: str
    """Name of the dtype that carries the voxels."""
    codec: str
    """`zstd`, `lz4`, `gzip` or `none`."""

    @cached_property
    def itemsize(self) -> int:
        """Bytes of a voxel."""
        return np.dtype(self.dtype).itemsize

    @property
    def shuffled(self) -> bool:
        """Whether a block holds all first bytes of its voxels, then all second bytes, and so on."""
        return self.codec != "none" and self.itemsize > 1

    @cached_property
    def tile_cells(self) -> int:
        """Voxels of a tile; those at the far faces are stored whole as well."""
        return math.prod(self.tile)

    @cached_property
    def block_cells(self) -> int:
        """Voxels of a block; the last one of a tile may have fewer."""
        return min(self.tile_cells, BLOCK_BYTES // self.itemsize)

    @cached_property
    def blocks_per_tile(self) -> int:
        """Blocks of a tile."""
        return -(-self.tile_cells // self.block_cells)

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Tiles along each axis."""
        return tuple(-(-size // extent) for size, extent in zip(self.shape, self.tile, strict=True))

    @cached_property
    def box(self) -> tuple[int, ...]:
        """Extents of what is decoded as one: of a block where blocks are boxes of voxels, else of a tile."""
        inner = 1
        for axis, extent in enumerate(self.tile):
            thick, rest = divmod(self.block_cells, inner)
            if rest:
                break
            if thick <= extent and (extent % thick == 0 or math.prod(self.tile[axis + 1 :]) == 1):
                return (*self.tile[:axis], thick, *(1,) * (len(self.tile) - axis - 1))
            inner *= extent
        return self.tile

    @cached_property
    def blocks_per_box(self) -> int:
        """1, or all blocks of a tile where a block alone is no box."""
        return self.blocks_per_tile if self.box == self.tile else 1

    def cells_of(self, block: int) -> int:
        """Voxels of the block with this number within its tile."""
        return min(self.block_cells, self.tile_cells - block * self.block_cells)


@dataclass(frozen=True, eq=False)
class TileIndex:
    """Where the blocks of an array are: block by block in the order of tiles, the first axis fastest."""

    layout: Layout
    files: tuple[DataFile, ...]
    offsets: NDArray[np.uint64]
    """Of a block's bytes in its file."""
    sizes: NDArray[np.uint32]
    """Stored bytes of a block."""
    checksums: NDArray[np.uint64]
    """XXH3 (64 bits) of a block's stored bytes."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Checksums (`checksum_of`) of the array's files that hold no voxels, by their names relative to it."""

    def encode(self) -> bytes:
        """The index as it is kept in a file."""
        layout = self.layout
        description = {
            "version": INDEX_VERSION,
            "shape": layout.shape,
            "tile": layout.tile,
            "dtype": layout.dtype,
            "codec": layout.codec,
            "files": [[file.name, file.nbytes, file.blocks] for file in self.files],
            "others": dict(sorted(self.others.items())),
        }
        text = json.dumps(description, separators=(",", ":")).encode()
        tables = [
            self.offsets.astype("<u8").tobytes(),
            self.sizes.astype("<u4").tobytes(),
            self.checksums.astype("<u8").tobytes(),
        ]
        content = b"".join([_HEAD.pack(_MAGIC, len(text)), text, *tables])
        return content + xxh3_128_digest(content)

    @classmethod
    def decode(cls, content: bytes) -> TileIndex:
        """The index that a file holds.

        Raises
        ------
        IndexDamagedError
            If its checksum fails, or it is of another version.
        """
        body = memoryview(content)[:-_DIGEST_BYTES]
        if len(content) < _HEAD.size + _DIGEST_BYTES or xxh3_128_digest(body) != content[-_DIGEST_BYTES:]:
            raise IndexDamagedError("the checksum of the tile index fails")
        magic, length = _HEAD.unpack_from(body)
        if magic != _MAGIC:
            raise IndexDamagedError("not a tile index")
        described = json.loads(bytes(body[_HEAD.size : _HEAD.size + length]))
        if described.get("version") != INDEX_VERSION:
            raise IndexDamagedError(f"a tile index of version {described.get('version')}")
        files = tuple(DataFile(*entry) for entry in described["files"])
        layout = Layout(
            tuple(described["shape"]), tuple(described["tile"]), described["dtype"], described["codec"]
        )
        blocks = sum(file.blocks for file in files)
        if layout.codec not in CODECS:
            raise IndexDamagedError(f"the tile index names the codec {layout.codec}")
        if blocks != math.prod(layout.grid) * layout.blocks_per_tile:
            raise IndexDamagedError("the tile index does not cover its array")
        at = _HEAD.size + length
        offsets = np.frombuffer(body, "<u8", blocks, at)
        sizes = np.frombuffer(body, "<u4", blocks, at + 8 * blocks)
        checksums = np.frombuffer(body, "<u8", blocks, at + 12 * blocks)
        return cls(layout, files, offsets, sizes, checksums, described.get("others", {}))


def checksum_of(content: bytes) -> str:
    """XXH3 (64 bits) of a file that holds no voxels, as 16 hexadecimal digits."""
    return xxh3_64_hexdigest(content)


def build_index(
    layout: Layout, files: Sequence[tuple[str, int, ReadBytes]], others: Mapping[str, str]
) -> TileIndex:
    """The index of an array, from the data files of its fragments in the order of tiles.

    Parameters
    ----------
    files
        Name, size and `read(offset, nbytes)` of each.
    others
        See `TileIndex`.

    Raises
    ------
    NotIndexableError
        If a file isn't laid out as this program's arrays are.
    """
    if sys.byteorder != "little":
        raise NotIndexableError("voxels are big-endian here")
    if layout.codec not in CODECS:
        raise NotIndexableError(f"blocks are compressed by {layout.codec}")
    found: list[tuple[int, int, int]] = []
    described: list[DataFile] = []
    for name, nbytes, read in files:
        before = len(found)
        found.extend(_blocks_of(layout, nbytes, read))
        described.append(DataFile(name, nbytes, len(found) - before))
    if len(found) != math.prod(layout.grid) * layout.blocks_per_tile:
        raise NotIndexableError(f"{len(found)} blocks are not those of an array of {layout.shape}")
    table = np.array(found, np.uint64).reshape(len(found), 3)
    return TileIndex(
        layout,
        tuple(described),
        np.ascontiguousarray(table[:, 0]),
        table[:, 1].astype(np.uint32),
        np.ascontiguousarray(table[:, 2]),
        others,
    )


def _blocks_of(layout: Layout, nbytes: int, read: ReadBytes) -> Iterator[tuple[int, int, int]]:
    """Offset, size and checksum of each block of a file, found by walking from tile to tile.

    A tile is its number of chunks (8 bytes) and the chunks; a chunk is its length before and after filtering,
    the length of its filters' metadata (4 bytes each), that metadata, and the filtered bytes.
    """
    most = BLOCK_BYTES * 2 + 4096  # a chunk that compression made larger, with its metadata
    head = _chunk_head(layout)
    expected = [layout.cells_of(block) * layout.itemsize for block in range(layout.blocks_per_tile)]
    start = position = 0
    window: bytes | memoryview = b""
    while position < nbytes:
        for block, whole in enumerate(expected):
            if position - start + most > len(window) and start + len(window) < nbytes:
                start, window = position, read(position, min(_WINDOW_BYTES, nbytes - position))
            at = position - start
            try:
                if block == 0:
                    if _TILE_HEAD.unpack_from(window, at)[0] != layout.blocks_per_tile:
                        raise NotIndexableError("a tile has another number of chunks")
                    at += _TILE_HEAD.size
                size, skipped = _checked(layout, head.unpack_from(window, at), head.size - 12, whole)
            except struct.error as error:
                raise NotIndexableError("a data file ends within a tile") from error
            at += head.size + skipped
            content = window[at : at + size]
            if len(content) != size:
                raise NotIndexableError("a data file ends within a tile")
            if layout.codec == "zstd" and frame_content_size(bytes(content[:18])) != whole:
                raise NotIndexableError("a chunk holds another number of bytes")
            yield start + at, size, xxh3_64_intdigest(content)
            position = start + at + size


def _chunk_head(layout: Layout) -> struct.Struct:
    """Of a chunk, all in front of its filtered bytes.

    Its metadata are the checksum filter's (numbers of metadata and data parts; length and digest of each),
    then the compressor's (the same numbers; plain and compressed length of each part). The shuffle's own
    metadata is the one part of metadata that a compressor may have; it is compressed in front of the voxels.
    """
    checksum = f"II{40 * (1 if layout.codec == 'none' else 2)}x"
    compressor = "" if layout.codec == "none" else "II" + "II" * (1 + layout.shuffled)
    return struct.Struct(f"<III{checksum}{compressor}")


def _checked(layout: Layout, head: tuple[int, ...], metadata: int, whole: int) -> tuple[int, int]:
    """Bytes of a chunk's voxels and of what is in front of them, if its head is one of our filters."""
    stored = head[1]
    wanted: tuple[int, ...]
    match layout.codec, layout.shuffled:
        case "none", _:
            size, skipped, wanted = stored, 0, (whole, whole, metadata, 0, 1)
        case _, False:
            size, skipped, wanted = stored, 0, (whole, stored, metadata, 1, 1, 0, 1, whole, stored)
        case _:
            plain, skipped = head[7:9]
            size = stored - skipped
            wanted = (whole, stored, metadata, 1, 1, 1, 1, plain, skipped, whole, size)
    if head != wanted or size <= 0:
        raise NotIndexableError("a chunk has other filters")
    return size, skipped


def describe_layout(shape: tuple[int, ...], tile: tuple[int, ...], dtype: Any, codec: str) -> Layout:
    """The layout of an array whose voxels are carried by `dtype`."""
    return Layout(tuple(shape), tuple(tile), np.dtype(dtype).name, codec)
