"""Reading a patch cache: memory-mapped shards, gathered into float32 buffers in physical units."""

from __future__ import annotations

import mmap
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from radiobject_assets.errors import DamagedCacheError, ShapeError
from radiobject_assets.orientation import affine_from_values
from radiobject_assets.store import AFFINE_COLUMNS
from radiobject_assets.training.cache.cache_format import (
    HEADER_BYTES,
    INDEX_FILE,
    REPAIR,
    CacheMeta,
    ShardMeta,
    index_digest,
    not_now,
    npy_header,
    patch_digest,
    shard_paths,
)

MOST_MAPPED = 128
"""Files that are mapped at once: each holds a descriptor, and a process may have a thousand of those."""


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
        try:
            with path.open("rb") as file:
                self._mmap = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise DamagedCacheError(f"{path}: is missing; {REPAIR}") from None
        except OSError as error:
            raise not_now(path, error) from error
        except ValueError:  # empty files can't be mapped
            raise _cut_short(path) from None
        expected = HEADER_BYTES + rows * self.row_bytes
        if len(self._mmap) != expected or self._mmap[:HEADER_BYTES] != npy_header(kind, (rows, *size)):
            raise _cut_short(path)
        values = np.frombuffer(self._mmap, dtype=kind, count=rows * int(np.prod(size)), offset=HEADER_BYTES)
        self.patches = values.reshape(rows, *size)

    def will_need(self, row: int) -> None:
        """Ask the kernel to read one patch ahead; returns at once."""
        first = HEADER_BYTES + row * self.row_bytes
        page = first - first % mmap.PAGESIZE
        if hasattr(self._mmap, "madvise"):
            self._mmap.madvise(mmap.MADV_WILLNEED, page, first + self.row_bytes - page)


class _ShardFiles:
    """The files of one kind of all shards, mapped when they are first read, some of them at a time."""

    def __init__(
        self, path: Path, shards: Sequence[ShardMeta], which: int, size: tuple[int, int, int]
    ) -> None:
        self._files = [
            (shard_paths(path, shard)[which], (shard.image_dtype, str(shard.label_dtype))[which], shard.rows)
            for shard in shards
        ]
        self._size = size
        self._mapped: list[_Mapped | None] = [None] * len(self._files)
        self._order: deque[int] = deque()
        self._opening = threading.Lock()
        for file, dtype, rows in self._files:
            _check_length(file, HEADER_BYTES + rows * int(np.prod(size)) * np.dtype(dtype).itemsize)

    def __getitem__(self, shard: int) -> _Mapped:
        return self._mapped[shard] or self._open(shard)

    def _open(self, shard: int) -> _Mapped:
        with self._opening:
            file, dtype, rows = self._files[shard]
            opened = self._mapped[shard]
            if opened is None:
                opened = self._mapped[shard] = _Mapped(file, dtype, rows, self._size)
                self._order.append(shard)
                if len(self._order) > MOST_MAPPED:  # who reads it now keeps it mapped for as long
                    self._mapped[self._order.popleft()] = None
            return opened


