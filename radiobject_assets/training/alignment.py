"""Volumes that must lie on one another: the same shape and the same place in the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import AlignmentError
from radiobject_assets.orientation import affine_from_values, spacing_mm
from radiobject_assets.store import AFFINE_COLUMNS

TOLERANCE_VOXELS = 0.05
"""How far the corners of two grids may lie apart, in voxels. NIfTI headers keep float32 affines and DICOM
positions decimal strings, so equal grids differ by rounding; a shift by a twentieth of a voxel moves no
label."""


def affine_of(row: Mapping[str, Any]) -> NDArray[np.float64]:
    """The 4x4 affine (voxel index to RAS+ millimetres) of a row with `affine_00` ... `affine_23`."""
    return affine_from_values([row[name] for name in AFFINE_COLUMNS])


def patch_affine(affine: NDArray[np.float64], start: Sequence[int]) -> NDArray[np.float64]:
    """The affine of a patch that begins at voxel `start` of a volume with `affine`."""
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] = affine[:3, :3] @ np.asarray(start, dtype=np.float64) + affine[:3, 3]
    return moved


def check_same_grid(
    shape: Sequence[int],
    affine: NDArray[np.float64],
    other_shape: Sequence[int],
    other_affine: NDArray[np.float64],
    what: str,
) -> None:
    """Check that two volumes have the same grid: patches cut at the same voxel show the same place.

    Parameters
    ----------
    shape, other_shape
        (X, Y, Z) or (X, Y, Z, T). A 3D volume fits every time point of a 4D one.
    affine, other_affine
        4x4, voxel index to RAS+ millimetres.
    what
        The two volumes, for the message: `seg of ct "a_ct"`.

    Raises
    ------
    AlignmentError
        The shapes differ, or a corner of one lies more than `TOLERANCE_VOXELS` from the other's.
    """
    same_times = len(shape) == 3 or len(other_shape) == 3 or shape[3] == other_shape[3]
    if tuple(shape[:3]) != tuple(other_shape[:3]) or not same_times:
        raise AlignmentError(
            f"{what}: shapes {tuple(shape)} and {tuple(other_shape)}; resample one to the other's grid"
        )
    corners = np.array([[*corner, 1.0] for corner in product(*[(0, extent - 1) for extent in shape[:3]])])
    apart_mm = float(np.abs(corners @ (np.asarray(affine) - np.asarray(other_affine)).T).max())
    tolerance_mm = TOLERANCE_VOXELS * min(spacing_mm(np.asarray(affine)))
    if not apart_mm <= tolerance_mm:  # also true when a number is NaN
        raise AlignmentError(
            f"{what}: same shape, but the grids lie up to {apart_mm:.3g} mm apart; "
            "resample one to the other's grid"
        )
