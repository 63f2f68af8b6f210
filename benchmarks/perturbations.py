"""What happens to images on their way to a second name: twelve changes that leave the image the same."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Perturbation = Callable[[Array, np.random.Generator], Array]


def _along(cube: Array, axis: int, factor: float) -> Array:
    wanted = max(2, round(cube.shape[axis] * factor))
    at = np.clip((np.arange(wanted) + 0.5) / factor - 0.5, 0, cube.shape[axis] - 1)
    low = np.minimum(np.floor(at).astype(int), max(cube.shape[axis] - 2, 0))
    part = (at - low).reshape([-1 if one == axis else 1 for one in range(3)])
    high = np.minimum(low + 1, cube.shape[axis] - 1)
    return np.asarray(np.take(cube, low, axis) * (1 - part) + np.take(cube, high, axis) * part, np.float32)


def resampled_finer(cube: Array, random: np.random.Generator) -> Array:
    """To voxels of 0.7 of the size, along all axes."""
    for axis in range(3):
        cube = _along(cube, axis, 1 / 0.7)
    return cube


def resampled_coarser(cube: Array, random: np.random.Generator) -> Array:
    """To voxels of 1.5 times the size in the plane, and 1.25 along slices."""
    for axis, factor in enumerate((1.5, 1.5, 1.25)):
        cube = _along(cube, axis, 1 / factor)
    return cube


def cropped_evenly(cube: Array, random: np.random.Generator) -> Array:
    """Without the outer 6 % on each side."""
    edges = [max(1, round(size * 0.06)) if size > 6 else 0 for size in cube.shape]
    return cube[tuple(slice(edge, size - edge) for edge, size in zip(edges, cube.shape, strict=True))]


def cropped_on_one_side(cube: Array, random: np.random.Generator) -> Array:
    """Without the first 12 % along each axis."""
    return cube[tuple(slice(round(size * 0.12) if size > 6 else 0, None) for size in cube.shape)]


def windowed(cube: Array, random: np.random.Generator) -> Array:
    """Clipped to a display window: from the 20th to the 98th percentile."""
    low, high = np.percentile(cube, (20, 98))
    return np.clip(cube, low, max(high, low + 1e-3))


def eight_bits(cube: Array, random: np.random.Generator) -> Array:
    """Between the extreme thousandths in 256 steps."""
    low, high = np.percentile(cube, (0.1, 99.9))
    return np.asarray(np.round(np.clip((cube - low) / max(high - low, 1e-6), 0, 1) * 255), np.float32)


def jpeg(cube: Array, random: np.random.Generator) -> Array:
    """Slice by slice through a JPEG of quality 60."""
    cube = eight_bits(cube, random)
    planes = []
    for z in range(cube.shape[2]):
        file = io.BytesIO()
        Image.fromarray(cube[:, :, z].astype(np.uint8)).save(file, "JPEG", quality=60)
        planes.append(np.asarray(Image.open(file), np.float32))
    return np.stack(planes, axis=2)


def as_float(cube: Array, random: np.random.Generator) -> Array:
    """As NIfTI of another writer has it: scaled integers, and axes in another order of storage."""
    step = max(float(np.ptp(cube)) / 32000, 1e-6)
    return np.asarray(np.round(cube / step) * step, np.float32)[::-1, ::-1]


def axes_in_another_order(cube: Array, random: np.random.Generator) -> Array:
    """Slices become columns."""
    return cube.transpose(2, 0, 1)


def mirrored(cube: Array, random: np.random.Generator) -> Array:
    """Left and right exchanged, as no affine says."""
    return cube[::-1]


def noisy(cube: Array, random: np.random.Generator) -> Array:
    """With noise of 2 % of the range of values."""
    low, high = np.percentile(cube, (1, 99))
    return np.asarray(cube + random.normal(0, 0.02 * max(high - low, 1e-6), cube.shape), np.float32)


def scaled(cube: Array, random: np.random.Generator) -> Array:
    """In other units, and a little brighter in the middle range (gamma 0.8)."""
    low, high = float(cube.min()), float(cube.max())
    return np.asarray(((cube - low) / max(high - low, 1e-6)) ** 0.8 * 731.0 + 12.0, np.float32)


PERTURBATIONS: tuple[Perturbation, ...] = (
    resampled_finer,
    resampled_coarser,
    cropped_evenly,
    cropped_on_one_side,
    windowed,
    eight_bits,
    jpeg,
    as_float,
    axes_in_another_order,
    mirrored,
    noisy,
    scaled,
)
