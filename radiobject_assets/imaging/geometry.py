"""Where voxels are: from DICOM positions and orientations (LPS) to affines (RAS), and back.

Pure functions. DICOM coordinates are LPS millimetres (PS3.3 C.7.6.2), affines map voxel indices
(column, row, slice) to RAS+ millimetres as NIfTI does. PixelSpacing is (distance between rows, distance
between columns), so its second value goes with the first voxel axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Two directions are one orientation below this difference of any cosine (scanners round to 1e-4 and worse).
SAME_DIRECTION = 1e-3
# A slice may be this share of the spacing off its place in a regular stack, or in each coordinate as much as
# the rounding of positions to 0.1 mm explains (0.05 mm for the slice and as much for the end it is measured
# from), which is common; but never more than a fifth of the spacing.
SPACING_TOLERANCE = 0.05
ROUNDING_MM = 0.1
LARGEST_TOLERANCE = 0.2
# Positions nearer than this are the same position.
SAME_POSITION_MM = 1e-2
# A stack that leans more than this from its normal was scanned with a tilted gantry.
TILT_DEG = 0.1
# Two grids are one where no corner voxel is off by more than this share of a voxel along any axis: headers
# round directions to four digits, and tools make them orthonormal, which moves far corners by hundredths.
SAME_GRID_VOXELS = 0.1


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid in space: `shape` (X, Y, Z) and the (4, 4) `affine` from voxel index to RAS+ mm."""

    shape: tuple[int, int, int]
    affine: Float

    def same_as(self, other: Grid, tolerance_voxels: float = SAME_GRID_VOXELS) -> bool:
        """True if both have the same shape, and no corner voxel is off by more than a share of a voxel."""
        return self.shape == other.shape and self.off_by_voxels(other) <= tolerance_voxels

    def off_by_voxels(self, other: Grid) -> float:
        """How far a corner voxel of this grid lies from that of `other` with the same index, at most.

        Along any axis, in voxels (of the grid whose voxels are smaller along it); infinite where an affine is
        none. Both grids have one shape.
        """
        off_mm = ((self.affine - other.affine) @ corner_indices(self.shape))[:3]
        try:
            axes = [np.linalg.inv(grid.affine[:3, :3]) for grid in (self, other)]
        except np.linalg.LinAlgError:
            return float("inf")
        found = max(float(np.abs(axis @ off_mm).max()) for axis in axes)
        return found if np.isfinite(found) else float("inf")

    def off_by_mm(self, other: Grid) -> float:
        """The largest distance between corner voxels of the same index, in mm. Both grids have one shape."""
        off_mm = ((self.affine - other.affine) @ corner_indices(self.shape))[:3]
        return float(np.linalg.norm(off_mm, axis=0).max())


def corner_indices(shape: Sequence[int]) -> Float:
    """Homogeneous indices (4, 8) of the corner voxels of a grid."""
    last = [max(0, n - 1) for n in shape[:3]]
    grid = np.array(np.meshgrid(*[(0, n) for n in last], indexing="ij"), dtype=np.float64).reshape(3, -1)
    return np.vstack([grid, np.ones((1, grid.shape[1]))])


def slice_normal(orientation: Sequence[float]) -> Float:
    """Unit normal of the plane of an ImageOrientationPatient (row cosines, column cosines), in LPS.

    Raises
    ------
    ValueError
        If the cosines are not six finite numbers of two perpendicular unit vectors.
    """
    cosines = np.asarray(orientation, dtype=np.float64)
    if cosines.shape != (6,) or not np.isfinite(cosines).all():
        raise ValueError(f"ImageOrientationPatient has {cosines.size} values, 6 finite ones are needed")
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(lengths[0] - 1) > 1e-2 or abs(lengths[1] - 1) > 1e-2 or abs(float(row @ column)) > 1e-2:
        raise ValueError("ImageOrientationPatient is not two perpendicular unit vectors")
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def dicom_affine(
    position: Sequence[float],
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    step: Sequence[float],
) -> Float:
    """Affine (RAS+) of a stack of slices.

    Parameters
    ----------
    position
        ImagePositionPatient of the first slice: centre of its first voxel, LPS mm.
    orientation
        ImageOrientationPatient: direction of rising column index, then of rising row index.
    pixel_spacing
        PixelSpacing: distance between rows, distance between columns, mm.
    step
        Vector from one slice's position to the next's, LPS mm (not along the normal if the gantry tilts).
    """
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(orientation[:3], dtype=np.float64) * pixel_spacing[1]
    affine[:3, 1] = np.asarray(orientation[3:6], dtype=np.float64) * pixel_spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = position
    return LPS_TO_RAS @ affine


def tilt_deg(affine: Float) -> float:
    """Angle between a grid's slice axis and the normal of its slices, in degrees (0 for upright stacks)."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    step = affine[:3, 2]
    cosine = abs(float(normal @ step)) / (float(np.linalg.norm(normal)) * float(np.linalg.norm(step)))
    return float(np.degrees(np.arccos(min(1.0, cosine))))


@dataclass(frozen=True, eq=False)
class Stack:
    """Slice positions that were ordered along the normal.

    order
        Indices of the input positions, from the lowest to the highest along the normal.
    step
        LPS vector between neighbouring slices (mean over the stack).
    gaps
        Distances along the normal between neighbours, mm, shape (n - 1,).
    deviation_mm
        Largest distance of any slice from its place in the regular stack.
    coordinate_deviation_mm
        The same in any one of x, y and z.
    missing
        Number of slices that are missing if the gaps are whole multiples of the usual one; else 0.
    """

    order: NDArray[np.intp]
    step: Float
    gaps: Float
    deviation_mm: float
    coordinate_deviation_mm: float
    missing: int

    @property
    def regular(self) -> bool:
        """True if one affine fits all slices."""
        spacing = float(np.linalg.norm(self.step))
        rounded = self.coordinate_deviation_mm <= ROUNDING_MM and self.deviation_mm <= (
            LARGEST_TOLERANCE * spacing
        )
        return rounded or self.deviation_mm <= SPACING_TOLERANCE * spacing


def order_positions(positions: Float, normal: Float) -> Stack:
    """Order the distinct slice positions (n, 3; n >= 2; LPS mm) of one orientation along `normal`."""
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    ordered = positions[order]
    gaps = np.diff(along[order])
    step = (ordered[-1] - ordered[0]) / (len(ordered) - 1)
    ideal = ordered[0] + np.arange(len(ordered))[:, None] * step
    off = ordered - ideal
    deviation_mm = float(np.linalg.norm(off, axis=1).max())
    return Stack(order, step, gaps, deviation_mm, float(np.abs(off).max()), _missing_slices(gaps))


def usual_gap(gaps: Float) -> float:
    """The median (numpy's own imports masked arrays for it, which takes longer than all the geometry)."""
    ordered = np.sort(gaps)
    return float(ordered[(len(gaps) - 1) // 2] + ordered[len(gaps) // 2]) / 2


def _missing_slices(gaps: Float) -> int:
    # Where most slices are missing it is the smallest.
    for unit in (usual_gap(gaps), float(gaps.min())):
        multiples = gaps / max(unit, 1e-9)
        whole = np.round(multiples)
        if whole.min() >= 1 and np.abs(multiples - whole).max() <= LARGEST_TOLERANCE:
            return int(whole.sum()) - len(gaps)
    return 0
