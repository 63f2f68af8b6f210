"""Diffusion weighting of a frame: b-values and gradient directions, standard and vendor elements.

Directions are unit vectors in LPS patient coordinates, as the standard's DiffusionGradientOrientation
(PS3.3 C.8.13.5.9), which is taken so wherever it stands. The vendors' own elements of GE and UIH, and Canon's
comments, are in the frame of the scan or the image; they are turned into patient coordinates here. What each
reading rests on is in `vendor_rules.RULES`, and every direction names its rule.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.instance import Triple

# GE adds multiples of 1e9 to the b-value of some protocols (dcm2niix's notes on GE diffusion).
_GE_OFFSET = 1_000_000_000
_NUMBER = r"([-+]?[0-9]*\.?[0-9]+)"
_CANON_COMMENT = re.compile(rf"b={_NUMBER}(?:\({_NUMBER},{_NUMBER},{_NUMBER}\))?")
_COMMENTING = ("CANON", "TOSHIBA")
_CLASSIC = (
    ("CANON", "orientation-canon"), ("PHILIPS", "orientation-philips"), ("TOSHIBA", "orientation-toshiba"),
)  # fmt: skip
"""Rule of the standard's element in a classic image, by maker."""
_ALIKE = math.cos(math.radians(2))
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
            if value is not None and math.isfinite(value):
                value = _of_ge_shell(elements, math.fmod(value, _GE_OFFSET))
        elif "PHILIPS" in manufacturer:
            value = elements.number(t.PHILIPS_B_VALUE)
        elif _is_uih(manufacturer):
            value = elements.number(t.UIH_B_VALUE)
    if value is None and manufacturer.startswith(_COMMENTING):
        value = next(iter(_canon_comment(elements)), None)
    return value if value is not None and math.isfinite(value) and value >= 0 else None


def _is_uih(manufacturer: str) -> bool:
    return "UIH" in manufacturer or "UNITED" in manufacturer


def _of_ge_shell(elements: Elements, nominal: float) -> float:
    """b-value of a GE volume: of several shells all have the highest, and the inner ones shorter vectors.

    Rounded to 5 s/mm2, since the vectors are; lengths near 0 and 1 are rounding too (as dcm2niix has it).
    """
    length = math.sqrt(sum((elements.number(tag) or 0.0) ** 2 for tag in t.GE_GRADIENT))
    if not 0.03 < length < 0.97:
        return nominal
    return 5.0 * math.floor(nominal * length * length / 5 + 0.5)


@dataclass(frozen=True, slots=True)
class Direction:
    """A gradient direction (unit vector, LPS patient coordinates) and the rule by which it was understood."""

    vector: Triple
    rule: str
    """Name in `vendor_rules.RULE`."""


def direction_of(elements: Elements, manufacturer: str) -> Direction | None:
    """Gradient direction of a frame, or None where there is none or it is zero.

    `manufacturer` is in upper case. Where the standard's element and the vendor's own contradict each other,
    UIH's own is taken and of GE the standard's, as dcm2niix does, and the rule says that nothing proves it.
    """
    standard = _standard_direction(elements, manufacturer)
    own = _own_direction(elements, manufacturer)
    if standard is None or own is None:
        return standard or own
    if not (manufacturer.startswith("GE") or _is_uih(manufacturer)):
        return standard
    first = own if _is_uih(manufacturer) else standard
    # opposite directions weigh alike
    aligned = abs(sum(a * b for a, b in zip(standard.vector, own.vector, strict=True)))
    return first if aligned >= _ALIKE else Direction(first.vector, "orientation-contradicted")


def _standard_direction(elements: Elements, manufacturer: str) -> Direction | None:
    sequence = elements.first(t.GRADIENT_SEQUENCE)
    if sequence is not None:
        return _direction(sequence.numbers(t.GRADIENT), "orientation-enhanced")
    if t.GRADIENT not in elements.values:
        return None
    rule = next((rule for maker, rule in _CLASSIC if maker in manufacturer), "orientation")
    return _direction(elements.numbers(t.GRADIENT), rule)


