"""Volumes that are unlike the others of their collection, each with the figure that says so.

A value is judged by its robust z: how far it is from the median, by the median distance, scaled to be a
standard deviation of normal values (Iglewicz and Hoaglin 1993, who take 3.5 as the limit). Spacing and shape
are often the same for nearly all, where that distance is 0: there a rare value is an outlier.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

LIMIT = 5.0
"""Robust z from which a volume is one: above the 3.5 of the source, because 20 figures are looked at."""
LEAST = 8
"""Volumes that a collection must have, for any of them to be unlike the others."""
_SCALE = 1.4826
_RARE = 0.05

_NAMES = {
    "p1": "1st percentile",
    "p50": "median",
    "p99": "99th percentile",
    "mean": "mean",
    "std": "standard deviation",
    "foreground_fraction": "part that is foreground",
    "clipped_fraction": "part at the greatest value",
    "snr_dietrich": "signal to noise (Dietrich)",
    "fber": "foreground to background energy",
    "efc": "entropy focus criterion",
    "interslice_difference": "difference between slices",
    "interslice_jump": "largest jump between slices",
}
_LOGARITHMIC = frozenset({"snr_dietrich", "fber", "clipped_fraction", "interslice_jump"})
_NEVER = {
    "constant_slices": "slices in which all voxels are the same",
    "dropout_slices": "slices that lost their signal",
    "non_finite": "voxels that are no numbers",
}


@dataclass(frozen=True)
class Outlier:
    """One volume and what is unusual about it."""

    index: int
    """Label of its row in the table that was looked at."""
    collection: str
    reasons: tuple[str, ...]
    """Worst first."""
    worst: float
    """Greatest robust z; infinite where all others agree."""


def find_outliers(profiles: pd.DataFrame) -> list[Outlier]:
    """The outliers among profiles (`kept_profiles.profiles_of`), worst first."""
    found = []
    for name, rows in profiles.groupby("collection", sort=True):
        if len(rows) < LEAST:
            continue
        reasons: dict[int, list[tuple[float, str]]] = {}
        for index, z, text in _unusual(rows):
            reasons.setdefault(index, []).append((z, text))
        for index, told in reasons.items():
            told.sort(key=lambda one: -one[0])
            found.append(Outlier(index, str(name), tuple(text for _, text in told), told[0][0]))
    return sorted(found, key=lambda one: (-one.worst, -len(one.reasons), one.collection, one.index))


def _unusual(rows: pd.DataFrame) -> Iterator[tuple[int, float, str]]:
    for column, name in _NAMES.items():
        if column in rows:
            yield from _far(rows[column], name, is_log=column in _LOGARITHMIC)
    for column, name in _NEVER.items():
        if column in rows:
            values = pd.to_numeric(rows[column], errors="coerce").fillna(0)
            if (values > 0).sum() <= _few(values):
                yield from ((i, np.inf, f"{v:g} {name}") for i, v in _items(values[values > 0]))
    spacing = np.array([list(one) for one in rows["spacing_mm"]], dtype=np.float64)
    for axis, name in enumerate("xyz"):
        yield from _far(pd.Series(spacing[:, axis], rows.index), f"spacing along {name}, mm", is_log=True)
        sizes = pd.Series([float(shape[axis]) for shape in rows["shape"]], rows.index)
        yield from _far(sizes, f"voxels along {name}", is_log=True)
    yield from _rare(rows["orientation"].astype("str"), "orientation")


def _few(values: pd.Series) -> float:
    return max(1.0, _RARE * len(values))


def _items(values: pd.Series) -> Iterator[tuple[int, float]]:
    for index, value in zip(values.index.tolist(), values.tolist(), strict=True):
        yield int(index), float(value)


def _far(column: pd.Series, name: str, *, is_log: bool) -> Iterator[tuple[int, float, str]]:
    values = pd.to_numeric(column, errors="coerce").dropna()
    if len(values) < LEAST:
        return
    judged = values.map(lambda value: np.log(max(value, 1e-9))) if is_log else values
    middle = float(judged.median())
    apart = (judged - middle).abs()
    spread = _SCALE * float(apart.median())
    usual = float(values.median())
    if spread <= 1e-9 * max(abs(middle), 1.0):
        # more than half are equal: a few that differ by a tenth are what is looked for
        others = values[(values - usual).abs() > 0.1 * max(abs(usual), 1e-9)]
        if 0 < len(others) <= _few(values):
            yield from ((i, np.inf, f"{name} {v:.4g}, mostly {usual:.4g}") for i, v in _items(others))
        return
    for index, z in _items(apart / spread):
        if z > LIMIT:
            yield index, z, f"{name} {values.loc[index]:.4g}, mostly {usual:.4g} (z {z:.1f})"


def _rare(column: pd.Series, name: str) -> Iterator[tuple[int, float, str]]:
    counts = column.value_counts()
    rare = set(counts.index[counts <= _few(column)])
    for index, value in zip(column.index.tolist(), column.tolist(), strict=True):
        if value in rare:
            yield int(index), np.inf, f"{name} {value}, mostly {counts.index[0]}"
