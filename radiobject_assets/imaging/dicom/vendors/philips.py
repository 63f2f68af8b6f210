"""Philips: numbers of volumes in private elements, rescale in a real-world value mapping, traces, SUV."""

from __future__ import annotations

import math
from typing import Final

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.gradient_directions import Direction, direction
from radiobject_assets.imaging.dicom.vendor import Vendor, VendorRule

# Private elements: block 10 of the vendor's groups.
_B_VALUE: Final = 0x20011003
_PHASE_NUMBER: Final = 0x20011008
_GRADIENT: Final = (0x200510B0, 0x200510B1, 0x200510B2)
_B_VALUE_NUMBER: Final = 0x20051412
_GRADIENT_NUMBER: Final = 0x20051413
_LABEL_TYPE: Final = 0x20051429
_SUV_FACTOR: Final = 0x70531000
_ELEMENTS: Final = {
    _B_VALUE: "FL",
    _PHASE_NUMBER: "LO",
    **dict.fromkeys(_GRADIENT, "FL"),
    _B_VALUE_NUMBER: "LO",
    _GRADIENT_NUMBER: "LO",
    _LABEL_TYPE: "LO",
    _SUV_FACTOR: "LO",
}

RULES: Final[tuple[VendorRule, ...]] = (
    VendorRule(
        "orientation-philips",
        "Philips",
        "DiffusionGradientOrientation (0018,9089) of a classic image is in patient coordinates.",
        "real file",
        "Philips classic diffusion (reference data, slices tilted by 1.5 degrees) against dcm2niix",
    ),
    VendorRule(
        "philips-gradient",
        "Philips",
        "The direction in (2005,10B0), (2005,10B1), (2005,10B2) is in patient coordinates.",
        "published data",
        "issue 182 of dcm2niix: header and geometry of a scan tilted by 12 degrees, whose third direction is "
        "the slice normal in patient coordinates",
    ),
    VendorRule(
        "philips-b-value",
        "Philips",
        "The b-value is (2001,1003) where the standard's element is absent.",
        "real file",
        "a classic diffusion series (reference data) that has both, equal, against dcm2niix",
    ),
    VendorRule(
        "philips-trace",
        "Philips",
        "A weighted volume without a direction, in a series that has directions, is a trace image and a "
        "volume of its own.",
        "published data",
        "dcm2niix, which takes them out as derived images; no file was seen",
    ),
    VendorRule(
        "philips-order",
        "Philips",
        "Volumes are ordered by the numbers of b-value (2005,1412) and direction (2005,1413), the temporal "
        "position, the spin label (2005,1429) and the phase (2001,1008): instance numbers follow no order.",
        "published data",
        "issues 529 and 533 of dcm2niix; in real files (a functional series, two echoes) the temporal "
        "position alone differs",
    ),
    VendorRule(
        "philips-scaling",
        "Philips",
        "The real-world value mapping of a classic image without rescale is its rescale.",
        "real file",
        "anatomical, functional and diffusion series (reference data) against dcm2niix -p n",
    ),
    VendorRule(
        "philips-suv",
        "Philips",
        "(7053,1000) of a PET image in counts is the factor from physical values to SUV by body weight.",
        "published data",
        "vendor-neutral pseudo-code of the Quantitative Imaging Biomarkers Alliance; no file was seen",
    ),
)


class Philips(Vendor):
    """Philips."""

    rules = RULES
    private_elements = _ELEMENTS
    standard_direction_rule = "orientation-philips"
    mapping_is_rescale = True
    numbers_follow_volumes = False
    traces_apart = True

    def made(self, manufacturer: str) -> bool:
        return "PHILIPS" in manufacturer

    def b_value(self, elements: Elements) -> float | None:
        return elements.number(_B_VALUE)

    def direction(self, elements: Elements) -> Direction | None:
        parts = tuple(number for tag in _GRADIENT for number in elements.numbers(tag)[:1])
        return direction(parts, "philips-gradient")

    def volume_numbers(self, elements: Elements) -> tuple[int, ...]:
        label = elements.text(_LABEL_TYPE)[:1].upper()
        numbers = [
            elements.integer(tag) or 0 for tag in (_B_VALUE_NUMBER, _GRADIENT_NUMBER, t.TEMPORAL_POSITION)
        ]
        return (*numbers, " CL".find(label or " "), elements.integer(_PHASE_NUMBER) or 0)

    def suv_factor(self, elements: Elements) -> float | None:
        factor = elements.number(_SUV_FACTOR)
        return factor if factor is not None and math.isfinite(factor) and factor > 0 else None
