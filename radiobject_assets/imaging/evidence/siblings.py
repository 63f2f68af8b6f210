"""No part of a series without its rest: are two components, told apart by something, one stack?

Two stacks that lie on one line with one spacing, interleaved or one continuing the other, and share no more
than half of the places of the smaller one, were one scan. If what tells them apart does not let them be one
volume, both are held back: either alone would look like a shorter volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.acceptance import SECONDARY_CAPTURE
from radiobject_assets.imaging.evidence.dividing import Component, what_differs
from radiobject_assets.imaging.evidence.places import same_place_mm
from radiobject_assets.imaging.evidence.plane import Plane, centre_of
from radiobject_assets.imaging.geometry import Float, order_positions, slice_normal

_PARALLEL_COSINE = float(np.cos(np.radians(2.0)))
_OFF_LINE_PIXELS = 1.0
_STACKS = "StackID"
_MISSING_SHARE = 3
"""Of so many places that are there, one may be missing."""


def one_stack(components: Sequence[Component]) -> list[list[Component]]:
    """Groups of two or more components that are parts of one stack."""
    places = [_places(component.planes) for component in components]
    pairs = list(combinations(range(len(components)), 2))
    near = [(a, b) for a, b in pairs if _on_one_line(components[a], places[a], components[b], places[b])]
    parts = [(a, b) for a, b in near if _one_spacing([places[a], places[b]])]
    parts += [
        (a, b)
        for a, b in pairs
        if (places[a] is None) != (places[b] is None) and _unplaced_part(components[a], components[b])
    ]
    for group in _joined(len(components), near):  # of three parts no two may have one spacing
        if len(group) > 2 and _one_spacing([places[n] for n in group]):
            parts += [(group[0], other) for other in group[1:]]
    return [[components[n] for n in group] for group in _joined(len(components), parts)]


def _joined(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Numbers that pairs connect, in groups of two or more."""
    parent = list(range(count))

    def root(n: int) -> int:
        while parent[n] != n:
            n = parent[n]
        return n

    for a, b in pairs:
        parent[root(b)] = root(a)
    groups: dict[int, list[int]] = {}
    for n in range(count):
        groups.setdefault(root(n), []).append(n)
    return [group for group in groups.values() if len(group) > 1]


class _Places:
    """Where the slices of a component are: their first voxels and their centres, each place once."""

    def __init__(self, planes: Sequence[Plane], normal: Float) -> None:
        self.normal = normal
        self.pixel_mm = max(max(p.frame.pixel_spacing or (0.0,)) for p in planes)
        origins = np.array([p.frame.position for p in planes], dtype=np.float64)
        along = origins @ normal
        self.tolerance_mm = same_place_mm(planes, along)
        order = np.argsort(along, kind="stable")
        new = np.concatenate(([True], np.diff(along[order]) > self.tolerance_mm))
        first = order[new]
        self.origins = origins[first]
        self.centres = np.array([centre_of(planes[i]) for i in first.tolist()])

    def exclusive(self, other: _Places) -> NDArray[np.bool_]:
        """Which places of another stack are none of this one."""
        along, its = self.origins @ self.normal, other.origins @ self.normal
        nearest = np.abs(its[:, None] - along[None, :]).min(axis=1)
        return np.asarray(nearest > self.tolerance_mm, dtype=np.bool_)


def _places(planes: Sequence[Plane]) -> _Places | None:
    placed = [plane for plane in planes if plane.placed]
    if not placed:
        return None
    try:
        normal = slice_normal(placed[0].frame.orientation or ())
    except ValueError:
        return None
    return _Places(placed, normal)


def _on_one_line(a: Component, at_a: _Places | None, b: Component, at_b: _Places | None) -> bool:
    """Whether two components are parallel, lie on one line, and are mostly at other places."""
    if at_a is None or at_b is None:
        return False
    if _STACKS in what_differs(a, b) or abs(float(at_a.normal @ at_b.normal)) < _PARALLEL_COSINE:
        return False
    larger, smaller = (at_a, at_b) if len(at_a.origins) >= len(at_b.origins) else (at_b, at_a)
    if len(larger.origins) < 2:
        return False
    own = larger.exclusive(smaller)
    if not own.any() or 2 * (len(own) - int(own.sum())) > len(own):
        return False
    return any(
        _off_line(these, those) <= _OFF_LINE_PIXELS * larger.pixel_mm
        for these, those in ((larger.origins, smaller.origins), (larger.centres, smaller.centres))
    )


def _off_line(these: Float, those: Float) -> float:
    """The largest distance of `those` points from the line of `these`, mm."""
    step = these[-1] - these[0]
    direction = step / np.linalg.norm(step)
    off = (those - these[0]) - np.outer((those - these[0]) @ direction, direction)
    return float(np.linalg.norm(off, axis=1).max())


def _one_spacing(parts: Sequence[_Places | None]) -> bool:
    """Whether the places of several parts together have one spacing, but for some that are missing."""
    stacks = sorted((part for part in parts if part is not None), key=lambda part: -len(part.origins))
    first = stacks[0]
    for points in ("origins", "centres"):
        together = getattr(first, points)
        for other in stacks[1:]:
            new = np.abs(
                (getattr(other, points) @ first.normal)[:, None] - (together @ first.normal)[None, :]
            ).min(axis=1)
            together = np.concatenate((together, getattr(other, points)[new > first.tolerance_mm]))
        union = order_positions(together, first.normal)
        if union.regular or 0 < union.missing <= len(together) // _MISSING_SHARE:
            return True
    return False


def _unplaced_part(a: Component, b: Component) -> bool:
    """Whether images without a place are of the kind of those that have one."""
    one, other = a.planes[0], b.planes[0]
    return (
        one.instance.sop_class_uid == other.instance.sop_class_uid
        and one.instance.sop_class_uid not in SECONDARY_CAPTURE
        and one.size == other.size
        and one.image_type.split("\\")[:3] == other.image_type.split("\\")[:3]
    )
