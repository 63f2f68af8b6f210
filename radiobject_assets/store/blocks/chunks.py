"""The blocks of a data file that TileDB wrote, found by walking through it: how an index is made anew.

The layout is that of TileDB's published format specification ("Tile", "Filter Pipeline").
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from xxhash import xxh3_64_intdigest
from zstandard import frame_content_size

from radiobject_assets.store.blocks.index import DataFile, TileIndex
from radiobject_assets.store.blocks.tile_layout import BLOCK_BYTES, CODECS, TileLayout

_TILE_HEAD = struct.Struct("<Q")
_WINDOW_BYTES = 4 * 1024 * 1024

ReadBytes = Callable[[int, int], "bytes | memoryview"]


class NotIndexableError(ValueError):
    """A data file that is laid out in another way than an index describes."""


def build_index(
    layout: TileLayout, files: Sequence[tuple[str, int, ReadBytes]], others: Mapping[str, str]
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


def _blocks_of(layout: TileLayout, nbytes: int, read: ReadBytes) -> Iterator[tuple[int, int, int]]:
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


def _chunk_head(layout: TileLayout) -> struct.Struct:
    """Of a chunk, all in front of its filtered bytes.

    Its metadata are the checksum filter's (numbers of metadata and data parts; length and digest of each),
    then the compressor's (the same numbers; plain and compressed length of each part). The shuffle's own
    metadata is the one part of metadata that a compressor may have; it is compressed in front of the voxels.
    """
    checksum = f"II{40 * (1 if layout.codec == 'none' else 2)}x"
    compressor = "" if layout.codec == "none" else "II" + "II" * (1 + layout.shuffled)
    return struct.Struct(f"<III{checksum}{compressor}")


def _checked(layout: TileLayout, head: tuple[int, ...], metadata: int, whole: int) -> tuple[int, int]:
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
