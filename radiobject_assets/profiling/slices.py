"""Slice by slice: what is constant, what lost its signal, and what jumps between neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DROPOUT = 0.6


class SliceWatch:
    """Looks at the slices of one time point as they come, in order, keeping two of them."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._voxels = shape[0] * shape[1]
        self._means: list[float] = []
        self._constant = 0
        self._residuals: list[float] = []
        self._before: list[NDArray[np.float32]] = []

    def add(self, slab: NDArray[np.float32]) -> None:
        """Look at a slab (X, Y, slices) of finite physical values."""
        for z in range(slab.shape[2]):
            plane = slab[:, :, z]
            self._means.append(float(plane.mean(dtype=np.float64)))
            self._constant += int(plane.min() == plane.max())
            self._before = [*self._before, plane][-3:]
            if len(self._before) == 3:
                first, middle, last = self._before
                apart = np.abs(middle - (first + last) / 2).mean(dtype=np.float64)
                self._residuals.append(float(apart))
        self._before = [plane.copy() for plane in self._before]

    def quality(self, low: float, spread: float) -> dict[str, float | None]:
        """Figures over all slices.

        - `constant_slices`: slices in which all voxels are the same.
        - `dropout_slices`: slices whose mean, above the background, is less than 0.6 of that of both
          neighbours: signal lost for one slice, as motion does in diffusion imaging (as the slice-wise check
          of DTIPrep: Oguz et al. 2014, Front Neuroinform 8:4).
        - `interslice_difference`: how far a slice is from the mean of its neighbours, median over slices,
          as a part of the range of values.
        - `interslice_jump`: the greatest such distance by the median one: large where one slice was moved.

        Parameters
        ----------
        low, spread
            Background value, and range of values.
        """
        means = np.asarray(self._means) - low
        inner, least = means[1:-1], np.minimum(means[:-2], means[2:])
        lost = (inner < _DROPOUT * least) & (least > 0.02 * spread) if len(means) > 2 else np.zeros(0)
        middle = float(np.median(self._residuals)) if self._residuals else 0.0
        has_both = middle > 0 and spread > 0
        return {
            "constant_slices": float(self._constant),
            "dropout_slices": float(lost.sum()),
            "interslice_difference": middle / spread if has_both else None,
            "interslice_jump": max(self._residuals) / middle if has_both else None,
        }
