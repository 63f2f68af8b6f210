"""Why labels do not lie on an image's voxels: by how much they are off, and what usually does that.

Each cause is one that the two headers show; where none does, the numbers are all that is said. Functions
here are pure.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from radiobject_assets.imaging.geometry import TILT_DEG, Float, Grid, tilt_deg
from radiobject_assets.imaging.labels.turning import AS_STORED, nearest_turn, turn_onto
from radiobject_assets.orientation import spacing_mm

# Voxel sizes that differ by less are one.
_SAME_SPACING = 0.01
# A shift counts as one of whole (or half) voxels within this.
_NEAR_VOXELS = 0.05
_ANGLE_DEG = 0.1
_WORLD_AXES = ("left-right", "front-back", "head-foot")


def difference(labels: Grid, image: Grid) -> str:
    """What differs between the grid of labels and that of an image, for a person; no identifiers."""
    turn = nearest_turn(labels, image) or AS_STORED
    turned = turn.grid(labels)
    if turned.shape != image.shape:
        return f"{_sizes(labels, image)}{_cause_of_shape(labels, turned, image)}"
    off = f"their corners lie up to {turned.off_by_mm(image):.3g} mm ({_voxels(turned, image)}) apart"
    cause = _cause(labels, turned, image)
    return f"{off}{': ' if cause else ''}{cause}"


def _voxels(one: Grid, other: Grid) -> str:
    found = one.off_by_voxels(other)
    return f"{found:.3g} voxels" if np.isfinite(found) else "an axis of no length"


def _sizes(labels: Grid, image: Grid) -> str:
    return f"the labels have {_size(labels)}, the image {_size(image)}"


def _size(grid: Grid) -> str:
    voxel = " x ".join(f"{s:.4g}" for s in spacing_mm(grid.affine))
    return f"{' x '.join(map(str, grid.shape))} voxels of {voxel} mm"


def _cause_of_shape(labels: Grid, turned: Grid, image: Grid) -> str:
    if labels.shape[::-1] == image.shape and np.ptp(image.shape) > 0:
        return ": their axes are in reverse order (z, y, x), as arrays of SimpleITK have them"
    if not _same_spacing(turned, image):
        return ": they were drawn on another reconstruction, or resampled"
    start = _start(turned, image)
    if _angle_deg(turned, image) <= _ANGLE_DEG and np.abs(start - start.round()).max() <= _NEAR_VOXELS:
        first = " x ".join(str(int(n) + 0) for n in start.round())
        return f": their voxels are the image's, from voxel {first} on: one of them was cropped or padded"
    return ": they are of another scan, or one of them was cropped"


def _cause(labels: Grid, turned: Grid, image: Grid) -> str:
    """What moves labels of the image's shape away from it, by the two affines; "" where nothing is known."""
    if _placeless(labels) and not _placeless(image):
        return "the labels' header has no place (an affine of ones): it was lost on saving"
    tilts = tilt_deg(image.affine), tilt_deg(turned.affine)
    if abs(tilts[0] - tilts[1]) > TILT_DEG:
        return (
            f"the image's slices lean by {tilts[0]:.3g} degrees (a tilted gantry), the labels' by "
            f"{tilts[1]:.3g}: a tool that keeps no shear lost it on saving"
        )
    if not _same_spacing(turned, image):
        voxel = [" x ".join(f"{s:.4g}" for s in spacing_mm(g.affine)) for g in (turned, image)]
        return f"the labels' voxels measure {voxel[0]} mm, the image's {voxel[1]} mm"
    return _mirrored(labels, image) or _moved(turned, image)


def _mirrored(labels: Grid, image: Grid) -> str:
    for signs in product((1.0, -1.0), repeat=3):
        if min(signs) > 0:
            continue
        mirror = np.diag([*signs, 1.0])
        if turn_onto(Grid(labels.shape, mirror @ labels.affine), image) is not None:
            named = " and ".join(name for name, s in zip(_WORLD_AXES, signs, strict=True) if s < 0)
            lps = signs == (-1.0, -1.0, 1.0)
            how = "the world's axes are mirrored" + (" (LPS taken for RAS, or back)" if lps else "")
            return f"{how}: {named}"
    for signs in product((1.0, -1.0), repeat=3):
        if min(signs) > 0 or labels.shape != image.shape:
            continue
        reversed_ = Grid(image.shape, image.affine @ np.diag([*signs, 1.0]))
        if reversed_.same_as(labels):
            axes = [name for name, s in zip(("columns", "rows", "slices"), signs, strict=True) if s < 0]
            named = " and ".join(axes)
            return f"{named} run the other way from the same first voxel, so that the origin is mirrored"
    return ""


def _moved(turned: Grid, image: Grid) -> str:
    angle = _angle_deg(turned, image)
    if angle > _ANGLE_DEG:
        return f"they are turned by {angle:.3g} degrees: of another scan, or registered"
    start = _start(turned, image)
    shift = " x ".join(f"{value:.3g}" for value in start + 0.0)
    halves = start * 2
    if np.abs(halves - halves.round()).max() <= _NEAR_VOXELS and np.abs(halves).max() <= 1 + _NEAR_VOXELS:
        return f"they are shifted by half a voxel ({shift}): corners of voxels were taken for their centres"
    if np.abs(start - start.round()).max() <= _NEAR_VOXELS:
        return f"they are shifted by whole voxels ({shift}): of another scan, or cropped without its place"
    return f"they are shifted by {shift} voxels: of another scan, or registered"


def _placeless(grid: Grid) -> bool:
    """Whether the affine is what arrays without a place get: ones on the diagonal, the origin at 0."""
    return bool(np.allclose(np.abs(grid.affine), np.eye(4), atol=1e-6))


def _same_spacing(one: Grid, other: Grid) -> bool:
    return bool(np.allclose(spacing_mm(one.affine), spacing_mm(other.affine), rtol=_SAME_SPACING))


def _start(one: Grid, other: Grid) -> Float:
    """Where the first voxel of a grid lies on another one, in its voxels."""
    found: Float = (np.linalg.inv(other.affine) @ one.affine[:, 3])[:3]
    return found


def _angle_deg(one: Grid, other: Grid) -> float:
    """The largest angle between axes of the same number."""
    directions = [grid.affine[:3, :3] / spacing_mm(grid.affine) for grid in (one, other)]
    cosines = (directions[0] * directions[1]).sum(axis=0).clip(-1.0, 1.0)
    return float(np.degrees(np.arccos(cosines)).max())
