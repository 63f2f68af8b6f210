"""Canon, and Toshiba whose scanners it went on with: diffusion weighting in ImageComments, UIDs of slices."""

from __future__ import annotations

import re
from typing import Final

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.gradient_directions import Direction, direction, from_scan_axes
from radiobject_assets.imaging.dicom.vendor import Vendor, VendorRule

_NUMBER = r"([-+]?[0-9]*\.?[0-9]+)"
_COMMENT = re.compile(rf"b={_NUMBER}(?:\({_NUMBER},{_NUMBER},{_NUMBER}\))?")

RULES: Final[tuple[VendorRule, ...]] = (
    VendorRule(
        "orientation-canon",
        "Canon",
        "DiffusionGradientOrientation (0018,9089) of a classic image is in patient coordinates.",
        "real file",
        "Canon Galan 3T, V6.1, slices tilted by 20 degrees, 12 directions, against dcm2niix; the data set's "
        "description and pull request 1000 of dcm2niix",
    ),
    VendorRule(
        "orientation-toshiba",
        "Toshiba",
        "DiffusionGradientOrientation (0018,9089) of a classic image is in patient coordinates; unweighted "
        "images do not have it.",
        "published data",
        "dcm2niix's notes on Toshiba and its public data set of a Galan 3T, V5.0",
    ),
    VendorRule(
        "canon-comment-gradient",
        "Canon, Toshiba",
        "The direction in ImageComments, b=1000(x,y,z), is along phase, frequency and slice of the scan; "
        "(0018,9089) goes before it.",
        "nothing",
        "the sign of the phase encoding, which these images do not tell: of two scans of opposite polarity "
        "one has a component of the wrong sign (dcm2niix's notes on Canon; its data set has phase along "
        "columns)",
    ),
    VendorRule(
        "canon-uid-of-each-slice",
        "Canon",
        "Series of one SeriesNumber whose UIDs differ in their last number are the slices of one series, "
        "where that number counts along the slices and each has the same number of images.",
        "published data",
        "issue 495 of dcm2niix (Galan 3T, V6.0SP2001, classic images); no file was seen",
    ),
)


class Canon(Vendor):
    """Canon."""

    rules = RULES
    standard_direction_rule = "orientation-canon"
    uid_of_each_slice = True

    def made(self, manufacturer: str) -> bool:
        return manufacturer.startswith("CANON")

    def b_value(self, elements: Elements) -> float | None:
        return next(iter(_comment(elements)), None)

    def direction(self, elements: Elements) -> Direction | None:
        comment = _comment(elements)
        if not comment[1:]:
            return None
        along = [comment[2], comment[1], comment[3]]
        return direction(from_scan_axes(elements, along), "canon-comment-gradient")


class Toshiba(Canon):
    """Toshiba: as Canon, but for what `orientation-toshiba` rests on."""

    rules = ()
    standard_direction_rule = "orientation-toshiba"

    def made(self, manufacturer: str) -> bool:
        return manufacturer.startswith("TOSHIBA")


def _comment(elements: Elements) -> tuple[float, ...]:
    """b-value and maybe direction in ImageComments; () where they say anything else.

    The direction is along phase, frequency and slice.
    """
    found = _COMMENT.fullmatch(elements.text(t.IMAGE_COMMENTS).strip())
    return tuple(float(number) for number in found.groups() if number) if found else ()
