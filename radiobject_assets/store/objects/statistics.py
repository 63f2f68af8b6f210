"""Statistics and histograms of a volume, slab by slab, exact, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ShapeError

_GATHER = 1_000_000  # values that may be held to pick one of a given rank
_BINS = 4096


class Slabs(Protocol):
    """What is read of a volume."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def stored_dtype(self) -> np.dtype[Any]: ...
    @property
    def slope(self) -> float: ...
    @property
    def intercept(self) -> float: ...
    def iter_slabs(self, *, stored: bool = False) -> Iterator[tuple[int, int, NDArray[Any]]]: ...


@dataclass(frozen=True)
class VolumeStatistics:
    """Moments and percentiles of the physical values of a volume."""

    mean: float
    std: float
    min: float
    max: float
    median: float
    percentiles: dict[float, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, float]:
        """The same as a dict with `p25` for the 25th percentile."""
        named = {f"p{p:g}": value for p, value in self.percentiles.items()}
        return {
            "mean": self.mean,
            "std": self.std,
            "min": self.min,
            "max": self.max,
            "median": self.median,
            **named,
        }


def _values(volume: Slabs) -> Iterator[NDArray[Any]]:
    for _, _, voxels in volume.iter_slabs():
        yield np.ravel(voxels, order="K")


def _count(volume: Slabs) -> int:
    return math.prod(volume.shape)


def volume_statistics(volume: Slabs, percentiles: Sequence[float] = ()) -> VolumeStatistics:
    """Mean, population standard deviation, extremes, median and percentiles, as NumPy computes them.

    Volumes of 8- and 16-bit integers take one pass over the voxels, others two or more. With any NaN among
    the voxels everything is NaN.
    """
    for value in percentiles:
        if not 0 <= value <= 100:
            raise ShapeError(f"percentile {value} is outside 0-100")
    if volume.stored_dtype.kind in "iub" and volume.stored_dtype.itemsize <= 2:
        return _from_counts(volume, percentiles)
    return _from_passes(volume, percentiles)


def _from_counts(volume: Slabs, percentiles: Sequence[float]) -> VolumeStatistics:
    """Count each of the 65,536 possible stored values, and compute everything from the counts."""
    low = int(np.iinfo(volume.stored_dtype).min) if volume.stored_dtype.kind in "iu" else 0
    counts = np.zeros(65_536, np.int64)
    for _, _, voxels in volume.iter_slabs(stored=True):
        counts += np.bincount(np.ravel(voxels, order="K").astype(np.int64) - low, minlength=65_536)
    levels = np.flatnonzero(counts)
    weights = counts[levels]
    values = (levels + low) * volume.slope + volume.intercept
    if volume.slope < 0:
        values, weights = values[::-1], weights[::-1]
    total = int(weights.sum())
    mean = float((values * weights).sum() / total)
    variance = float((np.square(values - mean) * weights).sum() / total)
    ends = np.cumsum(weights)

    def ranked(rank: int) -> float:
        return float(values[np.searchsorted(ends, rank, side="right")])

    found = {p: _between(p, total, {r: ranked(r) for r in _ranks(p, total)}) for p in (50.0, *percentiles)}
    return VolumeStatistics(
        mean=mean,
        std=math.sqrt(variance),
        min=float(values[0]),
        max=float(values[-1]),
        median=found[50.0],
        percentiles={p: found[p] for p in percentiles},
    )


def _from_passes(volume: Slabs, percentiles: Sequence[float]) -> VolumeStatistics:
    total, mean, spread, low, high = 0, 0.0, 0.0, math.inf, -math.inf
    for part in _values(volume):
        values = part.astype(np.float64, copy=False)
        if np.isnan(values).any():
            nan = math.nan
            return VolumeStatistics(nan, nan, nan, nan, nan, dict.fromkeys(percentiles, nan))
        # Chan's way of joining means and sums of squares stays exact where sums of squares cancel.
        part_mean = float(values.mean())
        part_spread = float(np.square(values - part_mean).sum())
        joined = total + values.size
        step = part_mean - mean
        spread += part_spread + step * step * total * values.size / joined
        mean += step * values.size / joined
        total = joined
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    if not math.isfinite(low) or not math.isfinite(high):
        flat = np.concatenate([np.asarray(v) for v in _values(volume)])
        found = {p: float(np.percentile(flat, p)) for p in (50.0, *percentiles)}
        named = {p: found[p] for p in percentiles}
        return VolumeStatistics(mean, math.nan, low, high, found[50.0], named)
    wanted = sorted({rank for p in (50.0, *percentiles) for rank in _ranks(p, total)})
    ranked = {rank: _value_of_rank(volume, rank, low, high) for rank in wanted}
    found = {p: _between(p, total, ranked) for p in (50.0, *percentiles)}
    return VolumeStatistics(
        mean=mean,
        std=math.sqrt(spread / total),
        min=low,
        max=high,
        median=found[50.0],
        percentiles={p: found[p] for p in percentiles},
    )


def _ranks(percentile: float, total: int) -> tuple[int, int]:
    position = (total - 1) * percentile / 100.0
    return math.floor(position), math.ceil(position)


def _between(percentile: float, total: int, ranked: dict[int, float]) -> float:
    """NumPy's linear interpolation between the two neighbouring order statistics."""
    low, high = _ranks(percentile, total)
    weight = (total - 1) * percentile / 100.0 - low
    return ranked[low] + (ranked[high] - ranked[low]) * weight


def _value_of_rank(volume: Slabs, rank: int, low: float, high: float) -> float:
    """The value with `rank` smaller ones, by narrowing an interval until its values fit in memory."""
    below = 0
    while low < high:
        inside = sum(int(((v >= low) & (v <= high)).sum()) for v in _values(volume))
        if inside <= _GATHER:
            kept = np.concatenate([v[(v >= low) & (v <= high)] for v in _values(volume)])
            return float(np.partition(kept, rank - below)[rank - below])
        edges = np.linspace(low, high, _BINS + 1)
        if not (np.diff(edges) > 0).all():
            edges = np.unique(edges)
        counts = np.zeros(len(edges) - 1, np.int64)
        for v in _values(volume):
            counts += np.histogram(v, bins=edges)[0]
        ends = np.cumsum(counts)
        where = int(np.searchsorted(ends, rank - below, side="right"))
        if edges[where] == low and edges[where + 1] == high:
            return low if edges.size < 3 and rank - below < int(counts[0]) else high
        below += int(ends[where - 1]) if where else 0
        low = float(edges[where])
        # Bins are half open but for the last: a value on the upper edge belongs to the next one.
        last = where == len(counts) - 1
        high = high if last else float(np.nextafter(edges[where + 1], -math.inf))
    return low


def volume_histogram(
    volume: Slabs, bins: int = 256, value_range: tuple[float, float] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Counts and edges as `numpy.histogram(values, bins, range)` gives them."""
    if value_range is None:
        # As scalars of the volume's dtype: NumPy's edges depend on it in the last digit.
        extremes = [(values.min(), values.max()) for values in _values(volume)]
        value_range = (min(low for low, _ in extremes), max(high for _, high in extremes))
    edges = np.histogram_bin_edges(np.empty(0, volume.dtype), bins=bins, range=value_range)
    counts = np.zeros(len(edges) - 1, np.int64)
    for values in _values(volume):
        part, edges = np.histogram(values, bins=bins, range=value_range)
        counts += part
    return counts, edges
