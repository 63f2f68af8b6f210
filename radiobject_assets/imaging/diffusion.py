"""Diffusion weighting of a frame: b-values and gradient directions, standard and vendor elements.

Directions are unit vectors in LPS patient coordinates, as the standard's DiffusionGradientOrientation.
GE, Canon and UIH write those of classic images in the frame of the scan or the image; they are turned into
patient coordinates here. Enhanced objects have them in MR Diffusion Gradient Direction Sequence, in patient
coordinates by the standard (PS3.3 C.8.13.5.9); so they are taken, whoever wrote them, as dcm2niix does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import cast

from radiobject_assets.imaging import tags as t
from radiobject_assets.imaging.elements import Elements
from radiobject_assets.imaging.instance import Triple

# GE adds multiples of 1e9 to the b-value of some protocols (dcm2niix's notes on GE diffusion).
_GE_OFFSET = 1_000_000_000
_NUMBER = r"([-+]?[0-9]*\.?[0-9]+)"
_CANON_COMMENT = re.compile(rf"b={_NUMBER}(?:\({_NUMBER},{_NUMBER},{_NUMBER}\))?")
_SCAN_AXES = ("GE", "CANON")
_COMMENTING = ("CANON", "TOSHIBA")
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
            value = None if value is None else _of_ge_shell(elements, math.fmod(value, _GE_OFFSET))
        elif "PHILIPS" in manufacturer:
            value = elements.number(t.PHILIPS_B_VALUE)
        elif "UIH" in manufacturer or "UNITED" in manufacturer:
            value = elements.number(t.UIH_B_VALUE)
    if value is None and manufacturer.startswith(_COMMENTING):
        value = next(iter(_canon_comment(elements)), None)
    return value if value is not None and math.isfinite(value) and value >= 0 else None


def _of_ge_shell(elements: Elements, nominal: float) -> float:
    """b-value of a GE volume: of several shells all have the highest, and the inner ones shorter vectors.

    Rounded to 5 s/mm2, since the vectors are; lengths near 0 and 1 are rounding too (as dcm2niix has it).
    """
    length = math.sqrt(sum((elements.number(tag) or 0.0) ** 2 for tag in t.GE_GRADIENT))
    if not 0.03 < length < 0.97:
        return nominal
    return 5.0 * math.floor(nominal * length * length / 5 + 0.5)


def gradient_of(elements: Elements, manufacturer: str) -> Triple | None:
    """Gradient direction (unit vector, LPS), or None where there is none or it is zero."""
    direction: tuple[float, ...] = ()
    sequence = elements.first(t.GRADIENT_SEQUENCE)
    if sequence is not None:
        direction = sequence.numbers(t.GRADIENT)
    elif t.GRADIENT in elements.values:
        direction = elements.numbers(t.GRADIENT)
        if manufacturer.startswith(_SCAN_AXES) and t.IMAGE_ORIENTATION in elements.values:
            direction = _from_scan_axes(elements, direction)
    elif "SIEMENS" in manufacturer:
        direction = elements.numbers(t.SIEMENS_GRADIENT)
    elif "PHILIPS" in manufacturer:
        direction = tuple(number for tag in t.PHILIPS_GRADIENT for number in elements.numbers(tag)[:1])
    elif "UIH" in manufacturer or "UNITED" in manufacturer:
        direction = _from_image_axes(elements, elements.numbers(t.UIH_GRADIENT))
    elif manufacturer.startswith("GE"):
        parts = [elements.number(tag) or 0.0 for tag in t.GE_GRADIENT]
        direction = _from_scan_axes(elements, parts)
    elif manufacturer.startswith(_COMMENTING):
        comment = _canon_comment(elements)
        direction = _from_scan_axes(elements, (comment[2], comment[1], comment[3])) if comment[1:] else ()
    length = math.sqrt(sum(v * v for v in direction)) if len(direction) == 3 else 0.0
    if not math.isfinite(length) or length < 1e-6:
        return None
    return cast(Triple, tuple(v / length for v in direction))


# GE's (0019,10BB..BD), and DiffusionGradientOrientation of GE and Canon against the standard, are along
# frequency, phase and slice of the scan, not of the image. The signs along row, column and normal of the
# image, by main direction of the slices and InPlanePhaseEncodingDirection, are those that dcm2niix gives for
# the same files (test_vendors.py asks it); opposite directions weigh alike.
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
    place = _SIGNS.get((plane, elements.text(t.PHASE_DIRECTION)[:3].upper()))
    # Without a phase direction nothing can be told; taken as written, the column axis against the image's.
    along = place(frequency, phase, through) if place else (frequency, -phase, through)
    return _from_image_axes(elements, along)


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