def _own_direction(elements: Elements, manufacturer: str) -> Direction | None:
    if "SIEMENS" in manufacturer:
        return _direction(elements.numbers(t.SIEMENS_GRADIENT), "siemens-gradient")
    if "PHILIPS" in manufacturer:
        parts = tuple(number for tag in t.PHILIPS_GRADIENT for number in elements.numbers(tag)[:1])
        return _direction(parts, "philips-gradient")
    if _is_uih(manufacturer):
        return _direction(_from_image_axes(elements, elements.numbers(t.UIH_GRADIENT)), "uih-gradient")
    if manufacturer.startswith("GE"):
        along = [elements.number(tag) or 0.0 for tag in t.GE_GRADIENT]
        told = _phase_direction(elements) in ("ROW", "COL")
        return _direction(_from_scan_axes(elements, along), "ge-gradient" if told else "ge-gradient-no-phase")
    if manufacturer.startswith(_COMMENTING) and (comment := _canon_comment(elements))[1:]:
        along = [comment[2], comment[1], comment[3]]
        return _direction(_from_scan_axes(elements, along), "canon-comment-gradient")
    return None


def _direction(vector: Sequence[float], rule: str) -> Direction | None:
    length = math.sqrt(sum(v * v for v in vector)) if len(vector) == 3 else 0.0
    if not math.isfinite(length) or length < 1e-6:
        return None
    return Direction(cast(Triple, tuple(v / length for v in vector)), rule)


# GE's (0019,10BB..BD) and the comments of Canon are along frequency, phase and slice of the scan, not of the
# image. The signs along row, column and normal of the image go by main direction of the slices and
# InPlanePhaseEncodingDirection; what they rest on: `ge-gradient` in vendor_rules.py.
_SIGNS: dict[tuple[str, str], Callable[[float, float, float], Triple]] = {
    ("axial", "COL"): lambda f, p, s: (-f, -p, s),
    ("axial", "ROW"): lambda f, p, s: (-p, f, s),
    ("sagittal", "COL"): lambda f, p, s: (f, p, -s),
    ("sagittal", "ROW"): lambda f, p, s: (p, -f, -s),
    ("coronal", "COL"): lambda f, p, s: (-f, p, s),
    ("coronal", "ROW"): lambda f, p, s: (p, f, s),
}


def _canon_comment(elements: Elements) -> tuple[float, ...]:
    """b-value and maybe direction in ImageComments of Toshiba and Canon; () where they say anything else.

    The direction is along phase, frequency and slice.
    """
    found = _CANON_COMMENT.fullmatch(elements.text(t.IMAGE_COMMENTS).strip())
    return tuple(float(number) for number in found.groups() if number) if found else ()


def _from_scan_axes(elements: Elements, direction: Sequence[float]) -> tuple[float, ...]:
    if len(direction) != 3:
        return ()
    frequency, phase, through = direction
    normal = _normal(elements.numbers(t.IMAGE_ORIENTATION))
    if not normal or not any((frequency, phase, through)):
        return ()
    sizes = [abs(value) for value in normal]
    plane = ("sagittal", "coronal", "axial")[sizes.index(max(sizes))]
    place = _SIGNS.get((plane, _phase_direction(elements)))
    # Without a phase direction nothing can be told (`ge-gradient-no-phase`).
    along = place(frequency, phase, through) if place else (frequency, -phase, through)
    return _from_image_axes(elements, along)


def _phase_direction(elements: Elements) -> str:
    return elements.text(t.PHASE_DIRECTION)[:3].upper()


def _normal(orientation: Sequence[float]) -> tuple[float, ...]:
    if len(orientation) != 6:
        return ()
    row, column = orientation[:3], orientation[3:]
    return (
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    )


def _from_image_axes(elements: Elements, along: Sequence[float]) -> tuple[float, ...]:
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
