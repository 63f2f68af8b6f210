"""Where the frames of a segmentation lie on the voxels of their image.

A frame fits if its plane is one of the image's slices and its pixels are the slice's pixels: maybe fewer
(a cropped region), maybe flipped or transposed, never in between. Everything is found from positions and
orientations; frame order and instance references are not trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.dicom.instance import Frame
from radiobject_assets.imaging.geometry import SAME_GRID_VOXELS, Grid, dicom_affine, slice_normal
from radiobject_assets.imaging.pixels.acceptance import Problem
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.orientation import spacing_mm

# A frame's corners may be this share of a voxel off the image's voxel centres.
_TOLERANCE_VOXELS = SAME_GRID_VOXELS


@dataclass(frozen=True, slots=True)
class Placed:
    """A frame's place: slice `z`, and how its (columns, rows) array maps to x and y of the image.

    x0, y0
        Voxel of the frame's first pixel.
    x_step, y_step
        -1 where the frame runs against the image.
    transposed
        True if the frame's columns run along the image's y.
    """

    z: int
    x0: int
    y0: int
    x_step: int
    y_step: int
    transposed: bool

    def paste(self, pixels: NDArray[Any], target: NDArray[Any], combine: Any) -> None:
        """Combine a frame's pixels (rows, columns) into a slice of the image, shape (X, Y)."""
        array = pixels if self.transposed else pixels.T
        array = array[:: self.x_step, :: self.y_step]
        width, height = array.shape
        left = self.x0 if self.x_step > 0 else self.x0 - width + 1
        top = self.y0 if self.y_step > 0 else self.y0 - height + 1
        region = target[left : left + width, top : top + height]
        region[...] = combine(region, array)


def place_frames(
    frames: Sequence[Frame], columns: int, rows: int, grid: Grid
) -> tuple[Placed, ...] | Problem:
    """The place of every frame on the grid, or why there is none."""
    inverse = np.linalg.inv(grid.affine)
    placed: list[Placed] = []
    for number, frame in enumerate(frames):
        if frame.position is None or frame.orientation is None or frame.pixel_spacing is None:
            return Problem(
                Reason.NO_GEOMETRY, f"frame {number + 1} has no position, orientation or pixel spacing"
            )
        try:
            normal = slice_normal(frame.orientation)
        except ValueError as error:
            return Problem(Reason.BAD_GEOMETRY, f"frame {number + 1}: {error}")
        affine = dicom_affine(frame.position, frame.orientation, frame.pixel_spacing, normal.tolist())
        place = _place(inverse @ affine, columns, rows, grid)
        if isinstance(place, str):
            return Problem(
                Reason.LABELS_OFF_GRID, f"frame {number + 1} of {len(frames)} is off its image: {place}"
            )
        placed.append(place)
    if not placed:
        return Problem(Reason.LABELS_EMPTY, "the segmentation has no frame")
    return tuple(placed)


def _place(to_image: NDArray[np.float64], columns: int, rows: int, grid: Grid) -> Placed | str:
    """The place of a frame, or by how much it misses the image's voxels."""
    corners = np.array(
        [[0, columns - 1, 0, columns - 1], [0, 0, rows - 1, rows - 1], [0, 0, 0, 0], [1, 1, 1, 1]],
        dtype=np.float64,
    )
    where = (to_image @ corners)[:3]
    nearest = np.round(where)
    beyond = np.maximum(-where, where - (np.array(grid.shape)[:, None] - 1)).max(axis=1)
    if beyond.max() > 0.5:
        axis = int(beyond.argmax())
        mm = beyond[axis] * spacing_mm(grid.affine)[axis]
        named = ("columns", "rows", "slices")[axis]
        return f"it reaches {beyond[axis]:.1f} {named} ({mm:.3g} mm) beyond it"
    if np.ptp(where[2]) > 2 * _TOLERANCE_VOXELS:
        return f"it cuts through {np.ptp(where[2]):.3g} of its slices"
    off = np.abs(where - nearest).max(axis=1)
    if off.max() > _TOLERANCE_VOXELS:
        mm = off[off.argmax()] * spacing_mm(grid.affine)[int(off.argmax())]
        half = ", half a voxel: corners taken for centres?" if off.max() > 0.5 - _TOLERANCE_VOXELS else ""
        return f"its corners lie {off.max():.2g} voxels ({mm:.2g} mm) from voxels{half}"
    if np.ptp(nearest[2]) != 0:
        return "it cuts through its slices"
    transposed = abs(to_image[1, 0]) > abs(to_image[0, 0])
    along_x = to_image[0, 1] if transposed else to_image[0, 0]
    along_y = to_image[1, 0] if transposed else to_image[1, 1]
    if abs(abs(along_x) - 1) > _TOLERANCE_VOXELS or abs(abs(along_y) - 1) > _TOLERANCE_VOXELS:
        return f"its pixels measure {abs(along_x):.3g} x {abs(along_y):.3g} of the image's"
    x0, y0, z = (int(value) for value in nearest[:, 0])
    return Placed(z, x0, y0, 1 if along_x > 0 else -1, 1 if along_y > 0 else -1, transposed)
