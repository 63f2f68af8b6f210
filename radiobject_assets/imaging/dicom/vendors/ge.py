"""GE: b-values of several shells, directions along the axes of the scan, complex components, reversed rows.

In GE's `epi_pepolar` sequence volumes of forward and of reversed phase encoding are in one series. The rows
of reversed volumes are stored in reverse order, while position and orientation are those of the forward ones.
The sequence is known by (0019,109C), and (0019,10B3) says which volumes are reversed: none (0), all (1), the
first, third... (2), the second, fourth... (3), counted by TemporalPositionIdentifier.
"""

from __future__ import annotations

import math
from typing import Final, Literal

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.gradient_directions import (
    Direction,
    direction,
    from_scan_axes,
    phase_direction,
    unless_contradicted,
)
from radiobject_assets.imaging.dicom.reversed_rows import POLARITY_COLUMN
from radiobject_assets.imaging.dicom.vendor import ImageFrames, Vendor, VendorRule
from radiobject_assets.imaging.source import AttributeValue

# Private elements: block 10 of the vendor's groups.
_SEQUENCE: Final = 0x0019109C
_USER_DATA_12: Final = 0x001910B3
_GRADIENT: Final = (0x001910BB, 0x001910BC, 0x001910BD)
_COMPONENT: Final = 0x0043102F
_B_VALUE: Final = 0x00431039

# GE adds multiples of 1e9 to the b-value of some protocols (dcm2niix's notes on GE diffusion).
_B_VALUE_OFFSET = 1_000_000_000
_COMPONENTS = {1: "phase", 2: "real", 3: "imaginary"}
_FORWARD, _REVERSED, _REVERSED_FIRST, _FORWARD_FIRST = range(4)
_ELEMENTS: Final = {
    _SEQUENCE: "LO",
    _USER_DATA_12: "LO",
    **dict.fromkeys(_GRADIENT, "LO"),
    _COMPONENT: "SS",
    _B_VALUE: "LO",
}

RULES: Final[tuple[VendorRule, ...]] = (
    VendorRule(
        "ge-gradient",
        "GE",
        "The direction in (0019,10BB), (0019,10BC), (0019,10BD) is along frequency, phase and slice of the "
        "scan. Which way these run in the image follows from the main direction of the slices and from "
        "InPlanePhaseEncodingDirection, and not from the patient's position.",
        "published data",
        "GE's engineer in issues 737, 970 and 971 of dcm2niix (all planes, both phase directions, head first "
        "and feet first) and in 2517 and 2523 of MRtrix3 (a tensor of an axial scan, phase along rows)",
    ),
    VendorRule(
        "ge-gradient-no-phase",
        "GE",
        "Where InPlanePhaseEncodingDirection is absent, (0019,10BB), (0019,10BC), (0019,10BD) are taken "
        "along row, column (against it) and normal of the image.",
        "nothing",
        "whether rows or columns were phase encoded",
    ),
    VendorRule(
        "ge-b-value",
        "GE",
        "The b-value is the first number in (0043,1039), modulo 1e9; where a vector is shorter than 1, it is "
        "that times the square of the length, to the nearest 5 s/mm2.",
        "published data",
        "issues 149, 163 and 245 of dcm2niix; the plain number in a real file of a Discovery MR750",
    ),
    VendorRule(
        "ge-unweighted",
        "GE",
        "In a series that has directions, a volume without one is unweighted, whatever its b-value.",
        "published data",
        "GE's engineer in issue 777 of dcm2niix: software before 29.1 labels such volumes wrongly",
    ),
    VendorRule(
        "ge-times",
        "GE",
        "Acquisition times are one for the whole series, or each slice's own: no time between volumes is "
        "made of them.",
        "real file",
        "functional and diffusion series of a Discovery MR750 (reference data): one time each",
    ),
    VendorRule(
        "ge-component",
        "GE",
        "(0043,102F) is 0 for magnitude, 1 for phase, 2 for the real and 3 for the imaginary part.",
        "vendor documentation",
        "dcm2niix's notes on GE; of a real file only 0 was seen",
    ),
    VendorRule(
        "ge-pepolar",
        "GE",
        "Images of epi_pepolar (0019,109C) whose mode (0019,10B3) is 2 are stored with their rows in reverse "
        "order where TemporalPositionIdentifier is odd.",
        "real file",
        "GE UHP 3T, mode 2, against dcm2niix (issue 532 there, 479 of heudiconv)",
    ),
    VendorRule(
        "ge-pepolar-modes",
        "GE",
        "In mode 0 no image of epi_pepolar is reversed, in mode 1 all are, in mode 3 those of even "
        "TemporalPositionIdentifier. Any other mode, and no mode, is refused.",
        "published data",
        "the public data set of all four modes and its description (issue 532 of dcm2niix)",
    ),
)


class Ge(Vendor):
    """General Electric."""

    rules = RULES
    private_elements = _ELEMENTS
    times_of_volumes = False
    unweighted_without_direction = True

    def made(self, manufacturer: str) -> bool:
        return manufacturer.startswith("GE")

    def b_value(self, elements: Elements) -> float | None:
        value = elements.number(_B_VALUE)
        if value is None or not math.isfinite(value):
            return value
        return _of_shell(elements, math.fmod(value, _B_VALUE_OFFSET))

    def direction(self, elements: Elements) -> Direction | None:
        along = [elements.number(tag) or 0.0 for tag in _GRADIENT]
        told = phase_direction(elements) in ("ROW", "COL")
        return direction(from_scan_axes(elements, along), "ge-gradient" if told else "ge-gradient-no-phase")

    def direction_of_two(self, standard: Direction, own: Direction) -> Direction:
        return unless_contradicted(standard, own)

    def component(self, elements: Elements) -> str:
        return _COMPONENTS.get(elements.integer(_COMPONENT) or 0, "")

    def rows_reversed(self, elements: Elements) -> bool | None:
        polarity = _polarity(elements)
        return None if polarity == "unknown" else polarity == "reversed"

    def attributes(
        self, elements: Elements, found: ImageFrames, *, has_pixels: bool
    ) -> dict[str, AttributeValue]:
        polarity = _polarity(elements)
        return {POLARITY_COLUMN: polarity} if polarity in ("forward", "reversed") else {}


def _of_shell(elements: Elements, nominal: float) -> float:
    """b-value of a volume: of several shells all have the highest, and the inner ones shorter vectors.

    Rounded to 5 s/mm2, since the vectors are; lengths near 0 and 1 are rounding too (as dcm2niix has it).
    """
    length = math.sqrt(sum((elements.number(tag) or 0.0) ** 2 for tag in _GRADIENT))
    if not 0.03 < length < 0.97:
        return nominal
    return 5.0 * math.floor(nominal * length * length / 5 + 0.5)


def _polarity(elements: Elements) -> Literal["forward", "reversed", "unknown"] | None:
    """Phase encoding of an `epi_pepolar` image; None for other images.

    `unknown` where the header names the sequence and does not tell whether the image is reversed.
    """
    if _SEQUENCE not in elements.values or "epi_pepolar" not in elements.text(_SEQUENCE).lower():
        return None
    mode = elements.number(_USER_DATA_12)
    if mode == _FORWARD:
        return "forward"
    if mode == _REVERSED:
        return "reversed"
    volume = elements.integer(t.TEMPORAL_POSITION)
    if mode not in (_REVERSED_FIRST, _FORWARD_FIRST) or volume is None or volume < 1:
        return "unknown"
    first_kind = volume % 2 == 1
    return "reversed" if first_kind == (mode == _REVERSED_FIRST) else "forward"
