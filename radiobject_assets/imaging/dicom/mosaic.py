"""How slices are tiled into one image, where a vendor stores volumes so (Siemens' mosaics, UIH's grids)."""

from __future__ import annotations

import math
from typing import Any, Final

from numpy.typing import NDArray

from radiobject_assets.imaging.dicom.instance import Instance

MAX_TILES: Final = 1024


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
