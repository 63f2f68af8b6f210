"""Diffusion weighting of a frame: b-value and direction, by the standard's elements and the vendor's.

DiffusionGradientOrientation (PS3.3 C.8.13.5.9) is in patient coordinates and taken so wherever it stands.
What each reading rests on is in `vendor_rules.RULES`, and every direction names its rule.
"""

from __future__ import annotations

import math

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.gradient_directions import Direction, direction
from radiobject_assets.imaging.dicom.vendor import Vendor


def b_value_of(elements: Elements, vendor: Vendor) -> float | None:
    """b-value in s/mm2, or None where the frame has none."""
    value = elements.number(t.B_VALUE) if t.B_VALUE in elements.values else None
    if value is None:
        value = vendor.b_value(elements)
    return value if value is not None and math.isfinite(value) and value >= 0 else None


def direction_of(elements: Elements, vendor: Vendor) -> Direction | None:
    """Gradient direction of a frame, or None where there is none or it is zero."""
    standard, own = _standard_direction(elements, vendor), vendor.direction(elements)
    if standard is None or own is None:
        return standard or own
    return vendor.direction_of_two(standard, own)


def _standard_direction(elements: Elements, vendor: Vendor) -> Direction | None:
    sequence = elements.first(t.GRADIENT_SEQUENCE)
    if sequence is not None:
        return direction(sequence.numbers(t.GRADIENT), "orientation-enhanced")
    if t.GRADIENT not in elements.values:
        return None
    return direction(elements.numbers(t.GRADIENT), vendor.standard_direction_rule)
