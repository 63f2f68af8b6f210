"""From closed planar contours to a mask: which voxel centres of a slice lie inside.

Rings in one plane are combined by the even-odd rule, so a ring in a ring is a hole and CLOSEDPLANAR_XOR and
keyhole contours come out right (PS3.3 C.8.8.6.3). Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

# A plane of contours may lie this share of the slice spacing off the slice it is put on: contours drawn
# between two slices go to the nearer one.
_HALF_SLICE = 0.5 + 1e-6
_PLANE_TOLERANCE = 0.05


def fill_rings(rings: Sequence[Points], columns: int, rows: int) -> NDArray[np.bool_]:
    """Mask (columns, rows) of the voxel centres inside an odd number of rings.

    Parameters
    ----------
    rings
        Polygons, each (n, 2): x and y in voxels; voxel centres are at whole numbers. The last point joins the
        first.
    """
    mask = np.zeros((columns, rows), dtype=np.bool_)
    starts = np.concatenate(list(rings)) if rings else np.empty((0, 2))
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings]) if rings else np.empty((0, 2))
    if not len(starts):
        return mask
    first = max(0, int(np.ceil(min(starts[:, 1].min(), ends[:, 1].min()))))
    last = min(rows - 1, int(np.floor(max(starts[:, 1].max(), ends[:, 1].max()))))
    for y in range(first, last + 1):
        crossing = (starts[:, 1] <= y) != (ends[:, 1] <= y)
        a, b = starts[crossing], ends[crossing]
        x = np.sort(a[:, 0] + (y - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1]))
        for left, right in zip(x[::2], x[1::2], strict=True):
            mask[max(0, int(np.ceil(left))) : max(0, int(np.ceil(right))), y] = True
    return mask


def rings_by_slice(
    contours: Sequence[Points], to_voxel: NDArray[np.float64], n_slices: int
) -> dict[int, list[Points]]:
    """Contours (n, 3; LPS mm) as rings (n, 2; voxels) on the slices of a grid.

    Every slice takes the nearest plane of contours within half a slice; a plane that is nobody's nearest (two
    planes to one slice) is covered by its neighbour.

    Raises
    ------
    ValueError
        If contours are not parallel to the slices, or lie beyond the first or last slice.
    """
    planes: dict[float, list[Points]] = {}
    for contour in contours:
        ras = np.column_stack([-contour[:, 0], -contour[:, 1], contour[:, 2], np.ones(len(contour))])
        voxels = (to_voxel @ ras.T)[:3].T
        z = float(voxels[:, 2].mean())
        if np.ptp(voxels[:, 2]) > _HALF_SLICE:
            raise ValueError("a contour is not parallel to the slices of its image")
        if not -_HALF_SLICE <= z <= n_slices - 1 + _HALF_SLICE:
            raise ValueError(f"a contour lies beyond the image, at slice {z + 1:.1f} of {n_slices}")
        key = next((known for known in planes if abs(known - z) <= _PLANE_TOLERANCE), z)
        planes.setdefault(key, []).append(voxels[:, :2])
    nearest: dict[int, float] = {}
    for z in planes:
        index = min(max(int(np.floor(z + 0.5)), 0), n_slices - 1)
        if index not in nearest or abs(z - index) < abs(nearest[index] - index):
            nearest[index] = z
    return {index: planes[z] for index, z in nearest.items()}
