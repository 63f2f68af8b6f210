"""Which split a new unit goes to: by its hash in large cohorts, by what is lacking in small ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.training.split_units import hash_fraction

SMALL_SHARE = 15
"""Units that the smallest split must expect before the hash alone decides; by pure hash, a split that
expects 15 is empty once in three million times. With fractions of 0.7, 0.15 and 0.15 this is a cohort of
100."""


@dataclass(frozen=True)
class Unit:
    """Subjects that go into one split together, as they count for its balance."""

    name: str
    strata: Mapping[str, int]
    """How many of its subjects have each value of the column that is stratified by."""

    @property
    def size(self) -> int:
        """Subjects."""
        return sum(self.strata.values())

    @property
    def stratum(self) -> str:
        """The value that most of its subjects have."""
        return min(self.strata, key=lambda value: (-self.strata[value], value))


def place_units(
    new: Sequence[Unit], placed: Sequence[tuple[Unit, str]], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """A split for each new unit, by its name; those that are placed stay.

    In a stratum of which the smallest split expects `SMALL_SHARE` units the hash decides. Else a unit goes
    where it adds least to the chi-square of subjects by stratum and split against the shares, the largest
    units first, and while there are no more units than empty splits, only empty ones are looked at.
    """
    names = list(shares)
    shares_of = np.array(list(shares.values()), dtype=np.float64)
    strata = _strata([*new, *(unit for unit, _ in placed)], len(names))
    units_in = np.zeros(len(set(strata.values())) + 1)
    rows = {name: row for row, name in enumerate(sorted(set(strata.values())), start=1)}
    counts = np.zeros((len(rows) + 1, len(names)))
    totals = np.zeros(len(rows) + 1)

    def vector(unit: Unit) -> NDArray[np.float64]:
        found = np.zeros(len(rows) + 1)
        found[0] = unit.size
        for value, count in unit.strata.items():
            found[rows[strata[value]]] += count
        return found

    for unit in [*new, *(unit for unit, _ in placed)]:
        totals += vector(unit)
        units_in[rows[strata[unit.stratum]]] += 1
    for unit, split in placed:
        counts[:, names.index(split)] += vector(unit)
    chosen: dict[str, str] = {}
    small: list[tuple[int, float, str, Unit]] = []
    limits = np.cumsum(shares_of)[:-1]
    for unit in new:
        fraction = hash_fraction(seed, unit.name)
        if units_in[rows[strata[unit.stratum]]] * shares_of.min() < SMALL_SHARE:
            small.append((-unit.size, fraction, unit.name, unit))
            continue
        index = int(np.searchsorted(limits, fraction, side="right"))
        counts[:, index] += vector(unit)
        chosen[unit.name] = names[index]
    expected = totals[:, None] * shares_of[None, :]
    # a stratum of few subjects expects less than one in most splits: it must not outweigh all others
    weights = 1 / np.maximum(expected, 1.0)
    small.sort(key=lambda item: item[:3])
    for position, (*_, unit) in enumerate(small):
        adds = vector(unit)[:, None]
        cost = ((adds**2 + 2 * (counts - expected) * adds) * weights).sum(axis=0)
        empty = counts[0] == 0
        if empty.any() and len(small) - position <= int(empty.sum()):
            # the largest share first: who has one subject wants to train
            cost = np.where(empty, -shares_of, np.inf)
        index = int(np.argmin(cost))
        counts[:, index] += vector(unit)
        chosen[unit.name] = names[index]
    return chosen


def _strata(units: Sequence[Unit], n_splits: int) -> dict[str, str]:
    """By value, the stratum that it counts in: rare values, which can't be in every split, are one."""
    totals: dict[str, int] = {}
    for unit in units:
        for value, count in unit.strata.items():
            totals[value] = totals.get(value, 0) + count
    return {value: f"={value}" if total >= n_splits else "rare" for value, total in totals.items()}
