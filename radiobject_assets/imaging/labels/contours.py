"""From closed planar contours to a mask: which voxel centres of a slice lie inside.

Rings in one plane are combined by the even-odd rule, so a ring in a ring is a hole and CLOSEDPLANAR_XOR and
keyhole contours come out right (PS3.3 C.8.8.6.3). Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

# A plane of contours may lie this share of the slice spacing off the slice it is put on: contours drawn
# between two slices go to the nearer one.
_HALF_SLICE = 0.5 + 1e-6
_PLANE_TOLERANCE = 0.05
# Planes this many slices apart leave slices between them without contours.
_COARSE_GAP = 1.5
# Gaps up to this many times the smallest one are the same gap.
_REGULAR = 1.5
_FAR_MM = 1e6


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


def contour_planes(
    contours: Sequence[Points], to_voxel: NDArray[np.float64], n_slices: int
) -> dict[float, list[Points]]:
    """Contours (n, 3; LPS mm) as rings (n, 2; voxels), by the slice (not a whole number) that they lie at.

    Slices below 0 and from `n_slices` on are beyond the image.

    Raises
    ------
    ValueError
        If contours within the image are not parallel to its slices.
    """
    planes: dict[float, list[Points]] = {}
    for contour in contours:
        ras = np.column_stack([-contour[:, 0], -contour[:, 1], contour[:, 2], np.ones(len(contour))])
        voxels = (to_voxel @ ras.T)[:3].T
        z = float(voxels[:, 2].mean())
        if np.ptp(voxels[:, 2]) > _HALF_SLICE and reaches(voxels[:, 2], n_slices):
            raise ValueError("a contour is not parallel to the slices of its image")
        key = next((known for known in planes if abs(known - z) <= _PLANE_TOLERANCE), z)
        planes.setdefault(key, []).append(voxels[:, :2])
    return dict(sorted(planes.items()))


def reaches(coordinates: NDArray[np.float64], n_voxels: int) -> bool:
    """Whether points (voxels along one axis) reach an image of `n_voxels`, or lie before and behind it."""
    return bool(coordinates.max() >= -_HALF_SLICE and coordinates.min() <= n_voxels - 1 + _HALF_SLICE)


@dataclass(frozen=True)
class Between:
    """What a slice takes its mask from: the plane of contours at `below`, or one between it and `above`.

    `share` is how far the slice is on the way to `above`.
    """

    below: float
    above: float
    share: float


def slices_of_planes(planes: Sequence[float], n_slices: int, usual_gap: float) -> dict[int, Between]:
    """Which planes of contours each slice takes its mask from.

    A slice takes the nearest plane within half a slice; a plane that is nobody's nearest (two planes to one
    slice) is covered by its neighbour. Where a region is drawn on every second slice or fewer, the slices
    between two planes are interpolated. It counts as drawn so if its gaps are regular (a larger one parts two
    pieces of the region), and there are two of them or all regions are drawn so.

    Parameters
    ----------
    planes
        Rising, in slices; those beyond the image count for slices between them and the next.
    usual_gap
        The smallest distance between two planes of any region of the structure set, in slices.
    """
    found: dict[int, Between] = {}
    for z in planes:
        if not -_HALF_SLICE <= z <= n_slices - 1 + _HALF_SLICE:
            continue
        index = min(max(int(np.floor(z + 0.5)), 0), n_slices - 1)
        if index not in found or abs(z - index) < abs(found[index].below - index):
            found[index] = Between(z, z, 0.0)
    gaps = np.diff(planes)
    if not len(gaps) or gaps.min() < _COARSE_GAP:
        return found
    own = float(gaps.min())
    if len(gaps) < 2 and usual_gap * _REGULAR < own:
        return found
    for below, above in pairwise(planes):
        if above - below > own * _REGULAR:
            continue
        for index in range(max(0, int(np.ceil(below))), min(n_slices - 1, int(np.floor(above))) + 1):
            found.setdefault(index, Between(below, above, (index - below) / (above - below)))
    return found


def smallest_gap(planes: Sequence[float]) -> float:
    """The smallest distance between neighbouring planes; infinite where there is one or none."""
    return float(np.diff(planes).min()) if len(planes) > 1 else float("inf")


def mask_between(
    below: NDArray[np.bool_], above: NDArray[np.bool_], share: float, spacing_mm: tuple[float, float]
) -> NDArray[np.bool_]:
    """The mask at `share` of the way between two, by the distance of voxels from the borders of both.

    Source: shape-based interpolation, Raya and Udupa, IEEE Trans Med Imaging 1990.
    """
    either = below | above
    if not either.any():
        return either
    columns, rows = np.flatnonzero(either.any(axis=1)), np.flatnonzero(either.any(axis=0))
    # one voxel more on every side, so that what touches the border of the box has an outside
    box = np.s_[max(0, columns[0] - 1) : columns[-1] + 2, max(0, rows[0] - 1) : rows[-1] + 2]
    inside = (1 - share) * _signed(below[box], spacing_mm) + share * _signed(above[box], spacing_mm) > 0
    mask = np.zeros_like(either)
    mask[box] = inside
    return mask


def _signed(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Distance from the border of a mask in mm, positive inside."""
    return distance_mm(~mask, spacing_mm) - distance_mm(mask, spacing_mm)


def distance_mm(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Distance of every voxel centre from the nearest one of the mask; very far where there is none."""
    columns, rows = mask.shape
    x = np.arange(columns, dtype=np.float64)[:, None] * spacing_mm[0]
    before = np.maximum.accumulate(np.where(mask, x, -_FAR_MM), axis=0)
    after = np.minimum.accumulate(np.where(mask, x, _FAR_MM)[::-1], axis=0)[::-1]
    along = np.minimum(x - before, after - x) ** 2
    nearest = along.copy()
    for shift in range(1, rows):
        across = (shift * spacing_mm[1]) ** 2
        if across >= nearest.max():
            break  # no row further away is nearer
        np.minimum(nearest[:, shift:], along[:, :-shift] + across, out=nearest[:, shift:])
        np.minimum(nearest[:, :-shift], along[:, shift:] + across, out=nearest[:, :-shift])
    return np.asarray(np.sqrt(nearest), dtype=np.float64)
