"""Segmentations whose voxels are not those of their image: taken over by the nearest voxel.

A SEG drawn on a finer, coarser, cropped or turned grid has a regular grid of its own. Every voxel of the
image takes the label of the SEG voxel that its centre lies in; outside the SEG it is background.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.instance import Frame
from radiobject_assets.imaging.geometry import (
    LARGEST_TOLERANCE,
    SAME_DIRECTION,
    SAME_POSITION_MM,
    Grid,
    dicom_affine,
    slice_normal,
)
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.source import AttributeValue, ImageSource, Slab

_MAX_SLICES = 65536


def own_grid(frames: Sequence[Frame], columns: int, rows: int, image: Grid | None = None) -> Grid | None:
    """The regular grid that the frames of a SEG lie on, with empty slices between them; None without one.

    Where every labelled slice has unlabelled ones beside it, which writers leave out, the smallest gap is not
    the spacing: the slices of `image` tell it, if the frames are as thick as they are apart.
    """
    first = frames[0] if frames else Frame()
    if first.position is None or first.orientation is None or first.pixel_spacing is None:
        return None
    for frame in frames:
        if frame.position is None or frame.orientation is None or frame.pixel_spacing is None:
            return None
        if not np.allclose(frame.orientation, first.orientation, atol=SAME_DIRECTION):
            return None
        if not np.allclose(frame.pixel_spacing, first.pixel_spacing, rtol=1e-4):
            return None
    try:
        normal = slice_normal(first.orientation)
    except ValueError:
        return None
    positions = np.array([frame.position for frame in frames], dtype=np.float64)
    along = positions @ normal
    order = np.argsort(along)
    ordered = along[order]
    gaps = np.diff(ordered)
    gaps = gaps[gaps > SAME_POSITION_MM]
    if not len(gaps):
        return None  # one slice has no thickness that could be trusted
    spacing = _spacing_of_image(frames, normal, image)
    if spacing is None or spacing > gaps.min():
        spacing = float(gaps.min())
    multiples = gaps / spacing
    n_slices = int(np.round((ordered[-1] - ordered[0]) / spacing)) + 1
    if np.abs(multiples - np.round(multiples)).max() > LARGEST_TOLERANCE or n_slices > _MAX_SLICES:
        return None
    step = (positions[order[-1]] - positions[order[0]]) / (n_slices - 1)
    affine = dicom_affine(positions[order[0]].tolist(), first.orientation, first.pixel_spacing, step.tolist())
    return Grid((columns, rows, n_slices), affine)


def _spacing_of_image(
    frames: Sequence[Frame], normal: NDArray[np.float64], image: Grid | None
) -> float | None:
    """The spacing (mm) of an image's slices that frames are parallel to and as thick as; None without."""
    if image is None:
        return None
    step = image.affine[:3, 2] * [-1, -1, 1]
    spacing = float(np.linalg.norm(step))
    parallel = bool(np.allclose(np.abs(step @ normal) / spacing, 1, atol=SAME_DIRECTION))
    thick = all(f.thickness_mm is not None and abs(f.thickness_mm / spacing - 1) < 1e-2 for f in frames)
    return spacing if parallel and thick else None


def overlaps(one: Grid, other: Grid) -> bool:
    """True if any voxel centre of `one`, sampled coarsely, lies inside `other`."""
    sampled = [np.unique(np.linspace(0, n - 1, 24).round()) for n in one.shape]
    points = np.array(np.meshgrid(*sampled, indexing="ij"), dtype=np.float64).reshape(3, -1)
    where = (np.linalg.inv(other.affine) @ one.affine @ np.vstack([points, np.ones(points.shape[1])]))[:3]
    inside = (where > -0.5) & (where < np.array(other.shape)[:, None] - 0.5)
    return bool(inside.all(axis=0).any())


class ResampledLabels:
    """Labels of another grid, on the grid of their image (`source.ImageSource`).

    What lies beyond the image is cut off; the attribute `labels_clipped` tells how many labelled voxels do.
    """

    def __init__(self, labels: ImageSource, grid: Grid) -> None:
        self._labels = labels
        self.shape: tuple[int, ...] = grid.shape
        self.dtype: np.dtype[Any] = labels.dtype
        self.affine: NDArray[np.float64] = grid.affine
        self.slope = labels.slope
        self.intercept = labels.intercept
        self._own: NDArray[Any] | None = None

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """See `ImageSource.attributes`; the labels are read for them."""
        beyond = self._beyond()
        said: dict[str, AttributeValue] = {**self._labels.attributes, "resampled_to_image": 1}
        return {**said, "labels_clipped": beyond} if beyond else said

    def _read(self) -> NDArray[Any]:
        if self._own is None:
            own = np.zeros(self._labels.shape, self.dtype, order="F")
            for slab in self._labels.slabs(own.shape[2]):
                own[:, :, slab.z : slab.z + slab.voxels.shape[2]] = slab.voxels
            self._own = own
        return self._own

    def _beyond(self) -> int:
        """Labelled voxels whose centre lies in no voxel of the image."""
        own = self._read()
        to_image = np.linalg.inv(self.affine) @ self._labels.affine
        count = 0
        for z in range(own.shape[2]):
            x, y = np.nonzero(own[:, :, z])
            at = (to_image @ np.stack([x, y, np.full_like(x, z), np.ones_like(x)]))[:3]
            inside = (at >= -0.5) & (at < np.array(self.shape[:3])[:, None] - 0.5)
            count += len(x) - int(inside.all(axis=0).sum())
        return count

    def slabs(self, depth: int) -> Iterator[Slab]:
        """See `ImageSource.slabs`; the labels' own volume is held in memory meanwhile.

        Raises
        ------
        ImageReadError
            LABELS_EMPTY where no label is left on the voxels of the image.
        """
        if depth < 1:
            raise ValueError(f"depth is {depth}, use 1 or more")
        own = self._read()
        labelled = bool(own.any())
        found = False
        to_own = np.linalg.inv(self._labels.affine) @ self.affine
        columns, rows, n_slices = self.shape
        x, y = np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij")
        plane = np.stack([x, y, np.zeros_like(x), np.ones_like(x)]).reshape(4, -1).astype(np.float64)
        for z in range(0, n_slices, depth):
            thick = min(depth, n_slices - z)
            voxels = np.zeros((columns, rows, thick), self.dtype, order="F")
            for k in range(thick):
                plane[2] = z + k
                index = np.floor((to_own @ plane)[:3] + 0.5).astype(np.int64)
                inside = ((index >= 0) & (index < np.array(own.shape)[:, None])).all(axis=0)
                values = np.zeros(plane.shape[1], self.dtype)
                values[inside] = own[tuple(index[:, inside])]
                voxels[:, :, k] = values.reshape(columns, rows)
            found = found or bool(voxels.any())
            yield Slab(z, 0, voxels)
        if labelled and not found:
            raise ImageReadError(
                Reason.LABELS_EMPTY, "none of the labelled voxels holds the centre of a voxel of the image"
            )

    def source_digest(self) -> str:
        """That of the labels."""
        return self._labels.source_digest()
