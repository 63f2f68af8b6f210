"""No part of a series without its rest: are two components, told apart by something, one stack?

Two stacks that lie on one line with one spacing, interleaved or one continuing the other, and share no more
than half of the places of the smaller one, were one scan. If what tells them apart does not let them be one
volume, both are held back: either alone would look like a shorter volume.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radiobject_assets.imaging.acceptance import SECONDARY_CAPTURE
from radiobject_assets.imaging.evidence.dividing import Component, what_differs
from radiobject_assets.imaging.evidence.places import same_place_mm
from radiobject_assets.imaging.evidence.plane import Plane, centre_of
from radiobject_assets.imaging.geometry import Float, order_positions, slice_normal

_PARALLEL_COSINE = float(np.cos(np.radians(2.0)))
_OFF_LINE_PIXELS = 1.0
_STACKS = "StackID"


def one_stack(components: Sequence[Component]) -> list[list[Component]]:
    """Groups of two or more components that are parts of one stack."""
    places = [_places(component.planes) for component in components]
    parent = list(range(len(components)))

    def root(n: int) -> int:
        while parent[n] != n:
            n = parent[n]
        return n

    for a in range(len(components)):
        for b in range(a + 1, len(components)):
            if root(a) != root(b) and _belong(components[a], places[a], components[b], places[b]):
                parent[root(b)] = root(a)
    groups: dict[int, list[Component]] = {}
    for n, component in enumerate(components):
        groups.setdefault(root(n), []).append(component)
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


def _places(planes: Sequence[Plane]) -> _Places | None:
    placed = [plane for plane in planes if plane.placed]
    if not placed:
        return None
    try:
        normal = slice_normal(placed[0].frame.orientation or ())
    except ValueError:
        return None
    return _Places(placed, normal)


def _belong(a: Component, at_a: _Places | None, b: Component, at_b: _Places | None) -> bool:
    if at_a is None or at_b is None:
        return at_a is not at_b and _unplaced_part(a, b)
    if _STACKS in what_differs(a, b) or abs(float(at_a.normal @ at_b.normal)) < _PARALLEL_COSINE:
        return False
    larger, smaller = (at_a, at_b) if len(at_a.origins) >= len(at_b.origins) else (at_b, at_a)
    if len(larger.origins) < 2:
        return False
    return _continue(larger, larger.origins, smaller.origins) or _continue(
        larger, larger.centres, smaller.centres
    )


def _continue(larger: _Places, these: Float, those: Float) -> bool:
    """Whether points of two stacks lie on one line with one spacing, and most of them apart."""
    along, its = these @ larger.normal, those @ larger.normal
    distances = np.abs(its[:, None] - along[None, :]).min(axis=1)
    exclusive = distances > larger.tolerance_mm
    shared = len(its) - int(exclusive.sum())
    if not exclusive.any() or 2 * shared > len(its):
        return False
    step = these[-1] - these[0]
    direction = step / np.linalg.norm(step)
    off = (those - these[0]) - np.outer((those - these[0]) @ direction, direction)
    if np.linalg.norm(off, axis=1).max() > _OFF_LINE_PIXELS * larger.pixel_mm:
        return False
    return order_positions(np.concatenate((these, those[exclusive])), larger.normal).regular


def _unplaced_part(a: Component, b: Component) -> bool:
    """Whether images without a place are of the kind of those that have one."""
    one, other = a.planes[0], b.planes[0]
    return (
        one.instance.sop_class_uid == other.instance.sop_class_uid
        and one.instance.sop_class_uid not in SECONDARY_CAPTURE
        and one.size == other.size
        and one.image_type.split("\\")[:3] == other.image_type.split("\\")[:3]
    )
