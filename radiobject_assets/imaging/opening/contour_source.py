"""The image source of one region of an RTSTRUCT: its contours filled on the slices of its image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.headers import reread_elements
from radiobject_assets.imaging.dicom.label_headers import CLOSED, CLOSED_PLANAR
from radiobject_assets.imaging.geometry import SAME_GRID_VOXELS, Grid
from radiobject_assets.imaging.labels.contours import (
    Between,
    Points,
    contour_planes,
    fill_rings,
    mask_between,
    reaches,
    slices_of_planes,
    smallest_gap,
)
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.source import AttributeValue, Slab
from radiobject_assets.orientation import spacing_mm


class ContourSource:
    """A mask (1 inside, 0 outside) on an image's grid (`source.ImageSource`).

    Contours beyond the image are clipped; the attribute `contours_clipped` tells how many have a part there.
    """

    def __init__(self, series: Series, grid: Grid) -> None:
        self._instance = series.instances[0]
        self._numbers = frozenset(segment.number for segment in series.segments)
        self.shape: tuple[int, ...] = grid.shape
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.affine: NDArray[np.float64] = grid.affine
        self.slope = 1.0
        self.intercept = 0.0
        self._said = series.attributes
        self._digest = ""

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """See `ImageSource.attributes`; the contours are read for them."""
        clipped = self._drawn.clipped
        return {**self._said, "contours_clipped": clipped} if clipped else self._said

    def slabs(self, depth: int) -> Iterator[Slab]:
        """See `ImageSource.slabs`.

        Raises
        ------
        ImageReadError
            LABELS_OFF_GRID where contours within the image are not parallel to its slices, or all lie beside
            it; LABELS_EMPTY where they hold no voxel's centre.
        """
        if depth < 1:
            raise ValueError(f"depth is {depth}, use 1 or more")
        columns, rows, n_slices = self.shape[:3]
        in_plane_mm = spacing_mm(self.affine)[:2]
        drawn = self._drawn
        marked = False
        for z in range(0, n_slices, depth):
            thick = min(depth, n_slices - z)
            voxels = np.zeros((columns, rows, thick), self.dtype, order="F")
            for k in range(thick):
                source = drawn.sources.get(z + k)
                if source is None:
                    continue
                mask = fill_rings(drawn.planes[source.below], columns, rows)
                if source.share > 0:
                    above = fill_rings(drawn.planes[source.above], columns, rows)
                    mask = mask_between(mask, above, source.share, in_plane_mm)
                marked = marked or bool(mask.any())
                voxels[:, :, k] = mask
            yield Slab(z, 0, voxels)
        if not marked:
            raise ImageReadError(
                Reason.LABELS_EMPTY, "no voxel of the image has its centre in the region", self._instance.path
            )

    @cached_property
    def _drawn(self) -> _Drawn:
        columns, rows, n_slices = self.shape[:3]
        own, others = self._contours()
        to_voxel = np.asarray(np.linalg.inv(self.affine), dtype=np.float64)
        try:
            planes = contour_planes(own, to_voxel, n_slices)
        except ValueError as error:
            raise ImageReadError(Reason.LABELS_OFF_GRID, str(error), self._instance.path) from error
        gaps = [smallest_gap(_levels(contours, to_voxel)) for contours in others]
        sources = slices_of_planes(list(planes), n_slices, min([smallest_gap(list(planes)), *gaps]))
        used = {z for source in sources.values() for z in (source.below, source.above)}
        if not any(_touches(ring, columns, rows) for z in used for ring in planes[z]):
            beside = _beside(own, Grid((columns, rows, n_slices), self.affine))
            raise ImageReadError(
                Reason.LABELS_OFF_GRID, f"the region lies beside its image: {beside}", self._instance.path
            )
        clipped = sum(
            not (-0.5 <= z <= n_slices - 0.5 and _within(ring, columns, rows))
            for z, rings in planes.items()
            for ring in rings
        )
        return _Drawn(planes, sources, clipped)

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


@dataclass(frozen=True)
class _Drawn:
    """Rings by slice, what each slice of the image is made of, and how many rings the image cuts."""

    planes: Mapping[float, list[Points]]
    sources: Mapping[int, Between]
    clipped: int


def lies_on(series: Series, grid: Grid) -> bool:
    """Whether an RTSTRUCT was drawn on the slices of a grid.

    All contours in the frame of reference that reach the image lie on its slices, and there are any.

    Raises
    ------
    ImageReadError
        The file cannot be read again, or holds no contour of the region.
    """
    instance = series.instances[0]
    whole = replace(series, segments=tuple(s for s in instance.segments if s.contours))
    contours, _ = ContourSource(whole, grid)._contours()
    to_voxel = np.asarray(np.linalg.inv(grid.affine), dtype=np.float64)
    on = 0
    for contour in contours:
        voxels = _voxels(contour, to_voxel)
        if not all(reaches(voxels[:, axis], n) for axis, n in enumerate(grid.shape)):
            continue
        if np.abs(voxels[:, 2] - np.round(voxels[:, 2].mean())).max() > SAME_GRID_VOXELS:
            return False
        on += 1
    return on > 0


def _voxels(contour: Points, to_voxel: NDArray[np.float64]) -> Points:
    """A contour (n, 3; LPS mm) in voxels."""
    ras = np.column_stack([-contour[:, 0], -contour[:, 1], contour[:, 2], np.ones(len(contour))])
    found: Points = (to_voxel @ ras.T)[:3].T
    return found


def _beside(contours: list[Points], grid: Grid) -> str:
    """Where contours lie that do not touch an image: how far beyond which of its ends."""
    to_voxel = np.asarray(np.linalg.inv(grid.affine), dtype=np.float64)
    voxels = np.concatenate([_voxels(contour, to_voxel) for contour in contours])
    found = []
    for axis, (name, n) in enumerate(zip(("column", "row", "slice"), grid.shape, strict=True)):
        low, high = float(voxels[:, axis].min()), float(voxels[:, axis].max())
        off, end = (-high, "first") if high < -0.5 else (low - (n - 1), "last")
        if high < -0.5 or low > n - 0.5:
            found.append(
                f"{off:.1f} voxels ({off * spacing_mm(grid.affine)[axis]:.3g} mm) beyond the {end} {name}"
            )
    return " and ".join(found) or "none of its contours touches it"


def _within(ring: Points, columns: int, rows: int) -> bool:
    """Whether a ring (n, 2; voxels) lies within a slice, the outer half of its border voxels included."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    return bool((low >= -0.5).all() and high[0] <= columns - 0.5 and high[1] <= rows - 0.5)


def _touches(ring: Points, columns: int, rows: int) -> bool:
    """Whether the box around a ring (n, 2; voxels) has anything in common with a slice."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    return bool((high >= -0.5).all() and low[0] <= columns - 0.5 and low[1] <= rows - 0.5)


def _levels(contours: list[Points], to_voxel: NDArray[np.float64]) -> list[float]:
    """The slices (not whole numbers) that contours (n, 3; LPS mm) lie at, each once, rising."""
    axis = to_voxel[2] * [-1, -1, 1, 1]
    levels = np.array([float(axis[:3] @ contour.mean(axis=0) + axis[3]) for contour in contours])
    return [float(level) for level in np.unique(levels.round(1))]
