"""A stored volume as training reads it: float32 in physical units, or labels, by patch, plane or whole."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ShapeError
from radiobject_assets.store import SliceOrientation, Volume
from radiobject_assets.training.cache.cache_reading import to_physical
from radiobject_assets.training.cache.cutting import LabelledVoxels, cut_patches, needs_padding, padding_value
from radiobject_assets.training.cache.stored_volumes import StoredVoxels
from radiobject_assets.training.sampling import PatchPlace

SLAB_BYTES = 64 * 2**20
PLANE_AXIS = {SliceOrientation.SAGITTAL: 0, SliceOrientation.CORONAL: 1, SliceOrientation.AXIAL: 2}


class VolumeReader:
    """Reads one volume, or one `point` of its fourth axis. Safe to share between threads."""

    def __init__(self, volume: Volume, point: int | None = None) -> None:
        self._source = StoredVoxels(volume, point)
        self._slope, self._intercept = volume.slope, volume.intercept
        self._padding: int | float | None = None
        self._foreground: LabelledVoxels | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z) or (X, Y, Z, T)."""
        return self._source.shape

    @property
    def foreground(self) -> LabelledVoxels:
        """The labelled voxels of a 3D label volume; counted on first use, in one pass."""
        if self._foreground is None:
            self._foreground = LabelledVoxels(self._source, SLAB_BYTES)
        return self._foreground

    def image_patch(self, place: PatchPlace, size: Sequence[int], out: NDArray[np.float32]) -> None:
        """Write one patch (X, Y, Z) in physical units into `out`; padded with the volume's smallest value."""
        padding: int | float = 0
        if needs_padding(self.shape, size):
            if self._padding is None:
                self._padding = padding_value(self._source, self._slope, SLAB_BYTES)
            padding = self._padding
        stored = cut_patches(self._source, [place], size, padding, SLAB_BYTES)[0]
        to_physical(stored, self._slope, self._intercept, out)

    def label_patch(self, place: PatchPlace, size: Sequence[int]) -> NDArray[Any]:
        """One patch (X, Y, Z) of labels; padded with 0."""
        patch: NDArray[Any] = cut_patches(self._source, [place], size, 0, SLAB_BYTES)[0]
        return patch

    def stored_box(self, plane: tuple[int, int] | None) -> NDArray[Any]:
        """The whole volume as stored, or with `plane` = (axis, position) one slice of a 3D volume."""
        if plane is None:
            times = range(self.shape[3]) if len(self.shape) == 4 else [0]
            volumes = [self._source.read((0, 0, 0), self.shape[:3], t) for t in times]
            return volumes[0] if len(self.shape) == 3 else np.stack(volumes, axis=-1)
        if len(self.shape) == 4:
            raise ShapeError(
                f"volume of shape {self.shape}: slices are taken from 3D volumes; choose a time point"
            )
        axis, position = plane
        low, high = [0, 0, 0], list(self.shape)
        low[axis], high[axis] = position, position + 1
        box: NDArray[Any] = self._source.read(low, high, 0)
        return box.reshape([n for i, n in enumerate(box.shape) if i != axis], order="F")

    def image(self, plane: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """`stored_box` in physical units, C order."""
        stored = self.stored_box(plane)
        out = np.empty(stored.shape, np.float32)
        to_physical(stored, self._slope, self._intercept, out)
        return out


class ReaderPool:
    """Readers of the volumes that were used last; each process fills its own.

    Parameters
    ----------
    points
        The point of the fourth axis that is read, by the URI of the volume; of others all are.
    """

    def __init__(self, keep: int = 1024, points: Mapping[str, int] | None = None) -> None:
        self._keep = keep
        self._points = dict(points or {})
        self._readers: OrderedDict[str, VolumeReader] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, volume: Volume) -> VolumeReader:
        """The reader of `volume`."""
        with self._lock:
            reader = self._readers.get(volume.uri)
            if reader is not None:
                self._readers.move_to_end(volume.uri)
                return reader
        reader = VolumeReader(volume, self._points.get(volume.uri))  # opens the array: not under the lock
        with self._lock:
            reader = self._readers.setdefault(volume.uri, reader)
            while len(self._readers) > self._keep:
                self._readers.popitem(last=False)
        return reader

    def __reduce__(self) -> tuple[type[ReaderPool], tuple[int, dict[str, int]]]:
        return type(self), (self._keep, self._points)
