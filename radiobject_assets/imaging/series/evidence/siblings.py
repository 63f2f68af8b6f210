"""No part of a series without its rest: are components, told apart by something, one stack?

Held back together, since any of them alone would look like a whole, shorter volume, are components that lie
on one line and

- have one spacing, interleaved or one after the other, and share no more than half of the places of the
  smaller one;
- of which one has more images at some places than at others, and another lacks just those places: what was
  told apart was told apart wrongly;
- differ in nothing but that one of them lacks an attribute which the other has: nobody knows whose it is.

A part that may complete several, or that has no place in space, holds back every one that it may belong to.
Scanners never write such series; archives, converters and de-identification do, which drop attributes, or
images that they take for copies (dcm2niix issue 349: two partial volumes instead of two complete ones).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from radiobject_assets.imaging.geometry import Float, order_positions, slice_normal
from radiobject_assets.imaging.pixels.acceptance import SECONDARY_CAPTURE
from radiobject_assets.imaging.series.evidence.dividing import (
    Component,
    only_place_differs,
    silence_alone_differs,
    what_differs,
)
from radiobject_assets.imaging.series.evidence.places import same_place_mm, slots_along
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
            of_place = _with_unplaced(of_place, component)
    mosaics = [c for c in components if c.planes[0].instance.tiles > 0]
    for one, other in product(mosaics, components):
        if _tiles_and_whole(one, other):
            of_place = united(of_place, one, other)
    return [group for group in of_place if len(group) > 1]


def united(groups: list[list[Component]], one: Component, other: Component) -> list[list[Component]]:
    """The groups, with those of two components (each alone if it is in none) as one."""
    which = [group for group in groups if any(c is one or c is other for c in group)]
    alone = [c for c in (one, other) if not any(c is each for group in which for each in group)]
    return _united(groups, [*which, *([c] for c in alone)])


def _united(groups: list[list[Component]], which: list[list[Component]]) -> list[list[Component]]:
    """The groups, some of them as one."""
    rest = [group for group in groups if not any(group is each for each in which)]
    return [*rest, [component for group in which for component in group]]


def _with_unplaced(groups: list[list[Component]], component: Component) -> list[list[Component]]:
    """The groups with a component that has no place: it joins all that it may be a part of.

    That is what agrees with it in all but the place, else whatever is of its kind.
    """
    alike = [g for g in groups if any(_unplaced_part(c, component) for c in g)]
    same = [g for g in alike if any(only_place_differs(c, component) for c in g)]
    return _united(groups, [*(same or alike), [component]])


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
        self.images = np.diff(np.append(np.flatnonzero(new), len(planes)))

    def surplus(self) -> _Places | None:
        """The places that have more images than others; None where all have as many."""
        more = self.images > self.images.min()
        if not more.any():
            return None
        found = copy(self)
        found.origins, found.centres, found.images = self.origins[more], self.centres[more], self.images[more]
        return found

    def with_all(self, others: Sequence[_Places]) -> _Places:
        """The places of several components, each once."""
        merged = copy(self)
        origins = np.concatenate([self.origins, *(o.origins for o in others)])
        centres = np.concatenate([self.centres, *(o.centres for o in others)])
        along = centres @ self.normal
        order = np.argsort(along, kind="stable")
        first = order[np.concatenate(([True], np.diff(along[order]) > self.tolerance_mm))]
        merged.origins, merged.centres = origins[first], centres[first]
        merged.images = np.ones(len(first), dtype=int)
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
    """Components of one stack, and each of their places once, in order along the normal.

    parts
        Places that may continue another group's: of all, of each that was joined, of what each has too many.
    """

    components: tuple[Component, ...]
    at: _Places
    parts: tuple[_Places, ...]


def _lines(components: Sequence[Component], places: Mapping[int, _Places | None]) -> list[list[_Group]]:
    """Components whose slices are parallel and lie on one line, those with most places first."""
    groups = [
        _Group((c,), at, tuple(part for part in (at, at.surplus()) if part is not None))
        for c in components
        if (at := places[id(c)]) is not None
    ]
    groups.sort(key=lambda group: -len(group.at.origins))
    lines: list[list[_Group]] = []
    for group in groups:
        line = next((line for line in lines if _on_line(line[0], group)), None)
        lines.append([group]) if line is None else line.append(group)
    return lines


def _on_line(larger: _Group, smaller: _Group) -> bool:
    one, other = larger.components[0], smaller.components[0]
    if _STACKS in what_differs(one, other) and not silence_alone_differs(one, other):
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
    whole = groups[0].at.with_all([group.at for group in groups[1:]])
    return _Group(components, whole, (whole, *(part for group in groups for part in group.parts)))


def _joined(groups: list[_Group]) -> list[_Group]:
    """Groups of one line, those that belong together as one."""
    left = _silent_joined(groups)
    classes = _of_equal_places(left)
    if len(classes) > _MOST_PARTS:
        return left  # so many are no stack that something tells apart
    again = True
    while again:
        again = False
        for one, other in combinations(classes, 2):
            if any(_belong(a, b) for a, b in product(one[0].parts, other[0].parts)):
                rest = [c for c in classes if c is not one and c is not other]
                classes = [[_merged([*one, *other])], *rest]
                again = True
                break
    return [group for each in classes for group in each]


def _silent_joined(groups: Sequence[_Group]) -> list[_Group]:
    """Groups of one line, as one where one of them says nothing where the other says something."""
    left: list[_Group] = []
    for group in groups:
        alike = [
            g
            for g in left
            if any(silence_alone_differs(a, b) for a, b in product(g.components, group.components))
        ]
        rest = [g for g in left if not any(g is each for each in alike)]
        left = [*rest, _merged([*alike, group]) if alike else group]
    return left


def _of_equal_places(groups: Sequence[_Group]) -> list[list[_Group]]:
    """Groups of one line by their places: what completes one of a class completes each of it."""
    first = groups[0].at
    along = np.concatenate([group.at.origins @ first.normal for group in groups])
    numbers = np.empty(len(along), dtype=int)
    for number, slot in enumerate(slots_along(along, first.tolerance_mm)):
        numbers[slot] = number
    ends = np.cumsum([len(group.at.origins) for group in groups])[:-1]
    classes: dict[tuple[object, ...], list[_Group]] = {}
    for group, own in zip(groups, np.split(numbers, ends), strict=True):
        uneven = id(group) if len(group.parts) > 1 else None
        classes.setdefault((frozenset(own.tolist()), uneven), []).append(group)
    return list(classes.values())


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
    return not _kinds(a).isdisjoint(_kinds(b))


def _kinds(component: Component) -> set[tuple[object, ...]]:
    return {
        (p.instance.sop_class_uid, p.size, *p.image_type.split("\\")[:3])
        for p in component.planes
        if p.instance.sop_class_uid not in SECONDARY_CAPTURE
    }


def _tiles_and_whole(mosaic: Component, other: Component) -> bool:
    """Whether a component has images of a mosaic's kind and size that are none.

    A mosaic whose private elements were taken away looks like one slice: it is a point of the others' axis.
    """
    a, b = mosaic.planes[0].instance, other.planes[0].instance
    return b.tiles <= 0 and a.sop_class_uid == b.sop_class_uid and (a.columns, a.rows) == (b.columns, b.rows)
