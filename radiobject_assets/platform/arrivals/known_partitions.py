"""The partitions of arrivals that Dagster knows: of very many, not asked for at each tick."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg

_MANY = 10_000
"""So many take Dagster about 0.1 s to tell."""
_ANEW_S = 300.0


@dataclass(frozen=True)
class KnownPartitions:
    """Names of partitions, and whether they were asked for just now.

    Where they were not, one may have been deleted since: who asks for a run of one adds it first.
    """

    names: frozenset[str]
    is_of_now: bool


_kept: dict[tuple[str, str], tuple[float, frozenset[str]]] = {}


def known_partitions(
    instance: dg.DagsterInstance,
    name: str,
    *,
    anew: bool = False,
    many: int = _MANY,
    clock: Callable[[], float] = time.monotonic,
) -> KnownPartitions:
    """What Dagster says, or said some minutes ago where there are `many`.

    Parameters
    ----------
    name
        Of the partitions' definition.
    anew
        Ask in any case.
    """
    place, now_s = (instance.root_directory, name), clock()
    asked_s, names = _kept.get(place, (0.0, frozenset[str]()))
    if not anew and len(names) > many and now_s - asked_s < _ANEW_S:
        return KnownPartitions(names, False)
    names = frozenset(instance.get_dynamic_partitions(name))
    _kept[place] = now_s, names
    return KnownPartitions(names, True)


def note_added(instance: dg.DagsterInstance, name: str, added: frozenset[str]) -> None:
    """Partitions that Dagster is about to be told of."""
    place = (instance.root_directory, name)
    if place in _kept and not added <= _kept[place][1]:
        _kept[place] = _kept[place][0], _kept[place][1] | added
