"""No part of a series without its rest: are two components, told apart by something, one stack?

Stacks that lie on one line with one spacing, interleaved or one after the other, and share no more than half
of the places of the smaller one, were one scan. If what tells them apart does not let them be one volume, all
are held back: any alone would look like a shorter volume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from radiobject_assets.imaging.geometry import Float, order_positions, slice_normal
from radiobject_assets.imaging.pixels.acceptance import SECONDARY_CAPTURE
from radiobject_assets.imaging.series.evidence.dividing import Component, what_differs
from radiobject_assets.imaging.series.evidence.places import same_place_mm
from radiobject_assets.imaging.series.evidence.plane import Plane, centre_of

_PARALLEL_COSINE = float(np.cos(np.radians(2.0)))
_OFF_LINE_PIXELS = 1.0
_MOST_PARTS = 64
_MISSING_SHARE = 5
_STACKS = "StackID"


def one_stack(components: Sequence[Component]) -> list[list[Component]]:
    """Groups of two or more components that are parts of one stack.

    A part may be one stack with two others together and with neither alone (three echoes that take turns), so
    what was joined is asked again as one, until nothing is joined any more. Components that lie on one line
    and together fill it are one at once.
    """
    places = {id(component): _places(component.planes) for component in components}
    placed = [c for c in components if places[id(c)] is not None]
    groups: list[_Group] = []
    for line in _lines(placed, places):
        if len(line) > 1 and _fills(line):
            line = [_merged(line)]
        groups += _joined(line)
    of_place = [[*group.components] for group in groups]
    for component in components:
        if places[id(component)] is None:
            home = next((g for g in of_place if any(_unplaced_part(c, component) for c in g)), None)
            of_place.append([component]) if home is None else home.append(component)
    return [group for group in of_place if len(group) > 1]


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

    def with_all(self, others: Sequence[_Places]) -> _Places:
        """The places of several components, each once."""
        merged = copy(self)
        origins = np.concatenate([self.origins, *(o.origins for o in others)])
        centres = np.concatenate([self.centres, *(o.centres for o in others)])
        along = centres @ self.normal
        order = np.argsort(along, kind="stable")
        first = order[np.concatenate(([True], np.diff(along[order]) > self.tolerance_mm))]
        merged.origins, merged.centres = origins[first], centres[first]
        return merged


def _places(planes: Sequence[Plane]) -> _Places | None:
    placed = [plane for plane in planes if plane.placed]
    if not placed:
        return None
    try:
        normal = slice_normal(placed[0].frame.orientation or ())
    except ValueError:
        return None
    return _Places(placed, normal)


@dataclass(frozen=True, eq=False)
class _Group:
    """Components of one stack, and each of their places once, in order along the normal."""

    components: tuple[Component, ...]
    at: _Places


def _lines(components: Sequence[Component], places: Mapping[int, _Places | None]) -> list[list[_Group]]:
    """Components whose slices are parallel and lie on one line, those with most places first."""
    groups = [_Group((c,), at) for c in components if (at := places[id(c)]) is not None]
    groups.sort(key=lambda group: -len(group.at.origins))
    lines: list[list[_Group]] = []
    for group in groups:
        line = next((line for line in lines if _on_line(line[0], group)), None)
        lines.append([group]) if line is None else line.append(group)
    return lines


def _on_line(larger: _Group, smaller: _Group) -> bool:
    if _STACKS in what_differs(larger.components[0], smaller.components[0]):
        return False
    if abs(float(larger.at.normal @ smaller.at.normal)) < _PARALLEL_COSINE:
        return False
    return any(
        _off_mm(these, those, larger.at.normal) <= _OFF_LINE_PIXELS * larger.at.pixel_mm
        for these, those in (
            (larger.at.origins, smaller.at.origins),
            (larger.at.centres, smaller.at.centres),
        )
    )


def _off_mm(these: Float, those: Float, normal: Float) -> float:
    """How far points lie from the line through others; through a single one it runs along the normal."""
    step = these[-1] - these[0]
    direction = step / np.linalg.norm(step) if len(these) > 1 else normal
    off = (those - these[0]) - np.outer((those - these[0]) @ direction, direction)
    return float(np.linalg.norm(off, axis=1).max())


def _fills(line: Sequence[_Group]) -> bool:
    """Whether groups of one line together are a regular stack, and hardly any place is in two."""
    whole = _merged(line)
    counts = sum(len(group.at.origins) for group in line)
    if 2 * (counts - len(whole.at.origins)) > min(len(group.at.origins) for group in line):
        return False
    if len(line[0].at.origins) < 2:
        return False
    return len(whole.at.origins) > 2 and any(
        order_positions(points, whole.at.normal).regular for points in (whole.at.origins, whole.at.centres)
    )


def _merged(groups: Sequence[_Group]) -> _Group:
    components = tuple(component for group in groups for component in group.components)
    return _Group(components, groups[0].at.with_all([group.at for group in groups[1:]]))


def _joined(groups: list[_Group]) -> list[_Group]:
    left = list(groups)
    if len(left) > _MOST_PARTS:
        return left  # so many are no stack that something tells apart
    again = True
    while again:
        again = False
        for n, one in enumerate(left):
            other = next((g for g in left[n + 1 :] if _belong(one.at, g.at)), None)
            if other is not None:
                left = [_merged([one, other]), *(g for g in left if g is not one and g is not other)]
                again = True
                break
    return left


def _belong(one: _Places, other: _Places) -> bool:
    larger, smaller = (one, other) if len(one.origins) >= len(other.origins) else (other, one)
    if len(larger.origins) < 2:
        return False
    return _continue(larger, larger.origins, smaller.origins) or _continue(
        larger, larger.centres, smaller.centres
    )


def _continue(larger: _Places, these: Float, those: Float) -> bool:
    """Whether points of two stacks lie on one line with one spacing, and most of them apart.

    One slice may be missing, or a fifth as many as the smaller stack has: of two stacks that were scanned
    apart on purpose more are.
    """
    along, its = these @ larger.normal, those @ larger.normal
    distances = np.abs(its[:, None] - along[None, :]).min(axis=1)
    exclusive = distances > larger.tolerance_mm
    shared = len(its) - int(exclusive.sum())
    if not exclusive.any() or 2 * shared > len(its):
        return False
    if _off_mm(these, those, larger.normal) > _OFF_LINE_PIXELS * larger.pixel_mm:
        return False
    stacked = order_positions(np.concatenate((these, those[exclusive])), larger.normal)
    return stacked.regular or 0 < stacked.missing <= max(1, int(exclusive.sum()) // _MISSING_SHARE)


def _unplaced_part(a: Component, b: Component) -> bool:
    """Whether images without a place are of the kind of those that have one."""
    one, other = a.planes[0], b.planes[0]
    return (
        one.instance.sop_class_uid == other.instance.sop_class_uid
        and one.instance.sop_class_uid not in SECONDARY_CAPTURE
        and one.size == other.size
        and one.image_type.split("\\")[:3] == other.image_type.split("\\")[:3]
    )
