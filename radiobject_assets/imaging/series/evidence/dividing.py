"""Which planes of one SeriesInstanceUID belong together: a part for each volume, by the table of `rules`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from radiobject_assets.imaging.series.evidence.places import place_numbers
from radiobject_assets.imaging.series.evidence.plane import Plane
from radiobject_assets.imaging.series.evidence.rules import (
    ACQUISITION,
    COMPLEX,
    DIVIDING,
    IN_PLACE,
    LAST,
    PLACING,
    POLARITY,
    TRACE,
    Rule,
)

_ORDER: tuple[Rule, ...] = (*DIVIDING, TRACE, *IN_PLACE, ACQUISITION, *LAST)
_Key = tuple[Hashable, ...]
_OF_A_STACK = 3
"""Slices that a label must have at least to be a stack of its own among another's."""


@dataclass(frozen=True)
class Component:
    """Planes that form one volume, and what tells them from the others of their series ("" if alone).

    differs
        The labels by the rules of `_ORDER`: by which of them two parts differ is asked where they should
        have been one.
    """

    name: str
    planes: tuple[Plane, ...]
    differs: _Key = ()


def divide(planes: Sequence[Plane]) -> list[Component]:
    """Divide the planes of one series into components, in the order of their first plane."""
    if not planes:
        return []
    labels = [rule.labels(planes) for rule in DIVIDING if rule.labels is not None]
    groups: dict[_Key, list[Plane]] = defaultdict(list)
    for plane, key in zip(planes, zip(*labels, strict=True), strict=True):
        groups[key].append(plane)
    parts = [((*key, name), part) for key, group in groups.items() for name, part in _without_traces(group)]
    for rule in IN_PLACE:
        parts = [((*key, value), part) for key, group in parts for value, part in _in_place(group, rule)]
    parts = [
        ((*key, value), part) for key, group in parts for value, part in _alternating(group, ACQUISITION)
    ]
    for rule in LAST:
        parts = [((*key, value), part) for key, group in parts for value, part in _if_several(group, rule)]
    return _named(parts)


def what_differs(one: Component, other: Component) -> list[str]:
    """Elements by which two components were told apart."""
    pairs = zip(_ORDER, one.differs, other.differs, strict=True)
    return [rule.elements for rule, mine, theirs in pairs if mine != theirs]


def only_place_differs(one: Component, other: Component) -> bool:
    """Whether two components were told apart by their place in space alone."""
    return all(
        rule in PLACING
        for rule, mine, theirs in zip(_ORDER, one.differs, other.differs, strict=True)
        if mine != theirs
    )


def silence_alone_differs(one: Component, other: Component) -> bool:
    """Whether all that tells two components apart is what the header of one of them does not say."""
    differing = [
        rule.nothing in (mine, theirs)
        for rule, mine, theirs in zip(_ORDER, one.differs, other.differs, strict=True)
        if mine != theirs
    ]
    return bool(differing) and all(differing)


def _named(parts: list[tuple[_Key, list[Plane]]]) -> list[Component]:
    varying = [n for n in range(len(_ORDER)) if len({key[n] for key, _ in parts}) > 1]
    named: list[Component] = []
    taken: Counter[str] = Counter()
    for key, part in parts:
        name = "_".join(filter(None, (_ORDER[n].name(key[n], part[0]) for n in varying)))
        stem, unique = name or "part", name
        if taken[stem] or (not name and len(parts) > 1 and not _is_plain(key, varying)):
            taken[stem] += 1
            unique = f"{stem}_{taken[stem]}" if name else f"part{taken[stem]}"
        taken[stem] = max(1, taken[stem])
        named.append(Component(unique, tuple(part), key))
    return named


def _is_plain(key: _Key, varying: list[int]) -> bool:
    # Magnitude needs no name beside phase, real and imaginary; directions need none beside their trace.
    return all(_ORDER[n] in (COMPLEX, TRACE, POLARITY) and not key[n] for n in varying)


def _without_traces(planes: list[Plane]) -> list[tuple[str, list[Plane]]]:
    """Trace images apart (Philips): weighted, without a direction, in a series that has directions."""
    if not planes[0].vendor.traces_apart or not any(p.frame.gradient for p in planes):
        return [("", planes)]
    traces = [p for p in planes if p.frame.b_value and not p.frame.gradient]
    rest = [p for p in planes if not p.frame.b_value or p.frame.gradient]
    return [(name, part) for name, part in (("", rest), ("trace", traces)) if part]


def _by(planes: list[Plane], rule: Rule) -> list[tuple[Hashable, list[Plane]]]:
    by_value: dict[Hashable, list[Plane]] = defaultdict(list)
    for plane, label in zip(planes, rule.labels(planes) if rule.labels else (), strict=True):
        by_value[label].append(plane)
    return list(by_value.items())


def _if_several(planes: list[Plane], rule: Rule) -> list[tuple[Hashable, list[Plane]]]:
    parts = _by(planes, rule)
    return parts if len(parts) > 1 else [("", planes)]


def _in_place(planes: list[Plane], rule: Rule) -> list[tuple[Hashable, list[Plane]]]:
    """Planes by a label, if two of its values are at one place; else all together."""
    labels = rule.labels(planes) if rule.labels else []
    if len(set(labels)) == 1:
        return [("", planes)]
    places = place_numbers(planes)
    values: dict[int, Hashable] = {}
    for label, place in zip(labels, places, strict=True):
        if values.setdefault(place, label) != label:
            return _by(planes, rule)
    return _by(planes, rule) if _alternate(values) else [("", planes)]


def _alternating(planes: list[Plane], rule: Rule) -> list[tuple[Hashable, list[Plane]]]:
    labels = rule.labels(planes) if rule.labels else []
    if len(set(labels)) == 1:
        return [("", planes)]
    values: dict[int, Hashable] = {}
    for label, place in zip(labels, place_numbers(planes), strict=True):
        if values.setdefault(place, label) != label:  # points of a fourth axis
            return [("", planes)]
    return _by(planes, rule) if _alternate(values) else [("", planes)]


def _alternate(values: dict[int, Hashable]) -> bool:
    """Whether slices of two labels alternate along the stack: `values` has the label of each place."""
    along = [values[place] for place in sorted(values)]
    counts = Counter(along)
    runs = 1 + sum(a != b for a, b in pairwise(along))
    return len(counts) > 1 and min(counts.values()) >= _OF_A_STACK and 2 * runs > len(along)
