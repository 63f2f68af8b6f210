"""The image source of one region of an RTSTRUCT: its contours filled on the slices of its image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging import tags as t
from radiobject_assets.imaging.contours import (
    Points,
    contour_planes,
    fill_rings,
    mask_between,
    slices_of_planes,
    smallest_gap,
)
from radiobject_assets.imaging.geometry import Grid, spacing_mm
from radiobject_assets.imaging.headers import reread_elements
from radiobject_assets.imaging.labels import CLOSED, CLOSED_PLANAR
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series_record import Series
from radiobject_assets.imaging.source import AttributeValue, Slab


class ContourSource:
    """A mask (1 inside, 0 outside) on an image's grid (`source.ImageSource`)."""

    def __init__(self, series: Series, grid: Grid) -> None:
        self._instance = series.instances[0]
        self._numbers = frozenset(segment.number for segment in series.segments)
        self.shape: tuple[int, ...] = grid.shape
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.affine: NDArray[np.float64] = grid.affine
        self.slope = 1.0
        self.intercept = 0.0
        self.attributes: Mapping[str, AttributeValue] = series.attributes
        self._digest = ""

    def slabs(self, depth: int) -> Iterator[Slab]:
        """See `ImageSource.slabs`; raises LABELS_OFF_GRID where contours do not lie on the image's slices."""
        if depth < 1:
            raise ValueError(f"depth is {depth}, use 1 or more")
        columns, rows, n_slices = self.shape[:3]
        in_plane_mm = spacing_mm(self.affine)[:2]
        own, others = self._contours()
        try:
            to_voxel = np.asarray(np.linalg.inv(self.affine), dtype=np.float64)
            planes = contour_planes(own, to_voxel, n_slices)
            gaps = [smallest_gap(_levels(contours, to_voxel)) for contours in others]
            sources = slices_of_planes(list(planes), n_slices, min([smallest_gap(list(planes)), *gaps]))
        except ValueError as error:
            raise ImageReadError(Reason.LABELS_OFF_GRID, str(error), self._instance.path) from error
        if not any(_touches(ring, columns, rows) for rings in planes.values() for ring in rings):
            raise ImageReadError(
                Reason.LABELS_OFF_GRID, "the region lies beside its image", self._instance.path
            )
        for z in range(0, n_slices, depth):
            thick = min(depth, n_slices - z)
            voxels = np.zeros((columns, rows, thick), self.dtype, order="F")
            for k in range(thick):
                source = sources.get(z + k)
                if source is None:
                    continue
                mask = fill_rings(planes[source.below], columns, rows)
                if source.share > 0:
                    above = fill_rings(planes[source.above], columns, rows)
                    mask = mask_between(mask, above, source.share, in_plane_mm)
                voxels[:, :, k] = mask
            yield Slab(z, 0, voxels)

    def _contours(self) -> tuple[list[Points], list[list[Points]]]:
        """The contours of this region, and those of each other one."""
        path = self._instance.path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ImageReadError(
                Reason.FILE_CHANGED, f"cannot be opened again ({error.strerror})", path
            ) from error
        if len(data) != self._instance.size_bytes:
            raise ImageReadError(Reason.FILE_CHANGED, "has another size than when it was scanned", path)
        self._digest = blake3(blake3(data).digest()).hexdigest()
        own: list[Points] = []
        others: list[list[Points]] = []
        for item in reread_elements(path, data).items(t.ROI_CONTOURS):
            found: list[Points] = []
            drawn: set[bytes] = set()
            for contour in item.items(t.CONTOURS):
                values = np.array(contour.numbers(t.CONTOUR_DATA), dtype=np.float64)
                if contour.text(t.CONTOUR_TYPE) not in CLOSED or len(values) < 9:
                    continue
                if len(values) % 3 or not np.isfinite(values).all():
                    if item.integer(t.OBSERVED_ROI) not in self._numbers:
                        continue
                    raise ImageReadError(Reason.BAD_GEOMETRY, "a contour has impossible coordinates", path)
                points = values.reshape(-1, 3)
                # What is written twice is meant once: as rings that exclude each other nothing would be left.
                same = np.unique(points.round(3), axis=0).tobytes()
                if contour.text(t.CONTOUR_TYPE) == CLOSED_PLANAR and same in drawn:
                    continue
                drawn.add(same)
                found.append(points)
            if item.integer(t.OBSERVED_ROI) in self._numbers:
                own += found
            else:
                others.append(found)
        if not own:
            raise ImageReadError(Reason.LABELS_EMPTY, "the region has no closed contour", path)
        return own, others

    def source_digest(self) -> str:
        """blake3 over the digest of the RTSTRUCT's file; valid once `slabs` was exhausted."""
        if not self._digest:
            raise ImageReadError(Reason.FILE_CHANGED, "nothing has been read yet: exhaust slabs() first")
        return self._digest


def _touches(ring: Points, columns: int, rows: int) -> bool:
    """Whether the box around a ring (n, 2; voxels) has anything in common with a slice."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    return bool((high >= -0.5).all() and low[0] <= columns - 0.5 and low[1] <= rows - 0.5)


def _levels(contours: list[Points], to_voxel: NDArray[np.float64]) -> list[float]:
    """The slices (not whole numbers) that contours (n, 3; LPS mm) lie at, each once, rising."""
    axis = to_voxel[2] * [-1, -1, 1, 1]
    levels = np.array([float(axis[:3] @ contour.mean(axis=0) + axis[3]) for contour in contours])
    return [float(level) for level in np.unique(levels.round(1))]
