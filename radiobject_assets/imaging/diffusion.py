"""Diffusion weighting of a frame: b-values and gradient directions, standard and vendor elements.

Directions are unit vectors in LPS patient coordinates, as the standard's DiffusionGradientOrientation.
GE writes its directions in the frame of the scan plane; they are turned into patient coordinates here.
"""

from __future__ import annotations

import math
from typing import cast

from radiobject_assets.imaging import tags as t
from radiobject_assets.imaging.elements import Elements
from radiobject_assets.imaging.instance import Triple

# GE adds multiples of 1e9 to the b-value of some protocols (dcm2niix's notes on GE diffusion).
_GE_OFFSET = 1_000_000_000
_VENDOR_TAGS = frozenset({t.SIEMENS_B_VALUE, t.GE_B_VALUE, t.PHILIPS_B_VALUE, t.UIH_B_VALUE})


def b_value_of(elements: Elements, manufacturer: str) -> float | None:
    """b-value in s/mm2, or None where the frame has none; `manufacturer` in upper case."""
    values = elements.values
    value = elements.number(t.B_VALUE) if t.B_VALUE in values else None
    if value is None and not _VENDOR_TAGS.isdisjoint(values):
        if "SIEMENS" in manufacturer:
            value = elements.number(t.SIEMENS_B_VALUE)
        elif manufacturer.startswith("GE"):
            value = elements.number(t.GE_B_VALUE)
            value = None if value is None else math.fmod(value, _GE_OFFSET)
        elif "PHILIPS" in manufacturer:
            value = elements.number(t.PHILIPS_B_VALUE)
        elif "UIH" in manufacturer or "UNITED" in manufacturer:
            value = elements.number(t.UIH_B_VALUE)
    return value if value is not None and math.isfinite(value) and value >= 0 else None


def gradient_of(elements: Elements, manufacturer: str) -> Triple | None:
    """Gradient direction (unit vector, LPS), or None where there is none or it is zero."""
    direction: tuple[float, ...] = ()
    sequence = elements.first(t.GRADIENT_SEQUENCE)
    if sequence is not None:
        direction = sequence.numbers(t.GRADIENT)
    elif t.GRADIENT in elements.values:
        direction = elements.numbers(t.GRADIENT)
    elif "SIEMENS" in manufacturer:
        direction = elements.numbers(t.SIEMENS_GRADIENT)
    elif "PHILIPS" in manufacturer:
        direction = tuple(number for tag in t.PHILIPS_GRADIENT for number in elements.numbers(tag)[:1])
    elif "UIH" in manufacturer or "UNITED" in manufacturer:
        direction = elements.numbers(t.UIH_GRADIENT)
    elif manufacturer.startswith("GE"):
        direction = _ge_direction(elements)
    length = math.sqrt(sum(v * v for v in direction)) if len(direction) == 3 else 0.0
    if not math.isfinite(length) or length < 1e-6:
        return None
    return cast(Triple, tuple(v / length for v in direction))


def _ge_direction(elements: Elements) -> tuple[float, ...]:
    # (0019,10BB..BD): along frequency, phase and slice of the scan plane. With phase encoding along columns,
    # frequency runs along rows; along rows the two swap. GE's second axis points against rising row index.
    frequency, phase, through = (elements.number(tag) or 0.0 for tag in t.GE_GRADIENT)
    orientation = elements.numbers(t.IMAGE_ORIENTATION)
    if len(orientation) != 6 or not any((frequency, phase, through)):
        return ()
    row, column = orientation[:3], orientation[3:]
    normal = (
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    )
    if elements.text(t.PHASE_DIRECTION).startswith("ROW"):
        across, down = phase, -frequency
    else:
        across, down = frequency, phase
    return tuple(across * r - down * c + through * n for r, c, n in zip(row, column, normal, strict=True))
