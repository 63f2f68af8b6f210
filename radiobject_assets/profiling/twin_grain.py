"""The grain of two images that look alike: noise and fine texture, which only the very same image has too.

Thumbnails tell people apart by their anatomy. Phantoms, templates and repeated scans of one object have the
same anatomy; what differs is the noise. So of a pair that looks alike the voxels are read, laid over each
other, and compared where both are flat. This can only acquit: where there is no grain to compare (smoothed,
synthetic or strongly encoded images) it says nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.profiling.thumbnail import SIDE, oriented
from radiobject_assets.profiling.twin_fit import Fit

Array = NDArray[np.float32]

LEAST_AGREEMENT = 0.05
"""Correlation of the grain below which two images are not one: phantoms of one making have up to 0.03, the
same image as a JPEG of quality 60 has 0.09 and more."""
_FLATTEST = 12
_LEAST_VOXELS = 600
_NO_GRAIN = 1e-4
"""Part of the range of values: what rounding leaves of a smooth image is less."""
_SHIFTS = (-0.5, 0.0, 0.5)
_SCALES = (0.99, 1.0, 1.01)


def grain_agreement(first: Array, second: Array, fit: Fit) -> float | None:
    """Correlation of the grain where both are flat; None where there is too little of it.

    Parameters
    ----------
    first, second
        The foregrounds of both, each as stored, or reduced to means over blocks.
    fit
        How their thumbnails lie over each other.
    """
    turned = np.ascontiguousarray(oriented(second, fit.way))
    maps = [  # index in the second for an index of the first: slope and offset, by axis
        (s * m / n, (((s * (0.5 / n - 0.5) + 0.5) + t / SIDE) * m) - 0.5)
        for s, t, n, m in zip(fit.scale, fit.shift, first.shape, turned.shape, strict=True)
    ]
    if np.prod([slope for slope, _ in maps]) < 1.0:  # the coarser one is the grid
        first, turned = turned, first
        maps = [(1 / slope, -offset / slope) for slope, offset in maps]
    placed, inside = _laid_over(first, turned, maps)
    return _agreement(first, placed, inside)


def _laid_over(
    first: Array, second: Array, maps: list[tuple[float, float]]
) -> tuple[Array, NDArray[np.bool_]]:
    """The second on the grid of the first, after a search about each axis's shift and scale."""
    fine, other_fine = first - _mean(first, 3), second - _mean(second, 3)
    weights = [_weights(n, m, *one) for n, m, one in zip(first.shape, second.shape, maps, strict=True)]
    for axis in (0, 1, 2):
        # the other two axes as they are: only this one is laid anew for each try
        half = other_fine
        for other in {0, 1, 2} - {axis}:
            half = _apply(weights[other][0], half, other)
        slope, offset = maps[axis]
        n, m = first.shape[axis], second.shape[axis]
        best = (-2.0, maps[axis])
        for scale in _SCALES:
            for shift in _SHIFTS:
                middle = slope * (n - 1) / 2 + offset
                tried = (slope * scale, middle + shift * max(slope, 1.0) - slope * scale * (n - 1) / 2)
                there, seen = _weights(n, m, *tried)
                rows = _apply(there, half, axis)
                score = _correlation(np.compress(seen, fine, axis), np.compress(seen, rows, axis))
                best = max(best, (score, tried))
        maps[axis] = best[1]
        weights[axis] = _weights(n, m, *best[1])
    placed = second
    for axis in (0, 1, 2):
        placed = _apply(weights[axis][0], placed, axis)
    x, y, z = (seen for _, seen in weights)
    return placed, np.asarray(x[:, None, None] & y[None, :, None] & z[None, None, :])


def _agreement(first: Array, second: Array, inside: NDArray[np.bool_]) -> float | None:
    energies = [_mean((cube - _mean(cube, 5)) ** 2, 5) for cube in (first, second)]
    ranges = [max(float(np.ptp(cube)), 1e-9) for cube in (first, second)]
    there = inside
    for energy, wide in zip(energies, ranges, strict=True):
        there = there & (energy > (_NO_GRAIN * wide) ** 2)
    if not there.any():
        return None
    together = np.sqrt(energies[0] * energies[1])
    flat = there & (together <= np.percentile(together[there], _FLATTEST))
    if flat.sum() < _LEAST_VOXELS:
        return None
    grained = [cube - _mean(cube, 3) for cube in (first, second)]
    grains = [cube[flat] / np.sqrt(energy[flat]) for cube, energy in zip(grained, energies, strict=True)]
    if any(float(cube[flat].std()) < _NO_GRAIN * wide for cube, wide in zip(grained, ranges, strict=True)):
        return None
    return _correlation(*grains)


def _weights(n: int, m: int, slope: float, offset: float) -> tuple[Array, NDArray[np.bool_]]:
    """Weights (n, m) of the mean over each cell of linear interpolation, and which cells are inside."""
    parts = 4 if slope > 1.05 else 1
    steps = (np.arange(parts) + 0.5) / parts - 0.5
    at = (slope * (np.arange(n)[:, None] + steps[None, :]) + offset).ravel()
    middle = slope * np.arange(n) + offset
    seen = (middle >= 0) & (middle <= m - 1)
    at = np.clip(at, 0, m - 1)
    low = np.minimum(np.floor(at).astype(int), max(m - 2, 0))
    high = np.minimum(low + 1, m - 1)
    weights = np.zeros((n, m), np.float32)
    rows = np.arange(n * parts) // parts
    np.add.at(weights, (rows, low), (1 - (at - low)) / parts)
    np.add.at(weights, (rows, high), (at - low) / parts)
    return weights, seen


def _apply(weights: Array, cube: Array, axis: int) -> Array:
    return np.asarray(np.moveaxis(np.tensordot(weights, cube, axes=(1, axis)), 0, axis))


def _mean(cube: Array, width: int) -> Array:
    """Mean over `width` voxels along each axis; at the edges, over those that there are."""
    for axis in range(3):
        size, half = cube.shape[axis], width // 2
        sums = np.concatenate([np.zeros_like(np.take(cube, [0], axis)), cube], axis).cumsum(axis, np.float64)
        low = np.maximum(np.arange(size) - half, 0)
        high = np.minimum(np.arange(size) + half + 1, size)
        counts = (high - low).reshape([-1 if one == axis else 1 for one in range(3)])
        cube = ((np.take(sums, high, axis) - np.take(sums, low, axis)) / counts).astype(np.float32)
    return cube


def _correlation(first: Array, second: Array) -> float:
    a, b = first - first.mean(), second - second.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-12))
