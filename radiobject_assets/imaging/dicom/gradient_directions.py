"""Gradient directions of diffusion weighting, turned to the patient.

Directions are unit vectors in LPS patient coordinates, as the standard's DiffusionGradientOrientation (PS3.3
C.8.13.5.9). Some vendors' own elements are in the frame of the scan or of the image; `from_scan_axes` and
`from_image_axes` turn them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.instance import Triple

_SAME_DIRECTION = math.cos(math.radians(2))


@dataclass(frozen=True, slots=True)
class Direction:
    """A gradient direction (unit vector, LPS patient coordinates) and the rule by which it was understood."""

    vector: Triple
    rule: str
    """Name in `vendor_rules.RULE`."""


def direction(vector: Sequence[float], rule: str) -> Direction | None:
    """The direction of a vector in patient coordinates; None where it is zero, or is none."""
    length = math.sqrt(sum(v * v for v in vector)) if len(vector) == 3 else 0.0
    if not math.isfinite(length) or length < 1e-6:
        return None
    return Direction(cast(Triple, tuple(v / length for v in vector)), rule)


def unless_contradicted(first: Direction, other: Direction) -> Direction:
    """`first`, and its rule only if `other` is along the same line: opposite directions weigh alike."""
    aligned = abs(sum(a * b for a, b in zip(first.vector, other.vector, strict=True)))
    return first if aligned >= _SAME_DIRECTION else Direction(first.vector, "orientation-contradicted")


# The signs along row, column and normal of the image go by main direction of the slices and
# InPlanePhaseEncodingDirection; what they rest on: `ge-gradient` in vendors/ge.py.
_SIGNS: dict[tuple[str, str], Callable[[float, float, float], Triple]] = {
    ("axial", "COL"): lambda f, p, s: (-f, -p, s),
    ("axial", "ROW"): lambda f, p, s: (-p, f, s),
    ("sagittal", "COL"): lambda f, p, s: (f, p, -s),
    ("sagittal", "ROW"): lambda f, p, s: (p, -f, -s),
    ("coronal", "COL"): lambda f, p, s: (-f, p, s),
    ("coronal", "ROW"): lambda f, p, s: (p, f, s),
}


def from_scan_axes(elements: Elements, along: Sequence[float]) -> tuple[float, ...]:
    """A vector along frequency, phase and slice of the scan, in patient coordinates (LPS); () for zero."""
    if len(along) != 3:
        return ()
    frequency, phase, through = along
    normal = _normal(elements.numbers(t.IMAGE_ORIENTATION))
    if not normal or not any((frequency, phase, through)):
        return ()
    sizes = [abs(value) for value in normal]
    plane = ("sagittal", "coronal", "axial")[sizes.index(max(sizes))]
    place = _SIGNS.get((plane, phase_direction(elements)))
    # Without a phase direction nothing can be told (`ge-gradient-no-phase`).
    return from_image_axes(
        elements, place(frequency, phase, through) if place else (frequency, -phase, through)
    )


def phase_direction(elements: Elements) -> str:
    """InPlanePhaseEncodingDirection, `ROW` or `COL`; other texts are none."""
    return elements.text(t.PHASE_DIRECTION)[:3].upper()


def from_image_axes(elements: Elements, along: Sequence[float]) -> tuple[float, ...]:
    """A vector along row, column and normal of the image, in patient coordinates (LPS)."""
    orientation = elements.numbers(t.IMAGE_ORIENTATION)
    normal = _normal(orientation)
    if not normal or len(along) != 3:
        return ()
    across, down, through = along
    return tuple(
        across * r + down * c + through * n
        for r, c, n in zip(orientation[:3], orientation[3:], normal, strict=True)
    )


def _normal(orientation: Sequence[float]) -> tuple[float, ...]:
    if len(orientation) != 6:
        return ()
    row, column = orientation[:3], orientation[3:]
    return (
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    )
