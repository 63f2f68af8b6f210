"""Which planes are at one place: positions along the normal, compared by tolerance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radiobject_assets.imaging.geometry import SAME_POSITION_MM, Float, slice_normal
from radiobject_assets.imaging.series.evidence.plane import Plane

_SHARE_OF_A_PIXEL = 0.05
_MOST_MM = 0.05
_STEPS = 4


def same_place_mm(planes: Sequence[Plane], along: Float) -> float:
    """Positions nearer than this are one: a twentieth of a pixel, between 0.01 and 0.05 mm.

    Only 0.01 mm where the distances along the normal do not fall apart into such noise and steps that are
    several times as large: slices of a very thin stack are not noise.
    """
    pixel = min(min(p.frame.pixel_spacing) for p in planes if p.frame.pixel_spacing is not None)
    wide = min(_MOST_MM, _SHARE_OF_A_PIXEL * pixel)
    gaps = np.diff(np.sort(along))
    gaps = gaps[gaps > SAME_POSITION_MM]
    apart = gaps[gaps > wide]
    return (
        wide if wide > SAME_POSITION_MM and apart.size and apart.min() > _STEPS * wide else SAME_POSITION_MM
    )


def slots_along(along: Float, tolerance_mm: float) -> list[list[int]]:
    """Indices of the planes at each distinct place, in rising order of their distances along the normal."""
    slots: list[list[int]] = []
    for i in np.argsort(along, kind="stable").tolist():
        if slots and along[i] - along[slots[-1][0]] <= tolerance_mm:
            slots[-1].append(i)
        else:
            slots.append([i])
    return slots


def place_numbers(planes: Sequence[Plane]) -> list[int]:
    """A number for the place of each plane of one orientation; -1 for planes that have none."""
    placed = [n for n, plane in enumerate(planes) if plane.placed]
    numbers = [-1] * len(planes)
    if not placed:
        return numbers
    try:
        normal = slice_normal(planes[placed[0]].frame.orientation or ())
    except ValueError:
        return numbers
    positions = np.array([planes[n].frame.position for n in placed], dtype=np.float64)
    along = positions @ normal
    tolerance_mm = same_place_mm([planes[n] for n in placed], along)
    for number, slot in enumerate(slots_along(along, tolerance_mm)):
        for index in slot:
            numbers[placed[index]] = number
    return numbers
