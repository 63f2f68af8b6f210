"""Regions read through a tile index: stored blocks checked, decoded and put in their place by all threads.

The bytes of a block are compared with their checksum before the decoder sees them. Decoding works without
the interpreter's lock, so that the caller's thread and helpers of a pool share the blocks of one region.
"""

from __future__ import annotations

import math
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest
from zstandard import ZstdDecompressor, ZstdError

from radiobject_assets.store.tile_index import DamagedError, Layout, TileIndex

# Boxes for which another thread is worth its waking up, about 50 us.
_BOXES_PER_THREAD = 4

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Box:
    """A part of a tile that is decoded as one."""

    first: int
    """Number of its first block."""
    source: Slices
    """What of it is wanted."""
    target: Slices
    """Where that belongs in the result."""


@dataclass(frozen=True)
class Run:
    """Boxes whose stored bytes are read at once."""

    file: int
    offset: int
    nbytes: int
    boxes: Sequence[Box]


class _Own(threading.local):
    """What a thread keeps from one read to the next."""

    def __init__(self) -> None:
        self.decompressor = ZstdDecompressor()


_own = _Own()


def _from_zstd(content: memoryview, expected: int) -> bytes:
    block: bytes = _own.decompressor.decompress(content, max_output_size=expected)
    return block


def _from_lz4(content: memoryview, expected: int) -> bytes:
    block: bytes = pa.decompress(content, expected, codec="lz4_raw", asbytes=True)
    return block


def _from_gzip(content: memoryview, expected: int) -> bytes:
    return zlib.decompressobj().decompress(content, expected)


_DECODERS: dict[str, Callable[[memoryview, int], bytes]] = {
    "zstd": _from_zstd,
    "lz4": _from_lz4,
    "gzip": _from_gzip,
}
_helpers: ThreadPoolExecutor | None = None
_helpers_lock = threading.Lock()


def _forget_helpers() -> None:
    global _helpers, _helpers_lock
    _helpers, _helpers_lock = None, threading.Lock()  # their threads stayed in the parent process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


def helpers() -> ThreadPoolExecutor:
    """The threads of this process that decode beside a reader's own."""
    global _helpers
    with _helpers_lock:
        if _helpers is None:
            _helpers = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
        return _helpers


