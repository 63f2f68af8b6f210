"""A small picture of a volume that survives other names: its foreground, 24 voxels along each axis.

The foreground box is stretched to a cube, so spacing does not matter, nor how much air there is around; and
values are equalised with limited contrast (Pizer et al. 1987), so window, scale and offset matter little.
Turning and mirroring a volume turns and mirrors its thumbnail.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 24
COARSE = 8
_REDUCED = 128
_STEEPEST = 3.0
_PLANE = 0.01

Thumbnail = NDArray[np.uint16]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


class Reduction:
    """Means over blocks of a volume whose slabs come in order: at most 128 along each axis."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.factors = tuple(-(-size // _REDUCED) for size in shape)
        sizes = tuple(-(-size // factor) for size, factor in zip(shape, self.factors, strict=True))
        self._sums = np.zeros(sizes, np.float64)

    def add(self, z: int, slab: NDArray[np.float32]) -> None:
        """Take in a slab (X, Y, slices) that begins at slice `z`."""
        fx, fy, fz = self.factors
        planes = np.add.reduceat(slab, np.arange(0, slab.shape[0], fx), axis=0)
        planes = np.add.reduceat(planes, np.arange(0, slab.shape[1], fy), axis=1)
        for offset in range(slab.shape[2]):
            self._sums[:, :, (z + offset) // fz] += planes[:, :, offset]

    def means(self) -> NDArray[np.float32]:
        """The blocks' means."""
        parts = [
            np.minimum(factor, size - np.arange(0, size, factor))
            for size, factor in zip(self.shape, self.factors, strict=True)
        ]
        counts = parts[0][:, None, None] * parts[1][None, :, None] * parts[2][None, None, :]
        return np.asarray(self._sums / counts, dtype=np.float32)

    def box(self, threshold: float) -> Box:
        """Where the foreground is, in voxels of the volume: exact for sides of up to 128, else to a block.

        A plane belongs to it if a hundredth of its blocks does; of a volume without any, all of it.
        """
        return tuple(
            (low * factor, min(high * factor, size))
            for (low, high), factor, size in zip(
                _box_of(self.means() > threshold), self.factors, self.shape, strict=True
            )
        )  # type: ignore[return-value]

    def foreground(self, threshold: float) -> NDArray[np.float32]:
        """The blocks' means in the foreground box."""
        means = self.means()
        return means[tuple(slice(low, high) for low, high in _box_of(means > threshold))]

    def thumbnail(self, threshold: float) -> Thumbnail:
        """The foreground, as a cube of equalised values."""
        cube = self.foreground(threshold)
        for axis in range(3):
            weights = _resampling(cube.shape[axis], SIDE)
            cube = np.moveaxis(np.tensordot(weights, cube, axes=(1, axis)), 0, axis)
        return equalised(cube)


def _box_of(inside: NDArray[np.bool_]) -> Box:
    found = []
    for axis in range(3):
        share = inside.mean(axis=tuple(other for other in range(3) if other != axis))
        planes = np.flatnonzero(share > _PLANE)
        if not planes.size:
            planes = np.flatnonzero(share > 0)
        found.append((int(planes[0]), int(planes[-1]) + 1) if planes.size else (0, inside.shape[axis]))
    return found[0], found[1], found[2]


def _resampling(size: int, wanted: int) -> NDArray[np.float32]:
    """Weights (wanted, size) of the mean over each wanted cell, with linear interpolation between samples."""
    fine = 8
    at = (np.arange(wanted * fine) + 0.5) * size / (wanted * fine) - 0.5
    low = np.clip(np.floor(at).astype(int), 0, size - 1)
    high = np.minimum(low + 1, size - 1)
    part = np.clip(at - low, 0.0, 1.0)
    weights = np.zeros((wanted, size))
    rows = np.arange(wanted * fine) // fine
    np.add.at(weights, (rows, low), (1 - part) / fine)
    np.add.at(weights, (rows, high), part / fine)
    return weights.astype(np.float32)


def equalised(cube: NDArray[np.float32]) -> Thumbnail:
    """Values as 0-65535, evenly used, but no step of values made more than three times as steep."""
    low, high = np.percentile(cube, (0.5, 99.5))
    if not high > low:
        return np.zeros(cube.shape, np.uint16)
    at = np.clip((cube - low) / (high - low) * 255, 0, 255)
    counts = np.bincount(at.astype(np.int64).ravel(), minlength=256) / cube.size
    limited = np.minimum(counts, _STEEPEST / 256)
    limited += (1.0 - limited.sum()) / 256
    curve = np.concatenate([[0.0], np.cumsum(limited)]) * 65535
    levels = np.round(np.interp(at, np.arange(257) * 255 / 256, curve))
    return np.asarray(levels, dtype=np.uint16)


# The 48 ways to turn and mirror a cube: which axis goes where, and which are reversed.
ORIENTATIONS = tuple(product(permutations(range(3)), product((1, -1), repeat=3)))


def oriented(cube: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The cube (its last three axes), turned and mirrored in one of 48 ways; the first leaves it as it is."""
    order, steps = ORIENTATIONS[orientation]
    lead = cube.ndim - 3
    turned = cube.transpose((*range(lead), *(lead + axis for axis in order)))
    x, y, z = (slice(None, None, step) for step in steps)
    return np.asarray(turned[..., x, y, z])


def coarse(thumbnails: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Thumbnails (N, 24, 24, 24) as (N, 8, 8, 8), each with mean 0 and length 1."""
    step = SIDE // COARSE
    blocks = thumbnails.reshape(-1, *(COARSE, step) * 3).mean(axis=(2, 4, 6), dtype=np.float32)
    blocks -= blocks.mean(axis=(1, 2, 3), keepdims=True)
    length = np.sqrt((blocks**2).sum(axis=(1, 2, 3), keepdims=True))
    return np.asarray(blocks / np.maximum(length, 1e-6), dtype=np.float32)


def _orbits() -> tuple[NDArray[np.int64], ...]:
    """Cells of the coarse cube that some turn takes into each other."""
    fold = np.minimum(np.arange(COARSE), COARSE - 1 - np.arange(COARSE))
    cells = np.sort(np.stack(np.meshgrid(fold, fold, fold, indexing="ij"), -1).reshape(-1, 3), axis=1)
    _, number = np.unique(cells, axis=0, return_inverse=True)
    return tuple(np.flatnonzero(number == one) for one in range(number.max() + 1))


_ORBITS = _orbits()


def descriptors(thumbnails: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Numbers (N, 80) that are the same however a thumbnail is turned: of each set of cells that turns take
    into each other the mean, the spread, the least and the greatest value.
    """
    flat = coarse(thumbnails).reshape(len(thumbnails), -1)
    parts = []
    for cells in _ORBITS:
        values = flat[:, cells]
        parts += [values.mean(1), values.std(1), values.min(1), values.max(1)]
        # sets are of 8 to 48 cells: each counts by how much of the cube it is
        for one in range(-4, 0):
            parts[one] = parts[one] * np.float32(np.sqrt(len(cells) / 4))
    return np.stack(parts, axis=1).astype(np.float32)
