"""Which blocks a region needs, and where their voxels belong in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from radiobject_assets.store.blocks.tile_layout import TileLayout

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Region:
    """Voxels [start, start + size) of an array."""

    start: tuple[int, ...]
    size: tuple[int, ...]

    def within(self, shape: Sequence[int]) -> bool:
        """Whether an array of `shape` has all of it."""
        return len(self.start) == len(shape) and all(
            a >= 0 and n >= 0 and a + n <= m for a, n, m in zip(self.start, self.size, shape, strict=True)
        )


@dataclass(frozen=True)
class Plan:
    """The boxes that a region touches, in the order in which they are stored; an entry of each list for each.

    Lists and no objects: a whole volume has hundreds of boxes, and Python's share of the work bounds how much
    several threads gain.
    """

    layout: TileLayout
    firsts: list[int]
    """Number of the first block that is needed of a box."""
    counts: list[int]
    """Blocks that are needed of it, one after another."""
    sources: list[Slices]
    """What of the box is wanted."""
    targets: list[Slices]
    """Where that belongs in the result."""

    def __len__(self) -> int:
        return len(self.firsts)

    @cached_property
    def sizes(self) -> list[int]:
        """Bytes of each box's needed blocks, decoded."""
        layout = self.layout
        if layout.tile_cells % layout.block_cells == 0:
            return [count * layout.block_cells * layout.itemsize for count in self.counts]
        lasts = [
            (first + n - 1) % layout.blocks_per_tile
            for first, n in zip(self.firsts, self.counts, strict=True)
        ]
        return [
            ((n - 1) * layout.block_cells + layout.cells_of(last)) * layout.itemsize
            for n, last in zip(self.counts, lasts, strict=True)
        ]


def plan_region(layout: TileLayout, region: Region) -> Plan:
    """What a region needs of an array."""
    numbers = np.zeros((), np.int64)
    sources: list[list[slice]] = []
    targets: list[list[slice]] = []
    tile_stride, box_stride = layout.blocks_per_tile, layout.blocks_per_box
    for axis, (begin, length) in enumerate(zip(region.start, region.size, strict=True)):
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

    firsts, wanted_of = flat[order].tolist(), chosen(sources)
    counts = [1] * len(firsts)
    if layout.blocks_per_box > 1:
        for box, source in enumerate(wanted_of):
            low, high = _blocks_of(layout, source)
            firsts[box] += low
            counts[box] = high - low + 1
    return Plan(layout, firsts, counts, wanted_of, chosen(targets))


def _blocks_of(layout: TileLayout, source: Slices) -> tuple[int, int]:
    """The first and the last block of a tile that have something of `source`."""
    low = high = 0
    step = 1
    for part, extent in zip(source, layout.tile, strict=True):
        low += part.start * step
        high += (part.stop - 1) * step
        step *= extent
    return low // layout.block_cells, high // layout.block_cells