def boxes_of(layout: Layout, start: Sequence[int], size: Sequence[int]) -> list[Box]:
    """The boxes that the region [start, start + size) touches, in the order in which they are stored."""
    numbers = np.zeros((), np.int64)
    axes: list[list[tuple[slice, slice]]] = []
    tile_stride, box_stride = layout.blocks_per_tile, layout.blocks_per_box
    for axis, (begin, length) in enumerate(zip(start, size, strict=True)):
        tile, thick = layout.tile[axis], layout.box[axis]
        per_tile = -(-tile // thick)
        end = begin + length
        first = begin // tile * per_tile + begin % tile // thick
        last = (end - 1) // tile * per_tile + (end - 1) % tile // thick
        along, parts = [], []
        for position in range(first, last + 1):
            in_grid, in_tile = divmod(position, per_tile)
            origin = in_grid * tile + in_tile * thick
            low, high = max(begin, origin), min(end, origin + thick, (in_grid + 1) * tile)
            along.append(in_grid * tile_stride + in_tile * box_stride)
            parts.append((slice(low - origin, high - origin), slice(low - begin, high - begin)))
        numbers = numbers[..., None] + np.array(along, np.int64)
        axes.append(parts)
        tile_stride *= layout.grid[axis]
        box_stride *= per_tile
    flat = numbers.ravel()
    order = np.argsort(flat, kind="stable")
    places = np.unravel_index(order, numbers.shape)
    found = []
    for number, *at in zip(flat[order].tolist(), *(place.tolist() for place in places), strict=True):
        chosen = [parts[i] for parts, i in zip(axes, at, strict=True)]
        found.append(Box(number, tuple(c[0] for c in chosen), tuple(c[1] for c in chosen)))
    return found


def runs_of(index: TileIndex, boxes: Sequence[Box], gap: int, small: int, most: int) -> list[Run]:
    """Boxes joined into reads: over gaps of up to `gap` bytes, or while a read has up to `small` in all.

    No read of several boxes is longer than `most` bytes.
    """
    per_box = index.layout.blocks_per_box
    firsts = np.array([box.first for box in boxes], np.int64)
    lasts = firsts + per_box - 1
    bounds = np.cumsum([file.blocks for file in index.files])
    files = np.searchsorted(bounds, firsts, side="right").tolist()
    begins = index.offsets[firsts].tolist()
    ends = (index.offsets[lasts] + index.sizes[lasts]).tolist()
    cuts, since = [0], 0
    for i in range(1, len(boxes)):
        reach = ends[i] - begins[since]
        near = begins[i] - ends[i - 1] <= gap or reach <= small
        if files[i] != files[since] or reach > most or not near:
            cuts.append(i)
            since = i
    return [
        Run(files[a], begins[a], ends[b - 1] - begins[a], boxes[a:b])
        for a, b in pairwise([*cuts, len(boxes)])
    ]


class Region:
    """The voxels of a region while they are read: a result in Fortran order that is filled box by box."""

    def __init__(self, index: TileIndex, size: Sequence[int], verify: bool) -> None:
        self._index = index
        self._verify = verify
        layout = index.layout
        self.voxels: NDArray[np.generic] = np.empty(tuple(size), layout.dtype, order="F")
        self._bytes = _byte_planes(self.voxels)

    def fill(self, run: Run, stored: memoryview) -> None:
        """Check, decode and place the boxes of a run, whose bytes are `stored`.

        Raises
        ------
        DamagedError
            If a checksum fails.
        """
        for box in run.boxes:
            if self._index.layout.blocks_per_box == 1:
                self._place(box, self._decode(box.first, stored, run.offset))
            else:
                self._place_tile(box, stored, run.offset)

    def _place_tile(self, box: Box, stored: memoryview, offset: int) -> None:
        """Decode those blocks of a tile that are wanted, and place what of them is wanted."""
        layout = self._index.layout
        tile = np.empty(layout.tile, layout.dtype, order="F")
        flat = tile.reshape(-1, order="F")
        planes = [flat.view(np.uint8)[byte :: layout.itemsize] for byte in range(layout.itemsize)]
        steps = [stride // layout.itemsize for stride in tile.strides]
        low = sum(part.start * step for part, step in zip(box.source, steps, strict=True))
        high = sum((part.stop - 1) * step for part, step in zip(box.source, steps, strict=True))
        for number in range(low // layout.block_cells, high // layout.block_cells + 1):
            block = self._decode(box.first + number, stored, offset)
            begin = number * layout.block_cells
            cells = layout.cells_of(number)
            if layout.shuffled:
                decoded = np.frombuffer(block, np.uint8).reshape(layout.itemsize, cells)
                for plane, values in zip(planes, decoded, strict=True):
                    plane[begin : begin + cells] = values
            else:
                flat[begin : begin + cells] = np.frombuffer(block, layout.dtype)
        self.voxels[box.target] = tile[box.source]

    def _decode(self, number: int, stored: memoryview, offset: int) -> bytes | memoryview:
        index, layout = self._index, self._index.layout
        begin = int(index.offsets[number]) - offset
        content = stored[begin : begin + int(index.sizes[number])]
        if self._verify and xxh3_64_intdigest(content) != int(index.checksums[number]):
            raise DamagedError(f"Checksum mismatch in block {number}: the stored bytes were damaged")
        expected = layout.cells_of(number % layout.blocks_per_tile) * layout.itemsize
        if layout.codec == "none":
            return content
        try:
            block = _DECODERS[layout.codec](content, expected)
        except (ZstdError, zlib.error, OSError) as error:
            raise DamagedError(f"block {number} cannot be decoded: {error}") from error
        if len(block) != expected:
            raise DamagedError(f"block {number} holds {len(block)} bytes in place of {expected}")
        return block

    def _place(self, box: Box, block: bytes | memoryview) -> None:
        layout = self._index.layout
        if not layout.shuffled:
            extents = _extents(layout, len(block) // layout.itemsize)
            self.voxels[box.target] = np.frombuffer(block, layout.dtype).reshape(extents, order="F")[
                box.source
            ]
            return
        cells = len(block) // layout.itemsize
        planes = np.frombuffer(block, np.uint8).reshape(layout.itemsize, cells)
        extents = _extents(layout, cells)
        for plane, target in zip(planes, self._bytes, strict=True):
            target[box.target] = plane.reshape(extents, order="F")[box.source]


def _extents(layout: Layout, cells: int) -> tuple[int, ...]:
    """Extents of a box of so many voxels: the last one of a tile may be thinner along its thick axis."""
    box = layout.box
    whole = math.prod(box)
    if cells == whole:
        return box
    axis = max(a for a, extent in enumerate(box) if math.prod(box[a + 1 :]) == 1 and extent > 1)
    return (*box[:axis], cells * box[axis] // whole, *box[axis + 1 :])


def _byte_planes(voxels: NDArray[np.generic]) -> list[NDArray[np.uint8]]:
    """Views of the first, second, ... byte of every voxel."""
    flat = voxels.reshape(-1, order="F").view(np.uint8)
    steps = tuple(voxels.strides)
    return [np.ndarray(voxels.shape, np.uint8, flat.data, offset, steps) for offset in range(voxels.itemsize)]


def share(work: Callable[[Iterator[Run]], None], runs: Sequence[Run], threads: int) -> None:
    """Let this thread and up to `threads - 1` helpers take runs one by one until none is left."""
    left = iter(runs)
    boxes = sum(len(run.boxes) for run in runs)
    wanted = min(threads, len(runs), boxes // _BOXES_PER_THREAD) - 1
    begun: list[Future[None]] = [helpers().submit(work, left) for _ in range(wanted)]
    try:
        work(left)
    finally:
        # A helper that has not begun has nothing to do any more: busy ones are not waited for.
        waiting = [future for future in begun if not future.cancel()]
        errors = [future.exception() for future in waiting]
    for error in errors:
        if error is not None:
            raise error
