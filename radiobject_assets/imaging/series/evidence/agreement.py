"""What obs may say of a volume: only what all its planes say, else one value for each point, else nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from radiobject_assets.imaging.series.evidence.plane import Plane
from radiobject_assets.imaging.source import AttributeValue

BY_POINT = "_by_point"
"""Suffix of a column with a JSON list: the attribute's value at each point of the fourth axis."""
_SAME = 1e-6


def agreed(planes: Sequence[Plane], n_points: int) -> dict[str, AttributeValue]:
    """The attributes of a volume whose planes come point by point.

    An attribute that all planes have alike (numbers within a millionth) is told; one that is alike within
    each point but not between them is told as `<name>_by_point`; any other is not, whatever the first plane
    says.
    """
    sources = {(id(p.instance.attributes), p.frame.own): p for p in planes}
    every = list(sources.values())
    names: dict[str, None] = {}
    for plane in every:
        names.update(dict.fromkeys(plane.instance.attributes))
        names.update(dict.fromkeys(name for name, _ in plane.frame.own))
    found: dict[str, AttributeValue] = {}
    for name in names:
        value = _alike(every, name)
        if value is not None:
            found[name] = value
        elif n_points > 1 and (listed := _by_point(planes, name, n_points)) is not None:
            found[name + BY_POINT] = listed
    return found


def _alike(planes: Sequence[Plane], name: str) -> AttributeValue:
    first = planes[0].says(name)
    if first is None or not all(_same(first, plane.says(name)) for plane in planes):
        return None
    return first


def _by_point(planes: Sequence[Plane], name: str, n_points: int) -> str | None:
    n = len(planes) // n_points
    values = [_alike(planes[t * n : (t + 1) * n], name) for t in range(n_points)]
    return None if None in values else json.dumps(values)


def _same(one: AttributeValue, other: AttributeValue) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_SAME, abs_tol=1e-12)
    return one == other


def text_of_all(texts: Sequence[str]) -> str:
    """A text that all have, else nothing."""
    return texts[0] if len(set(texts)) == 1 else ""
