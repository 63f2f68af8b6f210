"""A stored volume as training reads it: float32 in physical units, or labels, by patch, plane or whole."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.store import SliceOrientation, Volume
from radiobject_assets.training.cache.cache_reading import to_physical
from radiobject_assets.training.cache.cutting import (
    LabelledVoxels,
    cut_patches,
    needs_padding,
    padding_value,
    slabs,
)
from radiobject_assets.training.cache.stored_volumes import StoredVoxels
from radiobject_assets.training.sampling import PatchPlace
from radiobject_assets.training.volumes.loader_memory import slab_bytes

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
            self._foreground = LabelledVoxels(self._source, slab_bytes())
        return self._foreground

    def image_patch(self, place: PatchPlace, size: Sequence[int], out: NDArray[np.float32]) -> None:
        """Write one patch (X, Y, Z) in physical units into `out`; padded with the volume's smallest value."""
        padding: int | float = 0
        if needs_padding(self.shape, size):
            if self._padding is None:
                self._padding = padding_value(self._source, self._slope, slab_bytes())
            padding = self._padding
        stored = cut_patches(self._source, [place], size, padding, slab_bytes())[0]
        to_physical(stored, self._slope, self._intercept, out)

    def label_patch(self, place: PatchPlace, size: Sequence[int]) -> NDArray[Any]:
        """One patch (X, Y, Z) of labels; padded with 0."""
        patch: NDArray[Any] = cut_patches(self._source, [place], size, 0, slab_bytes())[0]
        return patch

    def box_shape(self, plane: tuple[int, int] | None) -> tuple[int, ...]:
        """The shape of the whole volume, or of one slice of a 3D volume: `plane` = (axis, position)."""
        return self.shape if plane is None else tuple(n for i, n in enumerate(self.shape) if i != plane[0])

    def labels(self, plane: tuple[int, int] | None = None) -> NDArray[Any]:
        """The whole volume or one slice as stored, C order."""
        out = np.empty(self.box_shape(plane), self._source.dtype)
        self._fill(plane, out, np.copyto)
        return out

    def image(
        self, plane: tuple[int, int] | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The same in physical units, float32; written into `out` where it is given."""
        image = np.empty(self.box_shape(plane), np.float32) if out is None else out

        def physical(target: NDArray[np.float32], stored: NDArray[Any]) -> None:
            to_physical(stored, self._slope, self._intercept, target)

        self._fill(plane, image, physical)
        return image

    def _fill(
        self,
        plane: tuple[int, int] | None,
        out: NDArray[Any],
        put: Callable[[NDArray[Any], NDArray[Any]], None],
    ) -> None:
        """Read in slabs, so that nothing of the volume's size is held beside `out`."""
        if plane is None:
            for t in range(self.shape[3] if len(self.shape) == 4 else 1):
                target = out[..., t] if len(self.shape) == 4 else out
                for z, slab in slabs(self._source, t, 0, self.shape[2], slab_bytes()):
                    put(target[:, :, z : z + slab.shape[2]], slab)
            return
        axis, position = plane
        low, high = [0, 0, 0], list(self.shape)
        low[axis], high[axis] = position, position + 1
        put(out, self._source.read(low, high, 0).reshape(out.shape, order="F"))


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
