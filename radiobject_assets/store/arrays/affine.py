"""What an affine says: spacing and axis codes. RAS+ millimetres, voxel indices (column, row, slice)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radiobject_assets.errors import ShapeError
from radiobject_assets.orientation import Affine, affine_axcodes

__all__ = [
    "Affine",
    "affine_axcodes",
    "affine_from_values",
    "affine_spacing_mm",
    "slab_affine",
    "validate_affine",
]


def validate_affine(affine: ArrayLike) -> Affine:
    """`affine` as a 4x4 float64 matrix.

    Raises
    ------
    ShapeError
        Unless it is 4x4, finite, invertible, with the last row 0 0 0 1.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise ShapeError(f"the affine has shape {matrix.shape}; expected (4, 4)")
    if not np.isfinite(matrix).all():
        raise ShapeError("the affine has values that are not finite")
    if not np.array_equal(matrix[3], (0.0, 0.0, 0.0, 1.0)):
        raise ShapeError(f"the last row of the affine is {matrix[3].tolist()}; expected [0, 0, 0, 1]")
    if np.linalg.det(matrix[:3, :3]) == 0.0:
        raise ShapeError("the affine is singular: an axis has no direction or no spacing")
    return matrix


def affine_spacing_mm(affine: Affine) -> NDArray[np.float64]:
    """Voxel spacing along the three axes in millimetres."""
    spacing: NDArray[np.float64] = np.linalg.norm(affine[:3, :3], axis=0)
    return spacing


def affine_from_values(values: ArrayLike) -> Affine:
    """The 4x4 matrix of twelve values in row order, as obs keeps them."""
    matrix = np.eye(4)
    matrix[:3] = np.asarray(values, dtype=np.float64).reshape(3, 4)
    return matrix


def slab_affine(affine: Affine, start: Any) -> Affine:
    """The affine of a part of a volume that begins at voxel index `start` (x, y, z)."""
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ np.asarray(start, dtype=np.float64)[:3] + affine[:3, 3]
    return moved
