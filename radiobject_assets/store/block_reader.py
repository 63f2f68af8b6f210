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
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest
from zstandard import ZstdDecompressor, ZstdError

from radiobject_assets.store.tile_index import BLOCK_BYTES, DamagedError, Layout, TileIndex

# Boxes for which another thread is worth its waking up, about 50 us.
_BOXES_PER_THREAD = 4
# Blocks that are decoded by one call: threads that hand the interpreter's lock to each other for every
# block wait for it longer than they decode, and what they work on should stay in a core's cache.
_BATCH = 16

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Plan:
    """The boxes that a region touches, in the order in which they are stored; an entry of each list for each.

    Lists and no objects: a whole volume has hundreds of boxes, and Python's share of the work bounds how much
    several threads gain.
    """

    firsts: list[int]
    """Number of a box's first block."""
    sources: list[Slices]
    """What of it is wanted."""
    targets: list[Slices]
    """Where that belongs in the result."""


@dataclass(frozen=True)
class Run:
    """Boxes whose stored bytes are read at once."""

    file: int
    offset: int
    nbytes: int
    boxes: range
    """Their places in the plan."""


class _Own(threading.local):
    """What a thread keeps from one read to the next."""

    def __init__(self) -> None:
        self.decompressor = ZstdDecompressor()
        self.wide = np.empty(_BATCH * BLOCK_BYTES // 2, np.uint16)
        self.low = np.empty(_BATCH * BLOCK_BYTES // 2, np.uint16)


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


def plan_region(layout: Layout, start: Sequence[int], size: Sequence[int]) -> Plan:
    """What the region [start, start + size) needs of an array."""
    numbers = np.zeros((), np.int64)
    sources: list[list[slice]] = []
    targets: list[list[slice]] = []
    tile_stride, box_stride = layout.blocks_per_tile, layout.blocks_per_box
    for axis, (begin, length) in enumerate(zip(start, size, strict=True)):
        tile, thick = layout.tile[axis], layout.box[axis]
        per_tile = -(-tile // thick)
        end = begin + length
        first = begin // tile * per_tile + begin % tile // thick
        last = (end - 1) // tile * per_tile + (end - 1) % tile // thick
        along, wanted, placed = [], [], []
        for position in range(first, last + 1):
            in_grid, in_tile = divmod(position, per_tile)
            origin = in_grid * tile + in_tile * thick
            low, high = max(begin, origin), min(end, origin + thick, (in_grid + 1) * tile)
            along.append(in_grid * tile_stride + in_tile * box_stride)
            wanted.append(slice(low - origin, high - origin))
            placed.append(slice(low - begin, high - begin))
        numbers = numbers[..., None] + np.array(along, np.int64)
        sources.append(wanted)
        targets.append(placed)
        tile_stride *= layout.grid[axis]
        box_stride *= per_tile
    flat = numbers.ravel()
    order = np.argsort(flat, kind="stable")
    places = [place.tolist() for place in np.unravel_index(order, numbers.shape)]

    def chosen(axes: list[list[slice]]) -> list[Slices]:
        return list(zip(*([axis[i] for i in at] for axis, at in zip(axes, places, strict=True)), strict=True))

    return Plan(flat[order].tolist(), chosen(sources), chosen(targets))


def runs_of(index: TileIndex, plan: Plan, gap: int, small: int, most: int) -> list[Run]:
    """Boxes joined into reads: over gaps of up to `gap` bytes, or while a read has up to `small` in all.

    No read of several boxes is longer than `most` bytes.
    """
    firsts = np.array(plan.firsts, np.int64)
    lasts = firsts + index.layout.blocks_per_box - 1
    bounds = np.cumsum([file.blocks for file in index.files])
    files = np.searchsorted(bounds, firsts, side="right").tolist()
    begins = index.offsets[firsts].tolist()
    ends = (index.offsets[lasts] + index.sizes[lasts]).tolist()
    cuts, since = [0], 0
    for i in range(1, len(begins)):
        reach = ends[i] - begins[since]
        near = begins[i] - ends[i - 1] <= gap or reach <= small
        if files[i] != files[since] or reach > most or not near:
            cuts.append(i)
            since = i
    return [
        Run(files[a], begins[a], ends[b - 1] - begins[a], range(a, b))
        for a, b in pairwise([*cuts, len(begins)])
    ]


class Region:
    """The voxels of a region while they are read: a result in Fortran order that is filled box by box."""

    def __init__(self, index: TileIndex, start: Sequence[int], size: Sequence[int], verify: bool) -> None:
        self._index = index
        self._verify = verify
        self.plan = plan_region(index.layout, start, size)
        self.voxels: NDArray[Any] = np.empty(tuple(size), index.layout.dtype, order="F")

    def fill(self, run: Run, stored: memoryview) -> None:
        """Check, decode and place the boxes of a run, whose bytes are `stored`.

        Raises
        ------
        DamagedError
            If a checksum fails.
        """
        plan, layout = self.plan, self._index.layout
        equal = layout.tile_cells % layout.block_cells == 0
        if layout.codec == "zstd" and layout.blocks_per_box == 1 and equal:
            for first in range(run.boxes.start, run.boxes.stop, _BATCH):
                self._fill_whole(range(first, min(first + _BATCH, run.boxes.stop)), stored, run.offset)
            return
        for i in run.boxes:
            first, source, target = plan.firsts[i], plan.sources[i], plan.targets[i]
            if layout.blocks_per_box == 1:
                block = self._decode(first, stored, run.offset)
                values = self._values(block, len(block) // layout.itemsize)
                self.voxels[target] = values.reshape(_extents(layout, len(values)), order="F")[source]
            else:
                self.voxels[target] = self._tile(first, source, stored, run.offset)[source]

    def _fill_whole(self, boxes: range, stored: memoryview, offset: int) -> None:
        """Boxes that are blocks of one size, decoded and joined together."""
        plan, layout = self.plan, self._index.layout
        contents: list[Any] = [self._content(plan.firsts[i], stored, offset) for i in boxes]
        expected = layout.block_cells * layout.itemsize
        sizes = np.full(len(contents), expected, np.uint64)
        try:
            decoded: Any = _own.decompressor.multi_decompress_to_buffer(
                contents, decompressed_sizes=sizes.tobytes(), threads=1
            )
        except (ZstdError, ValueError) as error:
            raise DamagedError(f"a block cannot be decoded: {error}") from error
        blocks = [np.frombuffer(decoded[k], np.uint8) for k in range(len(decoded))]
        if len(blocks) != len(contents) or any(block.size != expected for block in blocks):
            raise DamagedError(f"a block does not hold {expected} bytes")
        if layout.shuffled and layout.itemsize == 2:
            self._join_pairs(boxes, blocks)
            return
        for i, block in zip(boxes, blocks, strict=True):
            values = self._values(block, layout.block_cells)
            self.voxels[plan.targets[i]] = values.reshape(layout.box, order="F")[plan.sources[i]]

    def _join_pairs(self, boxes: range, blocks: Sequence[NDArray[np.uint8]]) -> None:
        """Put voxels of two bytes in their places, given all first bytes of each block and all second ones.

        Widening, multiplying and adding run through vector units: half the time of strided bytes.
        """
        plan, layout = self.plan, self._index.layout
        cells, shape = layout.block_cells, (len(blocks), layout.block_cells)
        high = _own.wide[: len(blocks) * cells].reshape(shape)
        low = _own.low[: len(blocks) * cells].reshape(shape)
        for k, block in enumerate(blocks):
            np.copyto(high[k], block[cells:])
            np.copyto(low[k], block[:cells])
        np.multiply(high, 256, out=high)
        voxels = self.voxels.view(np.uint16)
        for k, i in enumerate(boxes):
            source = plan.sources[i]
            one, other = (half[k].reshape(layout.box, order="F")[source] for half in (high, low))
            np.add(one, other, out=voxels[plan.targets[i]])

    def _tile(self, first: int, source: Slices, stored: memoryview, offset: int) -> NDArray[Any]:
        """A tile, of which those blocks are decoded that have something of `source`."""
        layout = self._index.layout
        tile = np.empty(layout.tile, layout.dtype, order="F")
        flat = tile.reshape(-1, order="F")
        steps = [stride // layout.itemsize for stride in tile.strides]
        low = sum(part.start * step for part, step in zip(source, steps, strict=True))
        high = sum((part.stop - 1) * step for part, step in zip(source, steps, strict=True))
        for number in range(low // layout.block_cells, high // layout.block_cells + 1):
            block = self._decode(first + number, stored, offset)
            begin, cells = number * layout.block_cells, layout.cells_of(number)
            flat[begin : begin + cells] = self._values(block, cells)
        return tile

    def _content(self, number: int, stored: memoryview, offset: int) -> memoryview:
        """The stored bytes of a block, compared with their checksum."""
        index = self._index
        begin = int(index.offsets[number]) - offset
        content = stored[begin : begin + int(index.sizes[number])]
        if self._verify and xxh3_64_intdigest(content) != int(index.checksums[number]):
            raise DamagedError(f"Checksum mismatch in block {number}: the stored bytes were damaged")
        return content

    def _decode(self, number: int, stored: memoryview, offset: int) -> bytes | memoryview:
        layout = self._index.layout
        content = self._content(number, stored, offset)
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

    def _values(self, block: bytes | memoryview | NDArray[np.uint8], cells: int) -> NDArray[Any]:
        """The voxels of a decoded block in a row; they hold until this thread decodes the next."""
        layout = self._index.layout
        if not layout.shuffled:
            return np.frombuffer(block, layout.dtype)
        planes = np.frombuffer(block, np.uint8).reshape(layout.itemsize, cells)
        if layout.itemsize == 2:
            # Widening, multiplying and adding run through vector units: half the time of strided bytes.
            values, low = _own.wide[:cells], _own.low[:cells]
            np.copyto(values, planes[1])
            np.multiply(values, 256, out=values)
            np.copyto(low, planes[0])
            np.add(values, low, out=values)
            return values.view(layout.dtype)
        joined = np.empty(cells, layout.dtype)
        for byte, plane in enumerate(planes):
            joined.view(np.uint8)[byte :: layout.itemsize] = plane
        return joined


def _extents(layout: Layout, cells: int) -> tuple[int, ...]:
    """Extents of a box of so many voxels: the last one of a tile may be thinner along its thick axis."""
    box = layout.box
    whole = math.prod(box)
    if cells == whole:
        return box
    axis = max(a for a, extent in enumerate(box) if math.prod(box[a + 1 :]) == 1 and extent > 1)
    return (*box[:axis], cells * box[axis] // whole, *box[axis + 1 :])


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
