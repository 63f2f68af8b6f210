"""One look at the voxels of a volume, slab by slab: what the rules of an audit need, in bounded memory.

It runs in a worker process or here; nothing is written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.source import ImageSource
from radiobject_assets.system.memory import MB

CELLS = 12
"""Cells of a thumb along each axis."""
MOST_VALUES = 4096
"""More label values than this are counted no further."""
# Beside a slab as it was decoded: its values as float64 and float32, masks, the bytes that are hashed.
_COPIES = 8
_FIXED_BYTES = 48 * MB
_NOT_WHOLE = 1e-3


@dataclass(frozen=True)
class LookTask:
    """What a worker needs to look at one volume."""

    series: Series
    is_labels: bool
    slab_bytes: int

    @property
    def needed_bytes(self) -> int:
        """Bytes that the look takes at most, the interpreter excluded."""
        return min(self.slab_bytes, max(1, self.series.decoded_bytes)) * _COPIES + _FIXED_BYTES


@dataclass(frozen=True)
class VolumeLook:
    """What the voxels of one volume are.

    digest
        BLAKE3 over shape and physical values (as float32): the same image has the same, whatever its type.
    not_finite, not_whole
        Numbers of voxels that are NaN or infinite, and of those between whole numbers (of labels).
    values
        Label values; None for images and where there are too many.
    labelled
        Voxels that are not 0 (of labels).
    densest
        Slices with most labelled voxels along each axis; the middle where none is.
    thumb
        Means of the first time point in `CELLS` cells along each voxel axis; None where it is too small.
    reason, detail
        Why its voxels can't be had, if so.
    """

    digest: str = ""
    low: float = math.nan
    high: float = math.nan
    n_voxels: int = 0
    not_finite: int = 0
    not_whole: int = 0
    example: float = 0.0
    values: tuple[int, ...] | None = None
    labelled: int = 0
    densest: tuple[int, int, int] = (0, 0, 0)
    thumb: NDArray[np.float32] | None = field(default=None, repr=False)
    reason: Reason | None = None
    detail: str = ""

    @property
    def is_constant(self) -> bool:
        """Whether all finite voxels have one value."""
        return self.n_voxels > self.not_finite and self.low == self.high


def look_at_voxels(task: LookTask) -> VolumeLook:
    """Go once through a volume; what can't be decoded gets its reason."""
    try:
        return _looked(open_series(task.series), task)
    except ImageReadError as error:
        return VolumeLook(reason=Reason(error.code), detail=error.detail)
    except MemoryError:
        return VolumeLook(reason=Reason.MEMORY_EXCEEDED, detail="no memory was left for one of its slabs")


def depth_of(source: ImageSource, slab_bytes: int) -> int:
    """Slices that may be decoded at once."""
    slice_bytes = max(1, math.prod(source.shape[:2]) * source.dtype.itemsize)
    return min(source.shape[2], max(1, slab_bytes // slice_bytes))


def _looked(source: ImageSource, task: LookTask) -> VolumeLook:
    shape = source.shape
    hasher = blake3(repr(tuple(shape)).encode())
    thumb = _Thumb(shape) if not task.is_labels and min(shape[:3]) >= CELLS else None
    labels = _LabelCount(shape) if task.is_labels else None
    low, high, bad = math.inf, -math.inf, 0
    for slab in source.slabs(depth_of(source, task.slab_bytes)):
        values = physical_values(slab.voxels, source)
        finite = np.isfinite(values)
        all_finite = bool(finite.all())
        bad += 0 if all_finite else int(values.size - np.count_nonzero(finite))
        if all_finite or finite.any():
            low = min(low, float(values.min(where=finite, initial=np.inf)))
            high = max(high, float(values.max(where=finite, initial=-np.inf)))
        # slices follow each other whatever the depth, so that the digest does not depend on the budget
        hasher.update((values + np.float32(0)).tobytes(order="F"))  # -0 is 0
        if thumb is not None and slab.t == 0:
            thumb.add(slab.z, values if all_finite else np.where(finite, values, 0))
        if labels is not None:
            labels.add(slab.z, values, finite)
    found = VolumeLook(hasher.hexdigest(), low, high, math.prod(shape), bad)
    return _with_parts(found, thumb, labels)


def _with_parts(look: VolumeLook, thumb: _Thumb | None, labels: _LabelCount | None) -> VolumeLook:
    told: dict[str, Any] = {} if thumb is None else {"thumb": thumb.means()}
    if labels is not None:
        told |= labels.told()
    return VolumeLook(**{**vars(look), **told})


def physical_values(voxels: NDArray[Any], source: ImageSource) -> NDArray[np.float32]:
    """Stored voxels as physical values."""
    if (source.slope, source.intercept) == (1.0, 0.0):
        return voxels.astype(np.float32)
    return (voxels * float(source.slope) + float(source.intercept)).astype(np.float32)


class _Thumb:
    """Sums over a coarse grid of cells, as slabs come."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._starts = [np.arange(CELLS) * size // CELLS for size in shape[:3]]
        self._sizes = [np.diff([*starts, size]) for starts, size in zip(self._starts, shape[:3], strict=True)]
        self._sums = np.zeros((CELLS, CELLS, CELLS))

    def add(self, z: int, values: NDArray[np.float32]) -> None:
        rows = np.add.reduceat(values, self._starts[0], axis=0, dtype=np.float64)
        cells = np.add.reduceat(rows, self._starts[1], axis=1)
        at = np.searchsorted(self._starts[2], np.arange(z, z + values.shape[2]), side="right") - 1
        np.add.at(self._sums.transpose(2, 0, 1), at, cells.transpose(2, 0, 1))

    def means(self) -> NDArray[np.float32]:
        x, y, z = self._sizes
        means: NDArray[np.float32] = (self._sums / (x[:, None, None] * y[None, :, None] * z)).astype(
            np.float32
        )
        return means


class _LabelCount:
    """Which values labels have, how many voxels are labelled, and where most are."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._values: set[int] | None = set()
        self._not_whole, self._example = 0, 0.0
        self._counts = [np.zeros(size, np.int64) for size in shape[:3]]

    def add(self, z: int, values: NDArray[np.float32], finite: NDArray[np.bool_]) -> None:
        good = values[finite]
        whole = np.rint(good)
        between = np.abs(good - whole) > _NOT_WHOLE
        if n_between := int(np.count_nonzero(between)):
            self._example = self._example if self._not_whole else float(good[between].flat[0])
            self._not_whole += n_between
        if self._values is not None:
            self._values.update(map(int, np.unique(whole[~between])))
            self._values = self._values if len(self._values) <= MOST_VALUES else None
        marked = values != 0
        self._counts[0] += marked.sum(axis=(1, 2))
        self._counts[1] += marked.sum(axis=(0, 2))
        self._counts[2][z : z + values.shape[2]] += marked.sum(axis=(0, 1))

    def told(self) -> dict[str, Any]:
        places = [int(count.argmax()) if count.any() else len(count) // 2 for count in self._counts]
        return {
            "not_whole": self._not_whole,
            "example": self._example,
            "values": None if self._values is None else tuple(sorted(self._values)),
            "labelled": int(self._counts[0].sum()),
            "densest": tuple(places),
        }
