"""Two thumbnails laid over each other by a shift and a scale along each axis, and compared in fine detail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.profiling.thumbnail import ORIENTATIONS, SIDE, oriented

Array = NDArray[np.float32]
Floats = NDArray[np.float64]

_GRID = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2.0)
_LEVELS = ((2.5, 6), (1.2, 6))
"""Blur (voxels) and steps of each level of the fit."""
_DETAIL = 2.0
_MOST_SCALE = 1.5
_LEAST_OVERLAP = 0.3
_WAYS = 2
_REACH_CELLS = 3
_FLAT = 400.0**2 / 100
"""Variance (of values 0 to 65535) below which a neighbourhood says nothing."""


@lru_cache(maxsize=8)
def _blur(sigma: float) -> Array:
    weights = np.exp(-0.5 * ((_GRID[:, None] - _GRID[None, :]) / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _along(matrices: tuple[Array, Array, Array], cube: Array) -> Array:
    """A matrix for each axis, applied to a cube."""
    for axis, matrix in enumerate(matrices):
        cube = np.moveaxis(np.tensordot(matrix, cube, axes=(1, axis)), 0, axis)
    return cube


def blurred(cube: Array, sigma: float) -> Array:
    """Smoothed by a Gaussian of `sigma` voxels."""
    matrix = _blur(sigma)
    return _along((matrix, matrix, matrix), cube)


def _sampling(scale: float, shift: float) -> tuple[Array, NDArray[np.bool_]]:
    """Weights of linear interpolation at `scale * x + shift` about the middle, and which are inside."""
    at = scale * _GRID + shift + (SIDE - 1) / 2.0
    inside = (at >= -0.5) & (at <= SIDE - 0.5)
    at = np.clip(at, 0, SIDE - 1)
    low = np.minimum(np.floor(at).astype(int), SIDE - 2)
    weights = np.zeros((SIDE, SIDE), np.float32)
    rows = np.arange(SIDE)
    weights[rows, low] = 1 - (at - low)
    weights[rows, low + 1] = at - low
    return weights, np.asarray(inside, dtype=bool)


def _placed(cube: Array, scale: Floats, shift: Floats) -> tuple[Array, NDArray[np.bool_]]:
    (x, in_x), (y, in_y), (z, in_z) = (
        _sampling(*one) for one in zip(scale.tolist(), shift.tolist(), strict=True)
    )
    inside = in_x[:, None, None] & in_y[None, :, None] & in_z[None, None, :]
    return _along((x, y, z), cube), inside.astype(bool)


def _normal(values: Array) -> Array:
    values = values - values.mean()
    length = np.sqrt((values**2).sum())
    return np.asarray(values / max(float(length), 1e-9))


@dataclass(frozen=True)
class Fit:
    """Two thumbnails, the second turned and laid over the first."""

    likeness: float
    """Mean of the correlations of small neighbourhoods, where they overlap: 1 for the same image."""
    way: int
    """How the second was turned: an index of `ORIENTATIONS`."""
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Cells of the second, turned, for one of the first, along each axis."""
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Cells from the middle of the second to where the middle of the first lies."""


def best_fit(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> Fit:
    """The best of all ways to lay one thumbnail over another."""
    fixed, moving = first.astype(np.float32), second.astype(np.float32)
    fits = [
        _fitted(fixed, np.ascontiguousarray(oriented(moving, way)), way, shift)
        for way, shift in _starts(fixed, moving)
    ]
    return max(fits, key=lambda found: found.likeness, default=Fit(0.0, 0))


def _starts(fixed: Array, moving: Array) -> list[tuple[int, Floats]]:
    """The orientations, each with its shift, at which the coarse details agree best."""
    small, other = (_coarse_detail(cube) for cube in (fixed, moving))
    n = small.shape[0]
    sizes = (2 * n,) * 3
    turned = np.stack([oriented(other, way) for way in range(len(ORIENTATIONS))])
    spectrum = np.fft.rfftn(turned, sizes, axes=(1, 2, 3)) * np.conj(np.fft.rfftn(small, sizes))
    scores = np.fft.irfftn(spectrum, sizes, axes=(1, 2, 3))
    near = np.r_[0 : _REACH_CELLS + 1, -_REACH_CELLS:0]
    scores = scores[:, near[:, None, None], near[None, :, None], near[None, None, :]]
    flat = scores.reshape(len(ORIENTATIONS), -1)
    ways = np.argsort(flat.max(axis=1))[::-1][:_WAYS]
    return [
        (int(w), 2.0 * near[np.array(np.unravel_index(int(flat[w].argmax()), scores.shape[1:]))])
        for w in ways
    ]


def _coarse_detail(cube: Array) -> Array:
    fine = blurred(cube, 1.0) - blurred(cube, 4.0)
    small = fine.reshape(SIDE // 2, 2, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(1, 3, 5))
    return _normal(small)


def _fitted(fixed: Array, moving: Array, way: int, shift: Floats) -> Fit:
    scale: Floats = np.ones(3)
    for sigma, steps in _LEVELS:
        scale, shift = _steps(blurred(fixed, sigma), blurred(moving, sigma), scale, shift, steps)
    placed, inside = _placed(moving, scale, shift)
    if inside.mean() < _LEAST_OVERLAP:
        return Fit(0.0, way)
    (x, y, z), (u, v, w) = scale.tolist(), shift.tolist()
    return Fit(_local_likeness(fixed, placed, inside), way, (x, y, z), (u, v, w))


def _local_likeness(fixed: Array, placed: Array, inside: NDArray[np.bool_]) -> float:
    """Mean of the correlations of neighbourhoods, each counted alike: structure decides, not outlines."""
    weight = blurred(inside.astype(np.float32), _DETAIL)
    means = [blurred(cube * inside, _DETAIL) / np.maximum(weight, 1e-6) for cube in (fixed, placed)]
    a, b = (np.where(inside, cube - mean, 0.0) for cube, mean in zip((fixed, placed), means, strict=True))
    together, own, other = (blurred(one, _DETAIL) for one in (a * b, a * a, b * b))
    there = inside & (own > _FLAT) & (other > _FLAT) & (weight > 0.5)
    if there.mean() < _LEAST_OVERLAP / 2:
        return 0.0
    return max(0.0, float((together[there] / np.sqrt(own[there] * other[there])).mean()))


def _steps(fixed: Array, moving: Array, scale: Floats, shift: Floats, steps: int) -> tuple[Floats, Floats]:
    """Gauss-Newton on the difference of the normalised images."""
    best, kept = -np.inf, (scale, shift)
    for _ in range(steps):
        placed, inside = _placed(moving, scale, shift)
        if inside.mean() < _LEAST_OVERLAP:
            break
        a, b = _normal(fixed[inside]), _normal(placed[inside])
        score = float((a * b).sum())
        if score > best:
            best, kept = score, (scale, shift)
        elif score < best - 0.02:
            break
        spread = np.sqrt(((placed[inside] - placed[inside].mean()) ** 2).sum())
        slopes = np.gradient(placed)
        columns = []
        for axis, slope in enumerate(slopes):
            # the slope of the placed image is that of the moving one times the scale
            steep = (slope / scale[axis])[inside] / max(float(spread), 1e-9)
            where = np.broadcast_to(np.expand_dims(_GRID, tuple({0, 1, 2} - {axis})), placed.shape)[inside]
            columns += [steep - steep.mean(), steep * where - (steep * where).mean()]
        system = np.stack(columns, axis=1)
        normal = system.T @ system
        step = np.linalg.solve(normal + np.eye(6) * 1e-4 * max(normal.trace(), 1e-9), system.T @ (a - b))
        shift = shift + np.clip(step[0::2], -2.0, 2.0)
        scale = np.clip(scale + np.clip(step[1::2], -0.15, 0.15), 1 / _MOST_SCALE, _MOST_SCALE)
    return kept
