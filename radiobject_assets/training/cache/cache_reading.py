"""Reading a patch cache: memory-mapped shards, gathered into float32 buffers in physical units."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from radiobject_assets.errors import ShapeError, StorageError
from radiobject_assets.training.cache.cache_format import (
    HEADER_BYTES,
    INDEX_FILE,
    CacheMeta,
    ShardMeta,
    npy_header,
    shard_paths,
)

REBUILD = "delete the patch cache and build it again"


class Patch(NamedTuple):
    """One patch: a fresh float32 image (X, Y, Z) in physical units, its labels or None, its index row."""

    image: NDArray[np.float32]
    label: NDArray[Any] | None
    row: Mapping[str, Any]


@dataclass(frozen=True)
class PatchBatch:
    """Several patches: `image` (B, X, Y, Z) float32 in physical units, `label` (B, X, Y, Z) or None."""

    image: NDArray[np.float32]
    label: NDArray[Any] | None


class _Mapped:
    """One `.npy` file of a shard, memory-mapped."""

    def __init__(self, path: Path, dtype: str, rows: int, size: tuple[int, int, int]) -> None:
        kind = np.dtype(dtype)
        self.row_bytes = int(np.prod(size)) * kind.itemsize
        expected = HEADER_BYTES + rows * self.row_bytes
        try:
            with path.open("rb") as file:
                self._mmap = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise StorageError(f"{path}: can't be read ({error}); {REBUILD}") from error
        if len(self._mmap) != expected or self._mmap[:HEADER_BYTES] != npy_header(kind, (rows, *size)):
            raise StorageError(f"{path}: damaged or truncated; {REBUILD}")
        values = np.frombuffer(self._mmap, dtype=kind, count=rows * int(np.prod(size)), offset=HEADER_BYTES)
        self.patches = values.reshape(rows, *size)

    def will_need(self, row: int) -> None:
        """Ask the kernel to read one patch ahead; returns at once."""
        first = HEADER_BYTES + row * self.row_bytes
        page = first - first % mmap.PAGESIZE
        if hasattr(self._mmap, "madvise"):
            self._mmap.madvise(mmap.MADV_WILLNEED, page, first + self.row_bytes - page)


class PatchCache:
    """A patch cache, opened for reading. Safe to share between threads; pickles as its path.

    Parameters
    ----------
    path
        The folder of the cache (`PatchCacheInfo.path`).

    Raises
    ------
    StorageError
        There is no patch cache, or a shard is missing or damaged.

    Examples
    --------
    >>> cache = PatchCache("work/patches/train/patches-0123")  # doctest: +SKIP
    >>> image, label, row = cache[0]                           # doctest: +SKIP
    >>> batch = cache.gather([3, 1, 4])                        # doctest: +SKIP
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.meta = CacheMeta.read(self.path)
        self.index = _read_index(self.path)
        names = {shard.name: number for number, shard in enumerate(self.meta.shards)}
        shard_names = self.index.column("shard").to_pylist()
        try:
            self._shard = np.array([names[name] for name in shard_names], dtype=np.int64)
        except KeyError as error:
            raise StorageError(f"{self.path}: the index names a shard that is not there: {error}") from None
        self._row = self._numbers("row", np.int64)
        self._slope = self._numbers("slope", np.float64)
        self._intercept = self._numbers("intercept", np.float64)
        self._images = [self._map(shard, 0) for shard in self.meta.shards]
        self._labels = [self._map(shard, 1) for shard in self.meta.shards if shard.label_dtype is not None]
        self._label_dtype = _common_label_dtype(self.meta.shards)

    def _numbers(self, column: str, dtype: type[Any]) -> NDArray[Any]:
        return np.asarray(self.index.column(column).to_numpy(), dtype=dtype)

    def _map(self, shard: ShardMeta, which: int) -> _Mapped:
        dtype = shard.image_dtype if which == 0 else str(shard.label_dtype)
        return _Mapped(shard_paths(self.path, shard)[which], dtype, shard.rows, self.size_voxels)

    def __reduce__(self) -> tuple[type[PatchCache], tuple[Path]]:
        return type(self), (self.path,)

    def __len__(self) -> int:
        return len(self._row)

    @property
    def size_voxels(self) -> tuple[int, int, int]:
        """Patch extents (X, Y, Z)."""
        return self.meta.size_voxels

    @property
    def has_labels(self) -> bool:
        """Whether patches come with labels."""
        return self._label_dtype is not None

    @property
    def label_dtype(self) -> np.dtype[Any] | None:
        """Dtype of gathered labels: signed or 8-bit, since PyTorch does little with wider unsigned types."""
        return self._label_dtype

    def row(self, i: int) -> dict[str, Any]:
        """The index row of patch `i`: obs_id, subject, start voxel, affine of the patch, source UIDs, ..."""
        row: dict[str, Any] = self.index.slice(self._checked(i), 1).to_pylist()[0]
        return row

    def _checked(self, i: int) -> int:
        if not -len(self) <= i < len(self):
            raise IndexError(f"patch {i} of {len(self)}")
        return i % len(self)

    def stored(self, i: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Image and labels of patch `i` as stored: read-only views of the mapped files, without a copy."""
        i = self._checked(i)
        shard, row = int(self._shard[i]), int(self._row[i])
        return self._images[shard].patches[row], self._labels[shard].patches[row] if self.has_labels else None

    def __getitem__(self, i: int) -> Patch:
        batch = self.gather([self._checked(i)])
        return Patch(batch.image[0], None if batch.label is None else batch.label[0], self.row(i))

    def empty_batch(self, n: int) -> PatchBatch:
        """Buffers for `n` patches, to be passed to `gather` again and again."""
        label = None if self._label_dtype is None else np.empty((n, *self.size_voxels), self._label_dtype)
        return PatchBatch(np.empty((n, *self.size_voxels), np.float32), label)

    def gather(
        self, indices: Sequence[int] | NDArray[np.integer[Any]], out: PatchBatch | None = None
    ) -> PatchBatch:
        """Copy patches into one batch, as float32 in physical units (Hounsfield units for CT).

        Parameters
        ----------
        indices
            Which patches, in any order.
        out
            Buffers from `empty_batch` with as many places. Reusing them is 3-8 times faster than fresh ones:
            large allocations go back to the kernel and are faulted in again, page by page.

        Raises
        ------
        IndexError
            An index is out of range.
        ShapeError
            `out` has another shape.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.ndim != 1 or (wanted.size and not (-len(self) <= wanted.min() <= wanted.max() < len(self))):
            raise IndexError(f"indices must be a list of numbers from {-len(self)} to {len(self) - 1}")
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        out = self.empty_batch(len(wanted)) if out is None else out
        expected = (len(wanted), *self.size_voxels)
        if out.image.shape != expected or (
            self.has_labels and (out.label is None or out.label.shape != expected)
        ):
            raise ShapeError(f"out has image shape {out.image.shape}; {len(wanted)} patches need {expected}")
        places = zip(
            self._shard[wanted].tolist(),
            self._row[wanted].tolist(),
            self._slope[wanted].tolist(),
            self._intercept[wanted].tolist(),
            strict=True,
        )
        for i, (shard, row, slope, intercept) in enumerate(places):
            to_physical(self._images[shard].patches[row], slope, intercept, out.image[i])
            if out.label is not None and self.has_labels:
                np.copyto(out.label[i], self._labels[shard].patches[row], casting="unsafe")
        return out

    def will_need(self, indices: NDArray[np.integer[Any]]) -> None:
        """Ask the kernel to read these patches ahead, so that a later `gather` finds them in memory."""
        for shard, row in zip(self._shard[indices].tolist(), self._row[indices].tolist(), strict=True):
            self._images[shard].will_need(row)
            if self.has_labels:
                self._labels[shard].will_need(row)


def to_physical(stored: NDArray[Any], slope: float, intercept: float, out: NDArray[np.float32]) -> None:
    """Write `stored * slope + intercept` into `out` as float32, without temporaries."""
    if slope == 1.0 and intercept == 0.0:
        np.copyto(out, stored, casting="unsafe")
    elif slope == 1.0:
        np.add(stored, np.float32(intercept), out=out, dtype=np.float32, casting="unsafe")
    else:
        np.multiply(stored, np.float32(slope), out=out, dtype=np.float32, casting="unsafe")
        if intercept != 0.0:
            np.add(out, np.float32(intercept), out=out)


def _read_index(path: Path) -> pa.Table:
    try:
        return pq.read_table(path / INDEX_FILE, memory_map=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise StorageError(f"{path / INDEX_FILE}: can't be read ({error}); {REBUILD}") from error


def _common_label_dtype(shards: Sequence[ShardMeta]) -> np.dtype[Any] | None:
    stored = {np.dtype(shard.label_dtype) for shard in shards if shard.label_dtype is not None}
    if not stored:
        return None
    common = np.result_type(*stored)
    if common.kind == "u" and common.itemsize > 1:
        return np.dtype(np.int32) if common.itemsize == 2 else np.dtype(np.int64)
    return np.dtype(np.uint8) if common.kind == "b" else common
