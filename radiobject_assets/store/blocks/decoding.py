"""Stored blocks back into voxels, many of them by one call that holds no interpreter lock.

A block is what Blosc keeps as well: voxels whose bytes were shuffled, then compressed. So blocks that go
together are handed to Blosc's decoder as one of its chunks: a header, where each begins, and their bytes as
they are. Threads that hand the interpreter's lock to each other for every block were slower than one: a
64^3 region took them 4.7 ms, and takes 2.3 this way.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest
from zstandard import ZstdDecompressor, ZstdError

from radiobject_assets.store.blocks.regions import Plan
from radiobject_assets.store.blocks.tile_layout import BLOCK_BYTES, DamagedBlockError, TileLayout

# Boxes that are decoded together: one call for all, and what it works on should stay in a core's cache.
TOGETHER = 16
# Format of a Blosc chunk of version 2: header (version, version of the codec's format, flags, bytes of an
# element, plain bytes, plain bytes of a block, bytes of the chunk), where each block begins, and before each
# its length. Only the last block may be shorter.
_HEAD = struct.Struct("<4B3I")
_LENGTH = struct.Struct("<I")
_VERSION, _SHUFFLED, _WHOLE = 2, 0x01, 0x10
_NUMBERS = {"lz4": 1, "gzip": 3, "zstd": 4}


class _Own(threading.local):
    """What a thread keeps from one read to the next."""

    def __init__(self) -> None:
        self.plain = np.empty(TOGETHER * BLOCK_BYTES, np.uint8)

    def buffer(self, nbytes: int) -> NDArray[np.uint8]:
        return self.plain[:nbytes] if nbytes <= self.plain.size else np.empty(nbytes, np.uint8)


_own = _Own()


def check_block(number: int, content: memoryview, checksum: int) -> None:
    """Compare the stored bytes of a block with their checksum.

    Raises
    ------
    DamagedBlockError
        If they are not what was written.
    """
    if xxh3_64_intdigest(content) != checksum:
        raise DamagedBlockError(f"Checksum mismatch in block {number}: the stored bytes were damaged")


def fill(plan: Plan, out: NDArray[Any], boxes: range, contents: Sequence[memoryview]) -> None:
    """Decode boxes of a plan and put them in their places in the result.

    Parameters
    ----------
    out
        The voxels of the region, in Fortran order.
    contents
        The stored bytes of all blocks that these boxes need, in order.

    Raises
    ------
    DamagedBlockError
        If a block is not what the layout says.
    """
    layout = plan.layout
    if layout.blocks_per_box > 1:
        begin = 0
        for box in boxes:
            count = plan.counts[box]
            _place_tile(plan, box, contents[begin : begin + count], out)
            begin += count
        return
    sizes = plan.sizes[boxes.start : boxes.stop]
    plain = _own.buffer(sum(sizes))
    decode(layout, contents, sizes, plain)
    voxels, at = plain.view(layout.dtype), 0
    for box, size in zip(boxes, sizes, strict=True):
        cells = size // layout.itemsize
        block = voxels[at : at + cells].reshape(layout.extents_of(cells), order="F")
        out[plan.targets[box]] = block[plan.sources[box]]
        at += cells


def _place_tile(plan: Plan, box: int, contents: Sequence[memoryview], out: NDArray[Any]) -> None:
    """The same for a tile whose blocks are no boxes: those that are needed, at their places within it."""
    layout = plan.layout
    step = layout.block_cells * layout.itemsize
    first = plan.firsts[box] % layout.blocks_per_tile
    plain = _own.buffer(layout.tile_cells * layout.itemsize)
    size = plan.sizes[box]
    sizes = [min(step, size - at) for at in range(0, size, step)]
    decode(layout, contents, sizes, plain[first * step : first * step + size])
    out[plan.targets[box]] = plain.view(layout.dtype).reshape(layout.tile, order="F")[plan.sources[box]]


def decode(
    layout: TileLayout, contents: Sequence[memoryview], sizes: Sequence[int], out: NDArray[np.uint8]
) -> None:
    """Decode blocks, one after another, into `out`, given the stored bytes and the plain size of each.

    Raises
    ------
    DamagedBlockError
        If one of them cannot be decoded, or is of another size.
    """
    step = layout.block_cells * layout.itemsize
    begin = at = 0
    for end in range(1, len(sizes) + 1):
        if end == len(sizes) or sizes[end - 1] != step:
            nbytes = sum(sizes[begin:end])
            _decode_together(layout, contents[begin:end], sizes[begin:end], out[at : at + nbytes])
            begin, at = end, at + nbytes


def _decode_together(
    layout: TileLayout, contents: Sequence[memoryview], sizes: Sequence[int], out: NDArray[np.uint8]
) -> None:
    if layout.codec == "none" or any(
        len(content) == size for content, size in zip(contents, sizes, strict=True)
    ):
        # Blosc takes compressed bytes for plain ones where they are as many.
        at = 0
        for content, size in zip(contents, sizes, strict=True):
            out[at : at + size] = _decode_alone(layout, content, size)
            at += size
        return
    chunk = _blosc_chunk(layout, contents, len(out))
    try:
        _blosc().decompress(chunk, out)
    except (RuntimeError, ValueError) as error:
        raise DamagedBlockError(f"a block cannot be decoded, or has another size: {error}") from error


@cache
def _blosc() -> Any:
    """Blosc, loaded with the first blocks: it takes as long as the rest of a command that reads no voxels."""
    from numcodecs import blosc

    # Its own threads are left out: a region is shared among this process's own, whose number is set.
    blosc.use_threads = False
    return blosc


def _blosc_chunk(layout: TileLayout, contents: Sequence[memoryview], nbytes: int) -> bytes:
    flags = _WHOLE | _SHUFFLED * layout.shuffled | _NUMBERS[layout.codec] << 5
    step = layout.block_cells * layout.itemsize
    position = _HEAD.size + _LENGTH.size * len(contents)
    begins: list[int] = []
    pieces: list[Any] = []
    for content in contents:
        begins.append(position)
        pieces += (_LENGTH.pack(len(content)), content)
        position += _LENGTH.size + len(content)
    head = _HEAD.pack(_VERSION, 1, flags, layout.itemsize, nbytes, min(step, nbytes), position)
    return b"".join([head, struct.pack(f"<{len(begins)}I", *begins), *pieces])


def _decode_alone(layout: TileLayout, content: memoryview, size: int) -> NDArray[np.uint8]:
    try:
        match layout.codec:
            case "zstd":
                block: Any = ZstdDecompressor().decompress(content, max_output_size=size)
            case "lz4":
                block = pa.decompress(content, size, codec="lz4_raw", asbytes=True)
            case "gzip":
                block = zlib.decompressobj().decompress(content, size)
            case _:
                block = content
    except (ZstdError, zlib.error, OSError) as error:
        raise DamagedBlockError(f"a block cannot be decoded: {error}") from error
    if len(block) != size:
        raise DamagedBlockError(f"a block holds {len(block)} bytes in place of {size}")
    plain = np.frombuffer(block, np.uint8)
    return plain.reshape(layout.itemsize, -1).T.ravel() if layout.shuffled else plain
