"""Mosaics: all slices of one time point tiled into one image.

Siemens: tiles are in slice order along the normal that the CSA header gives (SliceNormalVector; without it
the normal of the image plane is taken). ImagePositionPatient belongs to a slice as large as the whole mosaic
around the first slice's centre, so the first tile starts half the difference further in. There are as many
rows of tiles as columns. Source: the notes on mosaics of SPM, nibabel and dcm2niix, which agree.

UIH (ImageType VFRAME): MR VFrame Sequence (0065,1051) has the position of each tile. There are no more rows
of tiles than needed. Source: UIH's table of private elements, in dcm2niix's documentation.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.csa import read_csa
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.instance import Frame, Instance, Six
from radiobject_assets.imaging.geometry import slice_normal
from radiobject_assets.imaging.source import AttributeValue

_MAX_TILES = 1024
_DESCRIPTION = frozenset({t.SIEMENS_MOSAIC_TILES, t.SIEMENS_SLICE_TIMES, t.SIEMENS_CSA})


def is_mosaic(elements: Elements, manufacturer: str) -> bool:
    """True if the header is that of a mosaic; `manufacturer` in upper case.

    Software that takes mosaics apart (XA) may leave the word in ImageType: a slice that nothing describes
    as a mosaic, and that is smaller than two tiles of its AcquisitionMatrix, is a slice.
    """
    if "SIEMENS" not in manufacturer or "MOSAIC" not in elements.text(t.IMAGE_TYPE).upper().split("\\"):
        return False
    if not _DESCRIPTION.isdisjoint(elements.values):
        return True
    matrix = max(elements.numbers(t.ACQUISITION_MATRIX), default=0)
    return 2 * matrix <= max(elements.integer(t.ROWS) or 0, elements.integer(t.COLUMNS) or 0)


def is_grid(elements: Elements, manufacturer: str) -> bool:
    """True if the header is that of a UIH volume in one image; `manufacturer` in upper case."""
    vendor = "UIH" in manufacturer or "UNITED" in manufacturer
    return vendor and "VFRAME" in elements.text(t.IMAGE_TYPE).upper().split("\\")


def grid_frames(elements: Elements, whole: Frame) -> tuple[Frame, ...]:
    """One frame for each tile of a UIH volume; empty where the header does not tell all positions.

    Parameters
    ----------
    whole
        The image as if it were one slice.
    """
    items = elements.items(t.UIH_VOLUME_FRAMES)
    tiles = elements.integer(t.UIH_TILES) or len(items)
    rows, columns = elements.integer(t.ROWS) or 0, elements.integer(t.COLUMNS) or 0
    if not 1 < tiles <= _MAX_TILES or len(items) < tiles:
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


def mosaic_frames(elements: Elements, whole: Frame) -> tuple[Frame, ...]:
    """One frame for each tile, placed; empty where the header does not tell their number or distance.

    Parameters
    ----------
    whole
        The mosaic as if it were one slice.
    """
    csa = read_csa(elements.raw(t.SIEMENS_CSA))
    times = elements.numbers(t.SIEMENS_SLICE_TIMES) or _floats(csa.get("MosaicRefAcqTimes", ()))
    counted = _first_int(csa.get("NumberOfImagesInMosaic", ()))
    tiles = elements.integer(t.SIEMENS_MOSAIC_TILES) or counted or len(times)
    rows, columns = elements.integer(t.ROWS) or 0, elements.integer(t.COLUMNS) or 0
    gap_mm = elements.number(t.SPACING_BETWEEN_SLICES) or elements.number(t.SLICE_THICKNESS) or 0.0
    if (
        not 1 < tiles <= _MAX_TILES
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
    whole = with_csa_diffusion(whole, elements)
    places = (first + step * number for number in range(tiles))
    return tuple(
        replace(
            whole,
            position=(float(p[0]), float(p[1]), float(p[2])),
            slice_time_ms=float(times[number]) if len(times) == tiles else None,
        )
        for number, p in enumerate(places)
    )


def phase_encoding_of(
    elements: Elements, orientation: Six | None, plane: tuple[int, int]
) -> dict[str, AttributeValue]:
    """How a Siemens header says that an echo-planar image of (columns, rows) was phase encoded.

    `phase_encoding_ras` is a unit vector (RAS+, JSON): PhaseEncodingDirectionPositive of the CSA header is 1
    where it runs along rising rows (or columns) of the image. Echo spacing and readout time (s) follow from
    BandwidthPerPixelPhaseEncode, as BIDS defines them. Empty where the header does not tell.
    """
    named = elements.text(t.PHASE_DIRECTION)[:3].upper()
    if orientation is None or named not in ("ROW", "COL"):
        return {}
    found: dict[str, AttributeValue] = {}
    csa = read_csa(elements.raw(t.SIEMENS_CSA))
    positive = csa.get("PhaseEncodingDirectionPositive", ())[:1]
    if positive in (("0",), ("1",)):
        x, y, z = orientation[:3] if named == "ROW" else orientation[3:]
        sign = 1 if positive == ("1",) else -1
        found["phase_encoding_ras"] = json.dumps([-x * sign + 0.0, -y * sign + 0.0, z * sign + 0.0])
    bandwidth = elements.numbers(t.SIEMENS_PHASE_BANDWIDTH) or _floats(
        csa.get("BandwidthPerPixelPhaseEncode", ())
    )
    lines = plane[0] if named == "ROW" else plane[1]
    if bandwidth and math.isfinite(bandwidth[0]) and bandwidth[0] > 0 and lines > 1:
        spacing_s = 1 / (bandwidth[0] * lines)
        found["effective_echo_spacing_s"] = round(spacing_s, 9)
        found["total_readout_time_s"] = round(spacing_s * (lines - 1), 9)
    return found


def with_csa_diffusion(frame: Frame, elements: Elements) -> Frame:
    """The frame with the diffusion weighting of its CSA header, where the header's elements have none.

    Older software writes it nowhere else, and some de-identification leaves it nowhere else.
    """
    if frame.b_value is not None or t.SIEMENS_CSA not in elements.values:
        return frame
    csa = read_csa(elements.raw(t.SIEMENS_CSA))
    if not csa.get("B_value"):
        return frame
    try:
        b_value = float(csa["B_value"][0])
    except ValueError:
        return frame
    direction = _vector(csa.get("DiffusionGradientDirection", ()))
    gradient = None if direction is None else (float(direction[0]), float(direction[1]), float(direction[2]))
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


def tiles_across(tiles: int) -> int:
    """Tiles in a row of a mosaic of `tiles` slices."""
    return math.isqrt(tiles - 1) + 1


def tile_rows(tiles: int) -> int:
    """Rows of tiles that a mosaic of `tiles` slices needs."""
    return -(-tiles // tiles_across(tiles))


def plane_size(instance: Instance) -> tuple[int, int]:
    """(columns, rows) of one slice: of a tile where the instance is a mosaic."""
    if instance.tiles <= 0:
        return instance.columns, instance.rows
    across = tiles_across(instance.tiles)
    return instance.columns // across, instance.rows // (instance.tile_rows or across)


def tile_of(mosaic: NDArray[Any], instance: Instance, index: int) -> NDArray[Any]:
    """Slice `index` of a mosaic (rows, columns)."""
    columns, rows = plane_size(instance)
    row, column = divmod(index, tiles_across(instance.tiles))
    return mosaic[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]
