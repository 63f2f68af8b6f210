"""Siemens: the CSA header, mosaics, and the phase encoding of echo-planar images.

Tiles of a mosaic are in slice order along the normal that the CSA header gives (SliceNormalVector; without it
the normal of the image plane is taken). ImagePositionPatient belongs to a slice as large as the whole mosaic
around the first slice's centre, so the first tile starts half the difference further in. There are as many
rows of tiles as columns. Source: the notes on mosaics of SPM, nibabel and dcm2niix, which agree.

The split export of XA software (`siemens-split`) is known by its ImageType, whoever the Manufacturer is:
`mfsplit`.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.gradient_directions import Direction, direction
from radiobject_assets.imaging.dicom.instance import Frame, Six
from radiobject_assets.imaging.dicom.mosaic import MAX_TILES, tiles_across
from radiobject_assets.imaging.dicom.vendor import ImageFrames, Vendor, VendorRule
from radiobject_assets.imaging.dicom.vendors.siemens_csa import read_csa
from radiobject_assets.imaging.geometry import slice_normal
from radiobject_assets.imaging.source import AttributeValue

# Private elements: block 10 of the vendor's groups.
_MOSAIC_TILES: Final = 0x0019100A
_B_VALUE: Final = 0x0019100C
_GRADIENT: Final = 0x0019100E
_PHASE_BANDWIDTH: Final = 0x00191028
_SLICE_TIMES: Final = 0x00191029
_CSA: Final = 0x00291010

_MOSAIC_ELEMENTS = frozenset({_MOSAIC_TILES, _SLICE_TIMES, _CSA})
_ELEMENTS: Final = {
    _MOSAIC_TILES: "US",
    _B_VALUE: "LO",
    _GRADIENT: "FD",
    _PHASE_BANDWIDTH: "FD",
    _SLICE_TIMES: "FD",
    _CSA: "OB",
}

RULES: Final[tuple[VendorRule, ...]] = (
    VendorRule(
        "siemens-gradient",
        "Siemens",
        "The direction in (0019,100E) is in patient coordinates.",
        "real file",
        "a Siemens B17 diffusion mosaic (nibabel's test data, slices tilted by 0.3 degrees) against "
        "dcm2niix, and against its B-matrix; dcm2niix's notes on Siemens, issue 419",
    ),
    VendorRule(
        "siemens-csa-gradient",
        "Siemens",
        "B_value and DiffusionGradientDirection of the CSA header (0029,1010): as (0019,100C) and "
        "(0019,100E).",
        "real file",
        "the same mosaic: both places hold the same; CSA headers of B17 read as nibabel reads them",
    ),
    VendorRule(
        "siemens-b-value",
        "Siemens",
        "The b-value is (0019,100C), or B_value of the CSA header.",
        "real file",
        "a Siemens B17 diffusion mosaic (nibabel's test data) against dcm2niix",
    ),
    VendorRule(
        "siemens-split",
        "Siemens",
        "Series with MFSPLIT are volumes of one enhanced series: SeriesNumber is the scan's times 1000 and "
        "the volume's number, AcquisitionNumber is the volume's number, Related Series Sequence names the "
        "series.",
        "real file",
        "Siemens Prisma, XA30, interoperability export of a functional scan, against dcm2niix; PS3.16 121326",
    ),
    VendorRule(
        "siemens-mosaic",
        "Siemens",
        "Tiles of a mosaic are slices along SliceNormalVector of the CSA header; ImagePositionPatient is "
        "that of a slice as large as the mosaic.",
        "real file",
        "a functional series (reference data) and nibabel's B17 mosaics against dcm2niix and nibabel; of "
        "tiles against the normal no file was seen",
    ),
    VendorRule(
        "siemens-mosaic-taken-apart",
        "Siemens",
        "An image with MOSAIC in its ImageType, that nothing describes as a mosaic and that is smaller "
        "than two tiles of its AcquisitionMatrix, is a slice.",
        "published data",
        "dcm2niix's notes on XA software; no file was seen",
    ),
    VendorRule(
        "siemens-csa1",
        "Siemens",
        "Lengths of the older CSA header are larger than they should be by one constant, found by trying.",
        "published data",
        "the descriptions of nibabel and SPM, which differ in where it stands; no file was seen",
    ),
    VendorRule(
        "siemens-slice-times",
        "Siemens",
        "(0019,1029), or MosaicRefAcqTimes of the CSA header, is when each slice was acquired (ms).",
        "real file",
        "a functional mosaic series (reference data) against dcm2niix",
    ),
    VendorRule(
        "siemens-phase-encoding",
        "Siemens",
        "PhaseEncodingDirectionPositive of the CSA header is 1 where phase runs along rising rows or "
        "columns; BandwidthPerPixelPhaseEncode gives the echo spacing.",
        "real file",
        "a functional mosaic series (reference data) against dcm2niix, phase along columns, one polarity",
    ),
)


class Siemens(Vendor):
    """Siemens."""

    rules = RULES
    private_elements = _ELEMENTS

    def made(self, manufacturer: str) -> bool:
        return "SIEMENS" in manufacturer

    def b_value(self, elements: Elements) -> float | None:
        return elements.number(_B_VALUE)

    def direction(self, elements: Elements) -> Direction | None:
        return direction(elements.numbers(_GRADIENT), "siemens-gradient")

    def image_frames(self, elements: Elements, whole: Frame) -> ImageFrames:
        if _is_mosaic(elements):
            frames = _mosaic_frames(elements, whole)
            return ImageFrames(frames, len(frames) or -1)
        return ImageFrames((_with_csa_diffusion(whole, elements) if _is_echo_planar(elements) else whole,))

    def attributes(
        self, elements: Elements, found: ImageFrames, *, has_pixels: bool
    ) -> dict[str, AttributeValue]:
        if not (has_pixels and found.frames and _is_echo_planar(elements)):
            return {}
        across = tiles_across(found.tiles) if found.tiles > 0 else 1
        plane = (elements.integer(t.COLUMNS) or 0) // across, (elements.integer(t.ROWS) or 0) // across
        return _phase_encoding(elements, found.frames[0].orientation, plane)


def _is_echo_planar(elements: Elements) -> bool:
    return "EP" in elements.text(t.SCANNING_SEQUENCE)


def _is_mosaic(elements: Elements) -> bool:
    """Whether the header is that of a mosaic.

    Software that takes mosaics apart (XA) may leave the word in ImageType: a slice that nothing describes
    as a mosaic, and that is smaller than two tiles of its AcquisitionMatrix, is a slice.
    """
    image_type = elements.text(t.IMAGE_TYPE).upper().split("\\")
    if "MOSAIC" not in image_type:
        counted = _first_int(read_csa(elements.raw(_CSA)).get("NumberOfImagesInMosaic", ()))
        return image_type == [""] and bool(elements.integer(_MOSAIC_TILES) or counted)
    if not _MOSAIC_ELEMENTS.isdisjoint(elements.values):
        return True
    matrix = max(elements.numbers(t.ACQUISITION_MATRIX), default=0)
    return 2 * matrix <= max(elements.integer(t.ROWS) or 0, elements.integer(t.COLUMNS) or 0)


def _mosaic_frames(elements: Elements, whole: Frame) -> tuple[Frame, ...]:
    """One frame for each tile, placed; empty where the header does not tell their number or distance."""
    csa = read_csa(elements.raw(_CSA))
    times = elements.numbers(_SLICE_TIMES) or _floats(csa.get("MosaicRefAcqTimes", ()))
    counted = _first_int(csa.get("NumberOfImagesInMosaic", ()))
    tiles = elements.integer(_MOSAIC_TILES) or counted or len(times)
    rows, columns = elements.integer(t.ROWS) or 0, elements.integer(t.COLUMNS) or 0
    # never SliceThickness instead: slices with a gap between them would be put too near to each other
    gap_mm = elements.number(t.SPACING_BETWEEN_SLICES) or 0.0
    if (
        not 1 < tiles <= MAX_TILES
        or gap_mm <= 0
        or not (whole.position and whole.orientation and whole.pixel_spacing)
    ):
        return ()
    across = tiles_across(tiles)
    if rows % across or columns % across:
        return ()
    try:
        step = slice_normal(whole.orientation) * gap_mm
    except ValueError:
        return ()
    declared = _vector(csa.get("SliceNormalVector", ()))
    if declared is not None and float(declared @ step) < 0:
        step = -step
    inward_x = whole.pixel_spacing[1] * (columns - columns // across) / 2
    inward_y = whole.pixel_spacing[0] * (rows - rows // across) / 2
    orientation = np.array(whole.orientation)
    first = np.array(whole.position) + orientation[:3] * inward_x + orientation[3:] * inward_y
    whole = _with_csa_diffusion(whole, elements)
    places = (first + step * number for number in range(tiles))
    return tuple(
        replace(
            whole,
            position=(float(p[0]), float(p[1]), float(p[2])),
            slice_time_ms=float(times[number]) if len(times) == tiles else None,
        )
        for number, p in enumerate(places)
    )


def _phase_encoding(
    elements: Elements, orientation: Six | None, plane: tuple[int, int]
) -> dict[str, AttributeValue]:
    """How an echo-planar image of (columns, rows) was phase encoded; empty where the header does not tell.

    `phase_encoding_ras` is a unit vector (RAS+, JSON): PhaseEncodingDirectionPositive of the CSA header is 1
    where it runs along rising rows (or columns) of the image. Echo spacing and readout time (s) follow from
    BandwidthPerPixelPhaseEncode, as BIDS defines them.
    """
    named = elements.text(t.PHASE_DIRECTION)[:3].upper()
    if orientation is None or named not in ("ROW", "COL"):
        return {}
    found: dict[str, AttributeValue] = {}
    csa = read_csa(elements.raw(_CSA))
    positive = csa.get("PhaseEncodingDirectionPositive", ())[:1]
    if positive in (("0",), ("1",)):
        x, y, z = orientation[:3] if named == "ROW" else orientation[3:]
        sign = 1 if positive == ("1",) else -1
        found["phase_encoding_ras"] = json.dumps([-x * sign + 0.0, -y * sign + 0.0, z * sign + 0.0])
    bandwidth = elements.numbers(_PHASE_BANDWIDTH) or _floats(csa.get("BandwidthPerPixelPhaseEncode", ()))
    lines = plane[0] if named == "ROW" else plane[1]
    if bandwidth and math.isfinite(bandwidth[0]) and bandwidth[0] > 0 and lines > 1:
        spacing_s = 1 / (bandwidth[0] * lines)
        found["effective_echo_spacing_s"] = round(spacing_s, 9)
        found["total_readout_time_s"] = round(spacing_s * (lines - 1), 9)
    return found


def _with_csa_diffusion(frame: Frame, elements: Elements) -> Frame:
    """The frame with the diffusion weighting of its CSA header, where the header's elements have none.

    Older software writes it nowhere else, and some de-identification leaves it nowhere else.
    """
    if frame.b_value is not None or _CSA not in elements.values:
        return frame
    csa = read_csa(elements.raw(_CSA))
    if not csa.get("B_value"):
        return frame
    try:
        b_value = float(csa["B_value"][0])
    except ValueError:
        return frame
    found = _vector(csa.get("DiffusionGradientDirection", ()))
    gradient = None if found is None else (float(found[0]), float(found[1]), float(found[2]))
    rule = "siemens-csa-gradient" if gradient else ""
    return replace(frame, b_value=b_value, gradient=gradient, direction_rule=rule)


def _first_int(values: tuple[str, ...]) -> int:
    try:
        return int(values[0]) if values else 0
    except ValueError:
        return 0


def _floats(values: tuple[str, ...]) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in values)
    except ValueError:
        return ()


def _vector(values: tuple[str, ...]) -> NDArray[np.float64] | None:
    vector = np.array(_floats(values))
    length = float(np.linalg.norm(vector)) if vector.shape == (3,) else 0.0
    return vector / length if math.isfinite(length) and length > 1e-6 else None
