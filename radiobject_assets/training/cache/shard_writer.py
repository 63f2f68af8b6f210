"""Writing a patch cache so that nobody ever sees half of one.

Everything is written into a staging folder beside the target, flushed to the disk, and renamed as a whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import StorageError
from radiobject_assets.system.folders import sync_path
from radiobject_assets.system.temporary import staging_folder
from radiobject_assets.training.cache.cache_format import HEADER_BYTES, ShardMeta, npy_header, shard_paths


@contextlib.contextmanager
def unpublished_folder(target: Path) -> Iterator[Path]:
    """A staging folder that becomes `target` when the block ends well, and is removed when it does not.

    Another builder may have put the same content at `target` meanwhile: then that one stays.

    Raises
    ------
    StorageError
        The disk is full or cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with staging_folder(target) as folder:
            yield folder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free_mb = shutil.disk_usage(target.parent).free // 2**20
            raise StorageError(
                f"{target.parent}: the disk is full ({free_mb} MB free); make room and run again"
            ) from error
        raise StorageError(f"{target}: can't be written: {error.strerror or error}") from error


class _OpenShard:
    """The files of one shard while rows are added."""

    def __init__(self, folder: Path, name: str, image: np.dtype[Any], label: np.dtype[Any] | None) -> None:
        self.rows = 0
        self._dtypes = [image] if label is None else [image, label]
        self._meta = ShardMeta(name, 0, image.str, None if label is None else label.str)
        self._files: list[BinaryIO] = []
        for path in shard_paths(folder, self._meta):
            file = path.open("wb")
            file.seek(HEADER_BYTES)
            self._files.append(file)

    @property
    def meta(self) -> ShardMeta:
        """What is in the shard so far."""
        return replace(self._meta, rows=self.rows)

    def add(self, image: NDArray[Any], label: NDArray[Any] | None) -> int:
        """Append patches (N, X, Y, Z); the row of the first."""
        first = self.rows
        for file, patches in zip(self._files, [image] if label is None else [image, label], strict=True):
            file.write(np.ascontiguousarray(patches).data.cast("B"))
        self.rows += len(image)
        return first

    def close(self, size: tuple[int, int, int]) -> ShardMeta:
        """Write the headers, now that the number of rows is known, and flush."""
        for file, dtype in zip(self._files, self._dtypes, strict=True):
            file.seek(0)
            file.write(npy_header(dtype, (self.rows, *size)))
            file.close()
            sync_path(file.name)
        return self.meta

    def abandon(self) -> None:
        """Close the files of a cache that will not be published."""
        for file in self._files:
            file.close()


class ShardWriter:
    """Writes patches into shards of bounded size; a context manager.

    Parameters
    ----------
    folder
        The unpublished folder.
    size
        Patch extents in voxels.
    shard_bytes
        A shard is closed once it holds this many bytes of image patches; a volume's patches stay together.
    """

    def __init__(self, folder: Path, size: tuple[int, int, int], shard_bytes: int) -> None:
        self._folder, self._size, self._shard_bytes = folder, size, shard_bytes
        self._open: dict[tuple[str, str | None], _OpenShard] = {}
        self._closed: list[ShardMeta] = []

    def add(self, image: NDArray[Any], label: NDArray[Any] | None) -> tuple[str, int]:
        """Append the patches of one volume (N, X, Y, Z): (shard name, row of the first).

        They may come in several calls; call `end_volume` after the last.
        """
        key = (image.dtype.str, None if label is None else label.dtype.str)
        if key not in self._open:
            name = secrets.token_hex(6)  # unique for ever: later caches link this very file
            self._open[key] = _OpenShard(
                self._folder, name, image.dtype, None if label is None else label.dtype
            )
        shard = self._open[key]
        return shard.meta.name, shard.add(image, label)

    def is_full(self, shard: ShardMeta) -> bool:
        """Whether a shard of this patch size has reached the size at which it is closed."""
        patch_bytes = int(np.prod(self._size)) * np.dtype(shard.image_dtype).itemsize
        return shard.rows * patch_bytes >= self._shard_bytes

    def end_volume(self) -> None:
        """Close the shards that are full."""
        for key, shard in list(self._open.items()):
            if self.is_full(shard.meta):
                self._closed.append(self._open.pop(key).close(self._size))

    def finish(self) -> tuple[ShardMeta, ...]:
        """Close everything: the shards that were written."""
        while self._open:
            _, shard = self._open.popitem()
            self._closed.append(shard.close(self._size))
        return tuple(self._closed)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        for shard in self._open.values():
            shard.abandon()


def link_shard(source: Path, target_folder: Path, shard: ShardMeta) -> None:
    """Give a shard of another cache a place in this one: a hard link, or a copy where that can't be."""
    for path in shard_paths(source, shard):
        target = target_folder / path.name
        try:
            os.link(path, target)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK):
                raise
            shutil.copyfile(path, target)
