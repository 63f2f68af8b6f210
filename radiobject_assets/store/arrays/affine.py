"""Which affines a volume may have. RAS+ millimetres, voxel indices (column, row, slice)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from radiobject_assets.errors import ShapeError
from radiobject_assets.orientation import Affine


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
