"""How often each value occurs in a volume, counted slab by slab, and what follows from that alone.

Volumes of 8- and 16-bit integers are counted exactly. Others are counted by the first 20 bits of their
float32 form (sign, exponent, 11 bits of the mantissa): one pass, 8 MB, whatever the range, and each value is
known to one part in 4,000. Extremes, mean and standard deviation are exact for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BITS = 12
"""Bits of a float32 that are left out."""
_OTSU_BINS = 256
_GREATEST = float(np.finfo(np.float32).max)
# Rayleigh noise of a magnitude image has this part of the standard deviation of its Gaussian parts.
_DIETRICH = 1.0 / math.sqrt(2.0 / (4.0 - math.pi))


@dataclass(frozen=True)
class CountedValues:
    """The finite values of a volume, each once, with how often it occurs."""

    values: NDArray[np.float64]
    """Physical values, ascending."""
    counts: NDArray[np.int64]
    mean: float
    std: float
    """Of the whole population."""
    non_finite: int
    """NaN and infinite voxels, which are in nothing else."""

    @property
    def total(self) -> int:
        """Number of finite voxels."""
        return int(self.counts.sum())

    def percentiles(self, wanted: Sequence[float]) -> list[float]:
        """As `numpy.percentile` gives them; of floats, to one part in 4,000."""
        ends = np.cumsum(self.counts)
        positions = (self.total - 1) * np.asarray(wanted, dtype=np.float64) / 100.0
        low, high = np.floor(positions), np.ceil(positions)
        below = self.values[np.searchsorted(ends, low, side="right")]
        above = self.values[np.searchsorted(ends, high, side="right")]
        return [float(v) for v in below + (above - below) * (positions - low)]

    def histogram(self, low: float, high: float, bins: int) -> NDArray[np.int64]:
        """Counts in equal bins from `low` to `high`; what lies outside is counted in the first and last."""
        width = (high - low) / bins
        # of values out of all bounds the width is no number, or 0
        with np.errstate(all="ignore"):
            at = np.clip(np.nan_to_num(np.floor((self.values - low) / width)), 0, bins - 1).astype(np.int64)
        found = np.bincount(at, weights=self.counts.astype(np.float64), minlength=bins)
        return found.astype(np.int64)

    def threshold(self) -> float:
        """What parts foreground from background best, between the extreme hundredths (Otsu 1979)."""
        low, high = self.percentiles((0.5, 99.5))
        if not high > low:
            return low
        weights = self.histogram(low, high, _OTSU_BINS).astype(np.float64)
        centres = low + (np.arange(_OTSU_BINS) + 0.5) * (high - low) / _OTSU_BINS
        below = np.cumsum(weights)[:-1]
        above = weights.sum() - below
        sums = np.cumsum(weights * centres)
        apart = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
        between = below * above * apart**2
        # several thresholds are as good where nothing lies between: the middle one
        best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
        return float(low + (best.mean() + 1.0) * (high - low) / _OTSU_BINS)

    def quality(self, threshold: float) -> dict[str, float | None]:
        """Figures of quality that follow from the values alone; None where there is no background.

        - `foreground_fraction`: part of the voxels above the threshold.
        - `snr_dietrich`: mean of the foreground by the noise of the background, corrected for magnitude
          images (Dietrich et al. 2007, J Magn Reson Imaging 26:375). Of MR; of CT it is a figure of contrast.
        - `fber`: energy of the foreground by that of the background (Shehzad et al. 2015, Preprocessed
          Connectomes Project).
        - `efc`: entropy focus criterion, 0 where few voxels have all energy, 1 where all have the same: more
          with ghosts and blur of motion (Atkinson et al. 1997, IEEE Trans Med Imaging 16:903).
        - `clipped_fraction`: part of the voxels that have the greatest value.

        Energies are of values above the least one, so that Hounsfield units have them too.
        """
        inside = self.values > threshold
        n, n_inside = self.total, int(self.counts[inside].sum())
        lifted, weights = self.values - self.values[0], self.counts.astype(np.float64)
        found: dict[str, float | None] = {
            "foreground_fraction": n_inside / n,
            "clipped_fraction": float(self.counts[-1]) / n,
            "snr_dietrich": None,
            "fber": None,
            "efc": None,
        }
        energy = float((lifted**2 * weights).sum())
        if energy > 0 and n > 1:
            part = lifted / math.sqrt(energy)
            entropy = float((weights * part * np.log(part + 1e-16)).sum())
            found["efc"] = entropy / (n / math.sqrt(n) * math.log(1.0 / math.sqrt(n)))
        if 0 < n_inside < n:
            outer = weights[~inside]
            mean = float((lifted[~inside] * outer).sum()) / outer.sum()
            noise = math.sqrt(float(((lifted[~inside] - mean) ** 2 * outer).sum()) / outer.sum())
            signal = float((lifted[inside] * weights[inside]).sum()) / n_inside
            if noise > 0:
                found["snr_dietrich"] = _DIETRICH * signal / noise
            background = float((lifted[~inside] ** 2 * outer).sum()) / outer.sum()
            if background > 0:
                found["fber"] = float((lifted[inside] ** 2 * weights[inside]).sum()) / n_inside / background
        return found


class ValueCounter:
    """Counts the values of a volume as its slabs come."""

    def __init__(self, dtype: np.dtype[Any], slope: float, intercept: float) -> None:
        self._slope, self._intercept = slope, intercept
        self._exact = dtype.kind in "iub" and dtype.itemsize <= 2
        self._low = int(np.iinfo(dtype).min) if self._exact and dtype.kind in "iu" else 0
        size = 256 << 8 if self._exact else 1 << (32 - _BITS)
        self._counts = np.zeros(size, np.int64)
        self._n, self._mean, self._spread, self._bad = 0, 0.0, 0.0, 0
        self._least, self._greatest = math.inf, -math.inf

    def add(self, stored: NDArray[Any]) -> None:
        """Count a slab of stored voxels."""
        flat = np.ravel(stored, order="K")
        if self._exact:
            at = flat.astype(np.int64) - self._low
            self._counts += np.bincount(at, minlength=self._counts.size)
            return
        values = flat.astype(np.float64)
        fine = np.isfinite(values)
        if not fine.all():
            self._bad += int(values.size - fine.sum())
            values = values[fine]
        if not values.size:
            return
        self._least = min(self._least, float(values.min()))
        self._greatest = max(self._greatest, float(values.max()))
        self._join(values.size, float(values.mean()), float(np.square(values - values.mean()).sum()))
        bits = np.clip(values, -_GREATEST, _GREATEST).astype(np.float32).view(np.uint32)
        # as the sign is turned, unsigned order is the order of the values
        ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
        self._counts += np.bincount((ordered >> _BITS).astype(np.int64), minlength=self._counts.size)

    def _join(self, n: int, mean: float, spread: float) -> None:
        # Chan's way of joining means and sums of squares stays exact where sums of squares cancel
        joined, step = self._n + n, mean - self._mean
        self._spread += spread + step * step * self._n * n / joined
        self._mean += step * n / joined
        self._n = joined

    def done(self) -> CountedValues | None:
        """What was counted; None if no voxel was finite."""
        levels = np.flatnonzero(self._counts)
        counts = self._counts[levels]
        if not counts.size:
            return None
        if self._exact:
            values = (levels + self._low) * self._slope + self._intercept
            mean = float((values * counts).sum() / counts.sum())
            std = math.sqrt(float((np.square(values - mean) * counts).sum() / counts.sum()))
        else:
            values = np.clip(_middles(levels), self._least, self._greatest)
            # the ends of the list are the extremes themselves
            values[0], values[-1] = self._least, self._greatest if len(values) > 1 else self._least
            values = values * self._slope + self._intercept
            mean = self._mean * self._slope + self._intercept
            std = abs(self._slope) * math.sqrt(self._spread / self._n)
        if self._slope < 0:
            values, counts = values[::-1], counts[::-1]
        return CountedValues(np.asarray(values, dtype=np.float64), counts, mean, std, self._bad)


def _middles(levels: NDArray[np.int64]) -> NDArray[np.float64]:
    ordered = (levels.astype(np.uint64) << np.uint64(_BITS)) + np.uint64(1 << (_BITS - 1))
    bits = ordered.astype(np.uint32)
    bits = np.where(bits >> 31, bits & np.uint32(0x7FFFFFFF), ~bits)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)