class PatchCache:
    """A patch cache, opened for reading. Safe to share between threads; pickles as its path.

    Parameters
    ----------
    path
        The folder of the cache (`PatchCacheInfo.path`).
    check
        Compare each patch with its digest when it is first read. That costs a tenth of a millisecond for a
        patch of 64 x 64 x 64 voxels, once.

    Raises
    ------
    DamagedCacheError
        A part of it is not what was written, here or when the damaged patch is read.
    StorageError
        There is no patch cache, or it can't be read now.

    Examples
    --------
    >>> cache = PatchCache("work/patches/train/patches-0123")  # doctest: +SKIP
    >>> image, label, row = cache[0]                           # doctest: +SKIP
    >>> batch = cache.gather([3, 1, 4])                        # doctest: +SKIP
    """

    def __init__(self, path: Path | str, *, check: bool = True) -> None:
        self.path = Path(path)
        self.meta = CacheMeta.read(self.path)
        self.index = _read_index(self.path, self.meta.index_digest)
        names = {shard.name: number for number, shard in enumerate(self.meta.shards)}
        self._shard = np.array([names[name] for name in self.index.column("shard").to_pylist()], np.int64)
        self._row = self._numbers("row", np.int64)
        self._slope = self._numbers("slope", np.float64)
        self._intercept = self._numbers("intercept", np.float64)
        self._image_digest = self._numbers("image_digest", np.uint64)
        self._label_digest = pc.fill_null(self.index.column("label_digest"), 0).to_numpy()
        self._label_dtype = _common_label_dtype(self.meta.shards)
        self._images = _ShardFiles(self.path, self.meta.shards, 0, self.size_voxels)
        labelled = self.meta.shards if self._label_dtype is not None else ()
        self._labels = _ShardFiles(self.path, labelled, 1, self.size_voxels)
        self._check = check
        self._is_checked = np.full(len(self), not check)

    def _numbers(self, column: str, dtype: type[Any]) -> NDArray[Any]:
        return np.asarray(self.index.column(column).to_numpy(), dtype=dtype)

    def __reduce__(self) -> tuple[Callable[..., PatchCache], tuple[Path, bool]]:
        return _opened, (self.path, self._check)

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
        row: dict[str, Any] = self.index.slice(self._place(i), 1).to_pylist()[0]
        return row

    def column(self, name: str, indices: Sequence[int] | NDArray[np.integer[Any]]) -> list[Any]:
        """One column of the index for some patches, in their order."""
        return list(self.index.column(name).take(pa.array(np.asarray(indices, np.int64))).to_pylist())

    def affines(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """The affines of patches (N, 4, 4): their voxel index to RAS+ millimetres."""
        values = [self.column(name, indices) for name in AFFINE_COLUMNS]
        return np.array([affine_from_values(row) for row in zip(*values, strict=True)]).reshape(-1, 4, 4)

    def _place(self, i: int) -> int:
        if not -len(self) <= i < len(self):
            raise IndexError(f"patch {i} of {len(self)}")
        return i % len(self)

    def stored(self, i: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Image and labels of patch `i` as stored: read-only views of the mapped files, without a copy."""
        i = self._place(i)
        self._check_first(np.array([i]))
        return self._views(i)

    def _views(self, i: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
        shard, row = int(self._shard[i]), int(self._row[i])
        return self._images[shard].patches[row], self._labels[shard].patches[row] if self.has_labels else None

    def is_sound(self, i: int) -> bool:
        """Whether the bytes of patch `i` are those that were written."""
        i = self._place(i)
        image, label = self._views(i)
        if patch_digest(image) != int(self._image_digest[i]):
            return False
        return label is None or patch_digest(label) == int(self._label_digest[i])

    def _check_first(self, wanted: NDArray[np.int64]) -> None:
        """Compare those patches with their digests that were not compared yet."""
        if self._is_checked[wanted].all():
            return
        for i in wanted[~self._is_checked[wanted]].tolist():
            if not self.is_sound(i):
                row = self.row(i)
                raise DamagedCacheError(
                    f"{self.path}: patch {row['patch']} of volume {row['obs_id']} is damaged (number {i} in "
                    f"the cache): its bytes are not those that were written; {REPAIR}",
                    public="a patch in a patch cache is damaged",
                )
            self._is_checked[i] = True

    def __getitem__(self, i: int) -> Patch:
        batch = self.gather([self._place(i)])
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
        DamagedCacheError
            A patch is not what was written.
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
        self._check_first(wanted)
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


def _opened(path: Path, check: bool) -> PatchCache:
    return PatchCache(path, check=check)


def _cut_short(path: Path) -> DamagedCacheError:
    return DamagedCacheError(f"{path}: damaged or truncated; {REPAIR}")


def _check_length(path: Path, expected: int) -> None:
    try:
        length = path.stat().st_size
    except FileNotFoundError:
        raise DamagedCacheError(f"{path}: is missing; {REPAIR}") from None
    except OSError as error:
        raise not_now(path, error) from error
    if length != expected:
        raise _cut_short(path)


def _read_index(path: Path, digest: str) -> pa.Table:
    file = path / INDEX_FILE
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise DamagedCacheError(f"{file}: is missing; {REPAIR}") from None
    except OSError as error:
        raise not_now(file, error) from error
    if index_digest(content) != digest:
        raise _cut_short(file)
    return pq.read_table(pa.BufferReader(content))


def _common_label_dtype(shards: Sequence[ShardMeta]) -> np.dtype[Any] | None:
    stored = {np.dtype(shard.label_dtype) for shard in shards if shard.label_dtype is not None}
    if not stored:
        return None
    common = np.result_type(*stored)
    if common.kind == "u" and common.itemsize > 1:
        return np.dtype(np.int32) if common.itemsize == 2 else np.dtype(np.int64)
    return np.dtype(np.uint8) if common.kind == "b" else common
