"""The volumes that benchmarks of reading and training use, made from a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHAPE = (240, 240, 155)
"""Voxels of a BraTS volume, the most used shape of MR training data."""


def make_volumes(
    count: int, shape: tuple[int, int, int] = SHAPE, background_noise: float = 0.0
) -> list[NDArray[np.int16]]:
    """Volumes that compress as MR does: smooth tissue with noise inside an ellipsoid.

    Outside they are zero, as after skull stripping, or Rician noise of a scale of `background_noise`, as
    scanners make.
    """
    rng = np.random.default_rng(7)
    axes = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.7
    volumes = []
    for _ in range(count):
        phase = rng.uniform(0, 6, 3)
        tissue = 500 + 150 * sum(np.sin(5 * axis + p) for axis, p in zip(axes, phase, strict=True))
        noisy = tissue + rng.normal(0, 20, shape).astype(np.float32)
        outside: NDArray[np.float64] | float = 0.0
        if background_noise:
            outside = np.hypot(*(rng.normal(0, background_noise, shape) for _ in range(2)))
        volumes.append(np.where(inside, noisy, outside).astype(np.int16))
    return volumes
