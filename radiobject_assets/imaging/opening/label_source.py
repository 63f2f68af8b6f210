"""The image source of a DICOM SEG: its frames decoded onto the slices of the image that it labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.label_headers import LABELMAP_STORAGE, RTSTRUCT_STORAGE
from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.labels.placing import Placed, place_frames
from radiobject_assets.imaging.labels.resampling import ResampledLabels, overlaps, own_grid
from radiobject_assets.imaging.opening.contour_source import ContourSource
from radiobject_assets.imaging.pixels.acceptance import Problem
from radiobject_assets.imaging.pixels.coded_frames import NATIVE_CODECS
from radiobject_assets.imaging.pixels.decoders import Decoders
from radiobject_assets.imaging.pixels.pixel_data import PixelFile
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.source import AttributeValue, ImageSource, Slab


def open_labels(
    series: Series, image_grid: Grid | None = None, decoders: Decoders | None = None
) -> ImageSource:
    """Open a label series on `image_grid` (by default the grid that it was judged against)."""
    grid = image_grid or series.grid
    if grid is None:
        raise ImageReadError(Reason.REFERENCE_MISSING, "labels need the grid of their image")
    if series.instances[0].sop_class_uid == RTSTRUCT_STORAGE:
        return ContourSource(series, grid)
    instance = series.instances[0]
    if isinstance(place_frames(instance.frames, instance.columns, instance.rows, grid), Problem):
        own = own_grid(instance.frames, instance.columns, instance.rows, grid)
        if own is not None and overlaps(own, grid):
            return ResampledLabels(SegmentationSource(series, own, decoders), grid)
    return SegmentationSource(series, grid, decoders)


class SegmentationSource:
    """Label values of a SEG on its image's grid (`source.ImageSource`).

    Binary segments give their segment number; fractional ones their stored fraction (slope turns it into
    0..1); label maps their stored values. `decoders` are those of `DicomSource`.
    """

    def __init__(self, series: Series, grid: Grid, decoders: Decoders | None = None) -> None:
        if series.dtype is None:
            raise ValueError("the label series is quarantined")
        self._instance = series.instances[0]
        self._decoders = decoders if self._instance.transfer_syntax in NATIVE_CODECS else None
        self._segments = frozenset(segment.number for segment in series.segments)
        placed = place_frames(self._instance.frames, self._instance.columns, self._instance.rows, grid)
        if isinstance(placed, Problem):
            raise ImageReadError(placed.reason, placed.detail, self._instance.path)
        self._by_slice: dict[int, list[tuple[int, Placed]]] = defaultdict(list)
        for number, place in enumerate(placed):
            self._by_slice[place.z].append((number, place))
        self.shape: tuple[int, ...] = grid.shape
        self.dtype: np.dtype[Any] = series.dtype
        self.affine: NDArray[np.float64] = grid.affine
        self.slope = series.slope or 1.0
        self.intercept = 0.0
        self.attributes: Mapping[str, AttributeValue] = series.attributes
        self._digest = b""

    def slabs(self, depth: int) -> Iterator[Slab]:
        """See `ImageSource.slabs`; raises SEGMENTS_OVERLAP where two binary segments share a voxel."""
        if depth < 1:
            raise ValueError(f"depth is {depth}, use 1 or more")
        columns, rows, n_slices = self.shape[:3]
        file = PixelFile(self._instance)
        self._digest = file.digest
        try:
            for z in range(0, n_slices, depth):
                thick = min(depth, n_slices - z)
                voxels = np.zeros((thick, rows, columns), self.dtype)
                for k in range(thick):
                    for number, place in self._by_slice.get(z + k, ()):
                        self._paste(file, number, place, voxels[k].T)
                yield Slab(z, 0, voxels.transpose(2, 1, 0))
        finally:
            file.close()

    def _paste(self, file: PixelFile, number: int, place: Placed, target: NDArray[Any]) -> None:
        segment = self._instance.frames[number].segment
        labelmap = (
            self._instance.sop_class_uid == LABELMAP_STORAGE or self._instance.segmentation_type == "LABELMAP"
        )
        if not labelmap and self._segments and segment not in self._segments:
            return
        pixels = self._pixels(file, number)
        if labelmap or self._instance.segmentation_type == "FRACTIONAL":
            place.paste(pixels.astype(self.dtype), target, np.maximum)
            return
        if segment is None:
            raise ImageReadError(
                Reason.LABELS_EMPTY, f"frame {number + 1} names no segment", self._instance.path
            )

        def combine(present: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
            marked = new != 0
            if np.any(marked & (present != 0) & (present != segment)):
                raise ImageReadError(
                    Reason.SEGMENTS_OVERLAP, "two segments share voxels", self._instance.path
                )
            return np.where(marked, self.dtype.type(segment), present)

        place.paste(pixels, target, combine)

    def _pixels(self, file: PixelFile, number: int) -> NDArray[Any]:
        if self._decoders is None:
            return file.frame(number)
        try:
            return file.frame(number, self._decoders.submit(file.coded(number)).result())
        except ImageReadError as error:
            raise ImageReadError(error.code, error.detail, self._instance.path) from error

    def source_digest(self) -> str:
        """blake3 over the digest of the SEG's file; valid once `slabs` was exhausted."""
        if not self._digest:
            raise ImageReadError(Reason.FILE_CHANGED, "nothing has been read yet: exhaust slabs() first")
        return blake3(self._digest).hexdigest()
