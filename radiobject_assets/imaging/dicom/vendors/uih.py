"""United Imaging Healthcare: directions along the axes of the image, all slices of a volume in one image.

An image with VFRAME in its ImageType is a grid of slices: MR VFrame Sequence (0065,1051) has the position of
each, and there are no more rows of tiles than needed. Source: UIH's table of private elements, in dcm2niix's
documentation.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.gradient_directions import (
    Direction,
    direction,
    from_image_axes,
    unless_contradicted,
)
from radiobject_assets.imaging.dicom.instance import Frame
from radiobject_assets.imaging.dicom.mosaic import MAX_TILES, tile_rows, tiles_across
from radiobject_assets.imaging.dicom.vendor import ImageFrames, Vendor, VendorRule

# Private elements: block 10 of the vendor's groups.
_B_VALUE: Final = 0x00651009
_GRADIENT: Final = 0x00651037
_TILES: Final = 0x00651050
_VOLUME_FRAMES: Final = 0x00651051
_ELEMENTS: Final = {
    _B_VALUE: "FD",
    _GRADIENT: "FD",
    _TILES: "LO",
    _VOLUME_FRAMES: "SQ",
}

RULES: Final[tuple[VendorRule, ...]] = (
    VendorRule(
        "uih-gradient",
        "UIH",
        "The direction in (0065,1037) is along row, column and normal of the image, and goes before "
        "(0018,9089).",
        "published data",
        "dcm2niix and dicm2nii, which read it so independently, held against UIH's own data set (issue 225)",
    ),
    VendorRule(
        "uih-b-value",
        "UIH",
        "The b-value is (0065,1009) where the standard's element is absent.",
        "vendor documentation",
        "UIH's table of private elements (issue 225 of dcm2niix)",
    ),
    VendorRule(
        "uih-grid",
        "UIH",
        "A VFRAME image holds all slices of a volume; MR VFrame Sequence (0065,1051) has the place of each.",
        "vendor documentation",
        "UIH's table of private elements (issue 225 of dcm2niix)",
    ),
)


class Uih(Vendor):
    """United Imaging Healthcare."""

    rules = RULES
    private_elements = _ELEMENTS

    def made(self, manufacturer: str) -> bool:
        return "UIH" in manufacturer or "UNITED" in manufacturer

    def b_value(self, elements: Elements) -> float | None:
        return elements.number(_B_VALUE)

    def direction(self, elements: Elements) -> Direction | None:
        return direction(from_image_axes(elements, elements.numbers(_GRADIENT)), "uih-gradient")

    def direction_of_two(self, standard: Direction, own: Direction) -> Direction:
        return unless_contradicted(own, standard)

    def image_frames(self, elements: Elements, whole: Frame) -> ImageFrames:
        if "VFRAME" not in elements.text(t.IMAGE_TYPE).upper().split("\\"):
            return ImageFrames((whole,))
        frames = _grid_frames(elements, whole)
        return ImageFrames(frames, len(frames) or -1, tile_rows(len(frames)) if frames else 0)


def _grid_frames(elements: Elements, whole: Frame) -> tuple[Frame, ...]:
    """One frame for each tile; empty where the header does not tell all positions."""
    items = elements.items(_VOLUME_FRAMES)
    tiles = elements.integer(_TILES) or len(items)
    rows, columns = elements.integer(t.ROWS) or 0, elements.integer(t.COLUMNS) or 0
    if not 1 < tiles <= MAX_TILES or len(items) < tiles:
        return ()
    if rows % tile_rows(tiles) or columns % tiles_across(tiles):
        return ()
    positions = [item.numbers(t.IMAGE_POSITION) for item in items[:tiles]]
    if any(len(p) != 3 or not all(map(math.isfinite, p)) for p in positions):
        return ()
    acquired_at = items[0].text(t.ACQUISITION_DATE) + items[0].text(t.ACQUISITION_TIME)
    whole = replace(whole, acquired_at=whole.acquired_at or acquired_at)
    times = [_milliseconds(item.text(t.ACQUISITION_TIME)) for item in items[:tiles]]
    return tuple(
        replace(whole, position=(p[0], p[1], p[2]), slice_time_ms=time)
        for p, time in zip(positions, times, strict=True)
    )


def _milliseconds(time: str) -> float | None:
    """Time of day (TM, HHMMSS.FFFFFF) in milliseconds."""
    try:
        hours, minutes, seconds = int(time[:2]), int(time[2:4]), float(time[4:])
    except ValueError:
        return None
    return round(((hours * 60 + minutes) * 60 + seconds) * 1000, 3)
