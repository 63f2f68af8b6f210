"""Cutting patches from one volume in a single pass, within a share of the memory budget.

1. The places are sorted by time point and first slice, and divided into rounds whose patches fit the budget.
2. Each round reads the slices that it needs, slab after slab, and copies each slab's part of every patch.
3. Where a patch is longer than its volume, the rest keeps the padding value.

Volumes that fit are read once, whole; larger ones in slabs that begin at tile borders, so that no tile is
decompressed twice for one round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.training.sampling import PatchPlace


class VoxelSource(Protocol):
    """A volume as the cutting sees it: stored values, read by box."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z) or (X, Y, Z, T)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The stored dtype."""

    @property
    def tile_depth(self) -> int:
        """Slices in one tile: the natural slab."""

    def read(self, low: Sequence[int], high: Sequence[int], t: int) -> NDArray[Any]:
        """Stored voxels of the box [low, high) of time point `t`, shape (X, Y, Z) of the box."""


def slab_depth(source: VoxelSource, limit_bytes: int) -> int:
    """Slices to read at once: as many whole tiles as fit `limit_bytes`, at least one slice."""
    slice_bytes = source.shape[0] * source.shape[1] * source.dtype.itemsize
    fits = max(1, limit_bytes // max(1, slice_bytes))
    return fits if fits < source.tile_depth else fits - fits % source.tile_depth


def slabs(
    source: VoxelSource, t: int, first: int, last: int, limit_bytes: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (z, stored voxels) for the slices [first, last) of one time point, cut at tile borders."""
    depth = slab_depth(source, limit_bytes)
    z = first
    while z < last:
        end = min(last, z - z % depth + depth)
        yield z, source.read((0, 0, z), (source.shape[0], source.shape[1], end), t)
        z = end


class HeldVolume:
    """A small volume, read once and then served from memory (a `VoxelSource` itself)."""

    def __init__(self, source: VoxelSource) -> None:
        self.shape = source.shape
        self.dtype = source.dtype
        self.tile_depth = source.tile_depth
        self._source = source
        self._voxels: dict[int, NDArray[Any]] = {}

    def read(self, low: Sequence[int], high: Sequence[int], t: int) -> NDArray[Any]:
        """See `VoxelSource.read`; the result is a view."""
        if t not in self._voxels:
            self._voxels[t] = self._source.read((0, 0, 0), self.shape[:3], t)
        return self._voxels[t][low[0] : high[0], low[1] : high[1], low[2] : high[2]]


def held(source: VoxelSource, limit_bytes: int) -> VoxelSource:
    """`source`, held in memory from its first read if all of it fits `limit_bytes`."""
    return HeldVolume(source) if int(np.prod(source.shape)) * source.dtype.itemsize <= limit_bytes else source


class LabelledVoxels:
    """The non-zero voxels of a 3D label volume, by number, without a list of them (a `Foreground`).

    One pass counts them in each slice: one integer a slice is all that is kept, however large the mask. A
    patch draws a number; the counts give its slice, and only that slice is looked at again.
    """

    def __init__(self, labels: VoxelSource, limit_bytes: int) -> None:
        self._labels = labels
        self._per_slice = np.zeros(labels.shape[2], dtype=np.int64)
        for z, slab in slabs(labels, 0, 0, labels.shape[2], limit_bytes):
            self._per_slice[z : z + slab.shape[2]] = np.count_nonzero(slab, axis=(0, 1))
        self._ends = np.cumsum(self._per_slice)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def voxel(self, number: int) -> tuple[int, int, int]:
        """Column, row and slice of labelled voxel `number`; they are numbered slice by slice."""
        z = int(np.searchsorted(self._ends, number, side="right"))
        in_slice = number - int(self._ends[z] - self._per_slice[z])
        plane = self._labels.read((0, 0, z), (self._labels.shape[0], self._labels.shape[1], z + 1), 0)[
            :, :, 0
        ]
        flat = int(np.flatnonzero(np.ascontiguousarray(plane))[in_slice])
        column, row = np.unravel_index(flat, plane.shape)
        return int(column), int(row), z


def padding_value(source: VoxelSource, slope: float, limit_bytes: int) -> int | float:
    """The stored value whose physical value is the smallest of the whole volume (all time points).

    In CT this is air or what the scanner writes outside its field of view, in MR and PET the background. NaN
    is passed over; a volume of nothing else pads with NaN.
    """
    pick = np.fmax.reduce if slope < 0 else np.fmin.reduce
    extremes = [
        pick(slab, axis=None)
        for t in range(source.shape[3] if len(source.shape) == 4 else 1)
        for _, slab in slabs(source, t, 0, source.shape[2], limit_bytes)
    ]
    value: int | float = pick(np.array(extremes)).item()
    return value


def needs_padding(shape: Sequence[int], size: Sequence[int]) -> bool:
    """Whether a patch of `size` is longer than the volume on some axis."""
    return any(wanted > extent for extent, wanted in zip(shape[:3], size, strict=True))


def rounds(
    places: Sequence[PatchPlace], patch_bytes: int, limit_bytes: int
) -> Iterator[tuple[PatchPlace, ...]]:
    """Divide the places, in reading order, into groups whose patches fit `limit_bytes` together."""
    ordered = sorted(places, key=lambda place: (place.t, place.start[2], place.number))
    group = max(1, limit_bytes // max(1, patch_bytes))
    for first in range(0, len(ordered), group):
        yield tuple(ordered[first : first + group])


def cut_patches(
    source: VoxelSource,
    places: Sequence[PatchPlace],
    size: Sequence[int],
    padding: int | float,
    limit_bytes: int,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Cut one round of patches.

    Parameters
    ----------
    padding
        Stored value outside the volume.
    limit_bytes
        Largest slab to read at once; the patches themselves are on top.
    out
        Array (N, X, Y, Z) of the source's dtype to write into.

    Returns
    -------
    (N, X, Y, Z) stored values, in the order of `places`. A 3D source serves every time point.
    """
    patches = np.empty((len(places), *size), dtype=source.dtype) if out is None else out
    if needs_padding(source.shape, size):
        patches[...] = padding
    times = sorted({place.t for place in places})
    for t in times if len(source.shape) == 4 else [0]:
        now = [(i, p) for i, p in enumerate(places) if p.t == t or len(source.shape) == 3]
        for low, high in _boxes(source, [place.start for _, place in now], size, limit_bytes):
            slab = source.read(low, high, t)
            for i, place in now:
                _copy_overlap(slab, low, high, patches[i], place.start)
    return patches


def _boxes(
    source: VoxelSource, starts: list[tuple[int, int, int]], size: Sequence[int], limit_bytes: int
) -> Iterator[tuple[list[int], list[int]]]:
    """The boxes to read for these patches: the columns and rows that any of them needs, in slabs of slices.

    Slices that no patch needs are skipped.
    """
    low = [max(0, min(start[axis] for start in starts)) for axis in range(3)]
    high = [min(source.shape[a], max(start[a] for start in starts) + size[a]) for a in range(3)]
    depth = slab_depth(source, limit_bytes)
    z = low[2]
    while z < high[2]:
        end = min(high[2], z - z % depth + depth)
        wanted = [start[2] for start in starts if start[2] < end and start[2] + size[2] > z]
        if wanted:
            first = max(z, min(wanted))
            last = min(end, max(wanted) + size[2])
            yield [low[0], low[1], first], [high[0], high[1], last]
        z = end


def _copy_overlap(
    slab: NDArray[Any], low: Sequence[int], high: Sequence[int], patch: NDArray[Any], start: Sequence[int]
) -> None:
    from_slab, into_patch = [], []
    for axis in range(3):
        first = max(low[axis], start[axis])
        last = min(high[axis], start[axis] + patch.shape[axis])
        if first >= last:
            return
        from_slab.append(slice(first - low[axis], last - low[axis]))
        into_patch.append(slice(first - start[axis], last - start[axis]))
    _copy_reordered(slab[tuple(from_slab)], patch[tuple(into_patch)])


def _copy_reordered(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy a box from Fortran order (as stored) to C order (as PyTorch wants it).

    Read along the slices, voxels of a 64^3 box lie a power of two apart, so they all fall into the same few
    cache lines. Through a buffer with odd distances the same copy is 2.7 times faster (0.43 to 0.16 ms,
    int16).
    """
    if source.size > 4096 and source.strides[2] % 1024 == 0:
        x, y, z = source.shape
        spaced = np.empty((x + 2, y + 1, z), source.dtype, order="F")[:x, :y]
        np.copyto(spaced, source)
        source = spaced
    np.copyto(target, source)
