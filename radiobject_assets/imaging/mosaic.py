"""Siemens mosaics: all slices of one time point tiled into one square image.

The tiles are in acquisition order along the slice normal that the CSA header gives (SliceNormalVector).
ImagePositionPatient is the corner of the whole mosaic as if it were one slice, so the position of the first
tile is moved towards the centre: see `unfold`. Source: dcm2niix's and dicm2nii's notes on mosaics.
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray


def tiles_across(tiles: int) -> int:
    """Tiles in a row (and in a column) of a mosaic of `tiles` slices."""
    return math.isqrt(tiles - 1) + 1


def tile_of(mosaic: NDArray[Any], tiles: int, index: int) -> NDArray[Any]:
    """Slice `index` of a mosaic (rows, columns)."""
    across = tiles_across(tiles)
    rows, columns = mosaic.shape[0] // across, mosaic.shape[1] // across
    top, left = index // across * rows, index % across * columns
    return mosaic[top : top + rows, left : left + columns]
