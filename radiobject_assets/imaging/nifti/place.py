"""Where the voxels of a NIfTI image lie: sform before qform before a centred diagonal, as nibabel reads them.

Source: nifti1.h, "3D IMAGE (VOLUME) ORIENTATION AND LOCATION IN SPACE".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.geometry import corner_indices

# A quaternion's vector part may be this much longer than 1 (squared) and still be a rotation, rounded.
_QUATERNION_ROUNDING = 1e-3
# Two transforms are one where no corner of the image moves by more.
_SAME_PLACE_MM = 1e-3
# Voxel axes whose volume is this small a share of a box of their lengths lie in one plane.
_FLAT = 1e-6


@dataclass(frozen=True)
class NiftiPlace:
    """The fields of a header that say where its voxels are.

    pixdim
        qfac and the sizes of voxels, in the units of the header (at least four numbers).
    quaternion
        b, c, d and the offset.
    sform
        Rows of a (3, 4) matrix.
    """

    shape: tuple[int, ...]
    pixdim: tuple[float, ...]
    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]
    sform: tuple[float, ...]

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) voxel index to RAS+; not finite where the header's numbers are no place."""
        if self.sform_code > 0:
            return np.vstack([np.array(self.sform, dtype=np.float64).reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])
        return self._qform() if self.qform_code > 0 else self._centred()

    @property
    def other_place(self) -> tuple[float, ...]:
        """Rows of the (3, 4) transform from the world of the sform to that of a qform that says otherwise.

        Empty where the header has one place. As a transform of the world it stays true when voxels are
        turned or cropped.
        """
        if self.sform_code <= 0 or self.qform_code <= 0:
            return ()
        qform, sform = self._qform(), self.affine
        if not (np.isfinite(qform).all() and is_place(sform) and is_place(qform)):
            return ()
        if np.abs((qform - sform) @ corner_indices((*self.shape, 1, 1)[:3])).max() <= _SAME_PLACE_MM:
            return ()
        return tuple((qform @ np.linalg.inv(sform))[:3].ravel().tolist())

    def _qform(self) -> NDArray[np.float64]:
        zooms = np.abs(np.array(self.pixdim[1:4], dtype=np.float64))  # a size has no sign; as nibabel
        handed = -1.0 if self.pixdim[0] == -1 else 1.0
        affine = np.eye(4)
        affine[:3, :3] = _rotation(*self.quaternion[:3]) * zooms * np.array([1.0, 1.0, handed])
        affine[:3, 3] = self.quaternion[3:6]
        return affine

    def _centred(self) -> NDArray[np.float64]:
        # No transform at all: nibabel puts the centre of the volume at the origin, first axis to the left.
        zooms = np.abs(np.array(self.pixdim[1:4], dtype=np.float64)) * np.array([-1.0, 1.0, 1.0])
        size = np.array((*self.shape, 1, 1, 1)[:3], dtype=np.float64)
        affine = np.diag([*zooms, 1.0])
        affine[:3, 3] = -zooms * (size - 1) / 2
        return affine


_UNITS_MM = {1: 1000.0, 3: 1e-3}  # metre, micrometre
# Sides of voxels that scanners, microscopes aside, and reconstructions have.
_SMALLEST_MM, _LARGEST_MM = 0.01, 30.0


def millimetres(units: int, lengths: NDArray[np.float64]) -> float | None:
    """What the affine of a header is to be multiplied by; None where its unit leaves that open.

    Writers often set the unit wrong, so that it counts only against what sizes voxels have: where the sizes
    are those of an image in millimetres, and not in the unit that is named, they are millimetres.

    Parameters
    ----------
    units
        xyzt_units.
    lengths
        Sides of a voxel as the header has them.
    """
    factor = _UNITS_MM.get(units & 7)
    if factor is None or not np.isfinite(lengths).all():
        return 1.0
    as_written, as_named = _usual(lengths), _usual(lengths * factor)
    if as_written == as_named:
        return None
    return 1.0 if as_written else factor


def _usual(lengths_mm: NDArray[np.float64]) -> bool:
    return bool(lengths_mm.min() >= _SMALLEST_MM and lengths_mm.max() <= _LARGEST_MM)


def is_place(affine: NDArray[np.float64]) -> bool:
    """Whether an affine is finite and its three axes span a space, however small the voxels are."""
    if not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(lengths.min() > 0) and abs(float(np.linalg.det(affine[:3, :3] / lengths))) > _FLAT


def _rotation(b: float, c: float, d: float) -> NDArray[np.float64]:
    """Rotation matrix of the unit quaternion (a, b, c, d) with a >= 0; NaN where there is none."""
    square = 1.0 - (b * b + c * c + d * d)
    if not square >= -_QUATERNION_ROUNDING:
        return np.full((3, 3), np.nan)
    if square < 0:  # rounding: normalise the vector part, a is 0
        length = math.sqrt(b * b + c * c + d * d)
        b, c, d, a = b / length, c / length, d / length, 0.0
    else:
        a = math.sqrt(square)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
