"""Voxels whose axes are stored in another order or direction than another grid's, on that grid's very voxels.

Turning moves whole voxels: nothing is interpolated, and every voxel keeps its place in the world.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.source import AttributeValue, ImageSource, Slab
from radiobject_assets.orientation import spacing_mm
from radiobject_assets.system.temporary import temporary_folder


@dataclass(frozen=True)
class Turn:
    """How stored axes become those of a grid: axis i is the stored axis `axes[i]`, maybe run backwards."""

    axes: tuple[int, int, int] = (0, 1, 2)
    backwards: tuple[bool, bool, bool] = (False, False, False)

    def grid(self, stored: Grid) -> Grid:
        """The stored grid's voxels with their axes turned: the same places in the world."""
        to_stored = np.zeros((4, 4))
        to_stored[3, 3] = 1.0
        for axis, (of, back) in enumerate(zip(self.axes, self.backwards, strict=True)):
            to_stored[of, axis] = -1.0 if back else 1.0
            to_stored[of, 3] = stored.shape[of] - 1 if back else 0.0
        x, y, z = (stored.shape[of] for of in self.axes)
        return Grid((x, y, z), stored.affine @ to_stored)

    def voxels(self, stored: NDArray[Any]) -> NDArray[Any]:
        """A stored (X, Y, Z) box with its axes turned; a view."""
        steps = tuple(slice(None, None, -1 if back else 1) for back in self.backwards)
        return stored.transpose(self.axes)[steps]


AS_STORED = Turn()


def nearest_turn(stored: Grid, target: Grid) -> Turn | None:
    """The turn that brings each stored axis nearest to one of the target's; None where two go to the same."""
    directions = [grid.affine[:3, :3] / spacing_mm(grid.affine) for grid in (stored, target)]
    try:
        along = np.linalg.inv(directions[0]) @ directions[1]
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(along).all():
        return None
    x, y, z = (int(np.abs(column).argmax()) for column in along.T)
    if len({x, y, z}) < 3:
        return None
    return Turn((x, y, z), (bool(along[x, 0] < 0), bool(along[y, 1] < 0), bool(along[z, 2] < 0)))


def turn_onto(stored: Grid, target: Grid) -> Turn | None:
    """The turn after which the stored voxels are the target's (`Grid.same_as`); None where there is none."""
    if sorted(stored.shape) != sorted(target.shape) or not _one_centre(stored, target):
        return None
    if stored.same_as(target):
        return AS_STORED
    turn = nearest_turn(stored, target)
    return turn if turn is not None and turn.grid(stored).same_as(target) else None


def _one_centre(one: Grid, other: Grid) -> bool:
    """Whether the centres of two grids are one: no turn moves them, and most grids are told apart by it."""
    off = _centre(one) - _centre(other)
    return bool(np.linalg.norm(off) <= max(spacing_mm(one.affine)) + max(spacing_mm(other.affine)))


def _centre(grid: Grid) -> NDArray[np.float64]:
    half = (np.array(grid.shape) - 1) / 2
    return np.asarray(grid.affine[:3, :3] @ half + grid.affine[:3, 3], dtype=np.float64)


class TurnedVoxels:
    """An image on a grid that has the same voxels in another order (`source.ImageSource`).

    Its affine is the grid's own, to the last digit: what lies on one another has one place.
    """

    def __init__(self, source: ImageSource, turn: Turn, grid: Grid) -> None:
        self._source = source
        self._turn = turn
        self.shape: tuple[int, ...] = (*grid.shape, *source.shape[3:])
        self.dtype: np.dtype[Any] = source.dtype
        self.affine: NDArray[np.float64] = grid.affine
        self.slope = source.slope
        self.intercept = source.intercept

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """Those of the image."""
        return self._source.attributes

    def slabs(self, depth: int) -> Iterator[Slab]:
        """See `ImageSource.slabs`; where slices do not come in order, they go through a temporary file."""
        if depth < 1:
            raise ValueError(f"depth is {depth}, use 1 or more")
        if self._turn.axes[2] == 2 and not self._turn.backwards[2]:
            for slab in self._source.slabs(depth):
                yield Slab(slab.z, slab.t, self._turn.voxels(slab.voxels))
            return
        n_times = self.shape[3] if len(self.shape) > 3 else 1
        columns, rows, _ = self._source.shape[:3]
        stored_depth = max(1, depth * self.shape[0] * self.shape[1] // max(1, columns * rows))
        with temporary_folder() as folder, open(folder / "turned", "w+b") as file:
            blocks: list[_Block] = []
            for slab in self._source.slabs(stored_depth):
                blocks.append(self._kept(file, slab, blocks))
                if slab.z + slab.voxels.shape[2] == self._source.shape[2]:
                    yield from self._turned(file, blocks, slab.t, depth)
                    blocks = []
            if blocks or n_times < 1:
                raise ImageReadError(Reason.TRUNCATED, "the image has fewer slices than it said")

    def _kept(self, file: BinaryIO, slab: Slab, before: list[_Block]) -> _Block:
        """Write a slab of the stored image, turned, slice by slice of what it becomes."""
        voxels = self._turn.voxels(slab.voxels)
        axis = self._turn.axes.index(2)
        start, thick, n = slab.z, slab.voxels.shape[2], self._source.shape[2]
        first = n - start - thick if self._turn.backwards[axis] else start
        low = [0, 0, 0]
        low[axis] = first
        offset = before[-1].end if before else 0
        block = _Block(offset, (low[0], low[1], low[2]), voxels.shape, self.dtype.itemsize)
        file.seek(offset)
        for z in range(voxels.shape[2]):
            file.write(voxels[:, :, z].astype(self.dtype, copy=False).tobytes(order="F"))
        return block

    def _turned(self, file: BinaryIO, blocks: list[_Block], t: int, depth: int) -> Iterator[Slab]:
        columns, rows, n_slices = self.shape[:3]
        for z in range(0, n_slices, depth):
            thick = min(depth, n_slices - z)
            voxels = np.empty((columns, rows, thick), self.dtype, order="F")
            for block in blocks:
                x0, y0, z0 = block.low
                width, height, there = block.shape
                first, last = max(z, z0), min(z + thick, z0 + there)
                if first >= last:
                    continue
                slice_bytes = width * height * block.itemsize
                file.seek(block.offset + (first - z0) * slice_bytes)
                data = file.read((last - first) * slice_bytes)
                part = np.frombuffer(data, self.dtype).reshape((width, height, last - first), order="F")
                voxels[x0 : x0 + width, y0 : y0 + height, first - z : last - z] = part
            yield Slab(z, t, voxels)

    def source_digest(self) -> str:
        """That of the image."""
        return self._source.source_digest()


@dataclass(frozen=True)
class _Block:
    """A box of turned voxels in the temporary file, slice after slice."""

    offset: int
    low: tuple[int, int, int]
    shape: tuple[int, ...]
    itemsize: int

    @property
    def end(self) -> int:
        return self.offset + math.prod(self.shape) * self.itemsize
