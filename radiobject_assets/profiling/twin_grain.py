"""Two images that look alike, compared voxel by voxel: are they one?

Thumbnails tell people apart by their anatomy. Phantoms, templates and repeated scans of one object have
nearly the same anatomy; so of a pair that looks alike the voxels are read and laid over each other. Two
things are measured.

- *Grain*: noise and fine texture, which only the very same image has too. It is taken where both are
  flattest, neighbourhoods of three voxels, since in small images anything wider holds edges, and edges of two
  phantoms agree. Strong encoding takes the grain away, and added noise buries it.
- *Difference*: where both have structure, the part of it that the other does not explain, in the worst of the
  neighbourhoods. Of one image that is little more than noise, everywhere; of two, some organ is elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.profiling.thumbnail import SIDE, oriented
from radiobject_assets.profiling.twin_fit import Fit

Array = NDArray[np.float32]

_SAME_GRAIN = 0.2
"""Correlation of the grain from which two images are one: different ones had up to 0.07."""
_NO_COMMON_GRAIN = 0.05
"""Below, where both have as much of it, grain is not the same: two scans of one object, say."""
_MORE_GRAIN = 3.0
"""Times that of the other: noise was added or taken away, and what is common may be buried."""
_FAINT = 1 / 256
"""Part of the range of values: less is lost when an image is encoded in 8 bits."""
_SAME_STRUCTURE = 0.28
"""Part of the worst neighbourhoods that is unexplained, up to which the structure is one."""
_OTHER_STRUCTURE = 0.33
_BLURRED_STRUCTURE = 0.40
"""The same where the grain agrees by more than chance (JPEG leaves little of it, and rings at edges)."""
_BEYOND_CHANCE = 5.0
"""Standard errors of a correlation of so many voxels: different images had up to 2.5, large JPEGs 5.8."""
_FLATTEST = 4
"""Percent of the voxels that are taken for grain."""
_LEAST_VOXELS = 200
_STRONGEST = 70
_WORST = 98
_ABOVE_NOISE = 16.0
"""Times the energy of the flattest neighbourhoods: what has less is not structure."""
_NO_GRAIN = 1e-4
"""Part of the range of values: what rounding leaves of a smooth image is less."""
_SHIFTS = (-0.5, 0.0, 0.5)
_SCALES = (0.99, 1.0, 1.01)


class Sameness(Enum):
    """What voxels say of two images that look alike."""

    ONE = "one"
    ALIKE = "alike"
    """Neither can be said: too few voxels, or too little in them."""
    TWO = "two"


@dataclass(frozen=True)
class Detail:
    """Two images laid over each other, compared in detail."""

    grain: float | None
    """Correlation of the grain where both are flat; None where there is none."""
    deviations: float
    """Of the grain from 0, in standard errors."""
    can_differ: bool
    """Both have so much grain, and so alike much, that of one image it would agree."""
    difference: float | None
    """Part of the energy of the worst neighbourhoods that the other does not explain; None: no structure."""

    @property
    def sameness(self) -> Sameness:
        """Whether the two are one image."""
        if self.grain is not None and self.grain >= _SAME_GRAIN:
            return Sameness.ONE
        if self.difference is None:
            return Sameness.ALIKE
        if self.deviations >= _BEYOND_CHANCE and self.difference <= _BLURRED_STRUCTURE:
            return Sameness.ONE
        is_other = self.can_differ and self.grain is not None and self.grain < _NO_COMMON_GRAIN
        if is_other or self.difference > _OTHER_STRUCTURE:
            return Sameness.TWO
        return Sameness.ONE if self.difference <= _SAME_STRUCTURE else Sameness.ALIKE


def compared_in_detail(first: Array, second: Array, fit: Fit) -> Detail:
    """Grain and difference of two images whose thumbnails look alike.

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
    return Detail(*_grain(first, placed, inside), _difference(first, placed, inside))


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


def _grain(first: Array, second: Array, inside: NDArray[np.bool_]) -> tuple[float | None, float, bool]:
    """Its correlation, that in standard errors, and whether there is enough of it to differ."""
    grained = [cube - _mean(cube, 3) for cube in (first, second)]
    energies = [_mean(cube**2, 3) for cube in grained]
    there = inside & _has_detail(first, energies[0]) & _has_detail(second, energies[1])
    together = np.sqrt(energies[0] * energies[1])
    if not there.any():
        return None, 0.0, False
    flat = there & (together <= np.percentile(together[there], _FLATTEST))
    if flat.sum() < _LEAST_VOXELS:
        return None, 0.0, False
    levels = [
        float(cube[flat].std() / max(np.diff(np.percentile(whole[inside], (2, 98)))[0], 1e-9))
        for cube, whole in zip(grained, (first, second), strict=True)
    ]
    if min(levels) < _NO_GRAIN:
        return None, 0.0, False
    can_differ = min(levels) > max(_FAINT, max(levels) / _MORE_GRAIN)
    grains = [cube[flat] / np.sqrt(energy[flat]) for cube, energy in zip(grained, energies, strict=True)]
    correlation = _correlation(*grains)
    return correlation, correlation * float(np.sqrt(flat.sum())), can_differ


def _difference(first: Array, second: Array, inside: NDArray[np.bool_]) -> float | None:
    fine = [cube - _mean(cube, 5) for cube in (first, second)]
    energies = [_mean(cube**2, 5) for cube in fine]
    there = inside & _has_detail(first, energies[0]) & _has_detail(second, energies[1])
    if not there.any():
        return None
    strong = there
    for energy in energies:
        flat, much = np.percentile(energy[there], (3, _STRONGEST))
        strong = strong & (energy > max(much, _ABOVE_NOISE * flat))
    if strong.sum() < _LEAST_VOXELS:
        return None
    together = np.maximum(_mean(fine[0] * fine[1], 5)[strong], 0.0)
    return float(np.percentile(1 - together**2 / (energies[0] * energies[1])[strong], _WORST))


def _has_detail(cube: Array, energy: Array) -> NDArray[np.bool_]:
    return np.asarray(energy > (_NO_GRAIN * max(float(np.ptp(cube)), 1e-9)) ** 2)


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
