"""Siemens mosaics: all slices of one time point tiled into one square image.

Tiles are in slice order along the normal that the CSA header gives (SliceNormalVector; without it the normal
of the image plane is taken). ImagePositionPatient belongs to a slice as large as the whole mosaic around the
first slice's centre, so the first tile starts half the difference further in. Source: the notes on mosaics
of SPM, nibabel and dcm2niix, which agree.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging import tags as t
from radiobject_assets.imaging.csa import read_csa
from radiobject_assets.imaging.elements import Elements
from radiobject_assets.imaging.geometry import slice_normal
from radiobject_assets.imaging.instance import Frame, Instance

_MAX_TILES = 1024


def is_mosaic(elements: Elements, manufacturer: str) -> bool:
    """True if the header is that of a mosaic; `manufacturer` in upper case."""
    return "SIEMENS" in manufacturer and "MOSAIC" in elements.text(t.IMAGE_TYPE).upper().split("\\")


def mosaic_frames(elements: Elements, whole: Frame) -> tuple[Frame, ...]:
    """One frame for each tile, placed; empty where the header does not tell their number or distance.

    Parameters
    ----------
    whole
        The mosaic as if it were one slice.
    """
    csa = read_csa(elements.raw(t.SIEMENS_CSA))
    tiles = elements.integer(t.SIEMENS_MOSAIC_TILES) or _first_int(csa.get("NumberOfImagesInMosaic", ()))
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
    whole = _with_diffusion(whole, csa)
    return tuple(
        replace(whole, position=(float(p[0]), float(p[1]), float(p[2])))
        for p in (first + step * number for number in range(tiles))
    )


def _with_diffusion(frame: Frame, csa: dict[str, tuple[str, ...]]) -> Frame:
    # Older software writes diffusion weighting nowhere but in the CSA header.
    if frame.b_value is not None or not csa.get("B_value"):
        return frame
    try:
        b_value = float(csa["B_value"][0])
    except ValueError:
        return frame
    direction = _vector(csa.get("DiffusionGradientDirection", ()))
    gradient = None if direction is None else (float(direction[0]), float(direction[1]), float(direction[2]))
    return replace(frame, b_value=b_value, gradient=gradient)


def _first_int(values: tuple[str, ...]) -> int:
    try:
        return int(values[0]) if values else 0
    except ValueError:
        return 0


def _vector(values: tuple[str, ...]) -> NDArray[np.float64] | None:
    try:
        vector = np.array([float(value) for value in values])
    except ValueError:
        return None
    length = float(np.linalg.norm(vector)) if vector.shape == (3,) else 0.0
    return vector / length if math.isfinite(length) and length > 1e-6 else None


def tiles_across(tiles: int) -> int:
    """Tiles in a row (and in a column) of a mosaic of `tiles` slices."""
    return math.isqrt(tiles - 1) + 1


def plane_size(instance: Instance) -> tuple[int, int]:
    """(columns, rows) of one slice: of a tile where the instance is a mosaic."""
    across = tiles_across(instance.tiles) if instance.tiles > 0 else 1
    return instance.columns // across, instance.rows // across


def tile_of(mosaic: NDArray[Any], tiles: int, index: int) -> NDArray[Any]:
    """Slice `index` of a mosaic (rows, columns)."""
    across = tiles_across(tiles)
    rows, columns = mosaic.shape[0] // across, mosaic.shape[1] // across
    top, left = index // across * rows, index % across * columns
    return mosaic[top : top + rows, left : left + columns]
