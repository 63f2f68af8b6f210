"""Where the voxels of an array are read from: through its tile index where it has one, else by TileDB.

Indexes are kept as open arrays are: a bounded pool for each process, least recently used first out. An array
never changes once it is written, so that a kept index is never stale.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import StorageError
from radiobject_assets.store.block_reader import Region, Run, runs_of, share
from radiobject_assets.store.config import MB
from radiobject_assets.store.context import keep_orphan
from radiobject_assets.store.deadline import begin, on_storage, storage_errors
from radiobject_assets.store.handles import open_array
from radiobject_assets.store.s3_objects import s3_objects
from radiobject_assets.store.stored_files import COUNTER, LocalFiles, S3Files
from radiobject_assets.store.tile_index import (
    DATA_FILE,
    INDEX_NAME,
    DamagedError,
    IndexDamagedError,
    TileIndex,
    checksum_of,
)
from radiobject_assets.store.uris import join, last_part, list_names, local_path
from radiobject_assets.store.voxels import carrier_dtype, read_region

_log = logging.getLogger(__name__)

MAX_KEPT = 128
# On a disk a second read costs less than 16 KB more; pieces of 256 KB give several threads something to do.
_LOCAL_GAP = 16 * 1024
_LOCAL_MOST = 256 * 1024
# From S3, several parts of this size travel together faster than a longer one does.
_FAR_MOST = 16 * MB
_BOXES_AT_ONCE = 8


class IndexedArray:
    """An array with its tile index, whose regions are read past TileDB. Thread-safe."""

    def __init__(self, index: TileIndex, files: LocalFiles | S3Files, ctx: tiledb.Ctx) -> None:
        self.index = index
        self.files = files
        self.ctx = ctx  # keeps the context, and so its id(), alive
        settings = ctx.config()
        self._verify = settings["sm.skip_checksum_validation"] != "true"
        self._threads = int(settings["sm.compute_concurrency_level"])
        self._gap = int(settings["vfs.min_batch_gap"])
        self._small = int(settings["vfs.min_batch_size"])
        self._budget = int(settings["sm.mem.total_budget"])

    def read(self, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        """Voxels [start, start + size) as they are carried, in Fortran order.

        Raises
        ------
        DamagedError
            If the bytes of a block are not those that were written, or the region is not within the array.
        OSError
            If storage fails.
        """
        shape = self.index.layout.shape
        if len(start) != len(shape) or any(
            a < 0 or a + n > m for a, n, m in zip(start, size, shape, strict=True)
        ):
            raise DamagedError(f"the array has the shape {shape}, which is not what was said of it")
        region = Region(self.index, start, size, self._verify)
        if isinstance(self.files, S3Files):
            self._read_far(self.files, region)
        else:
            files = self.files

            def work(left: Iterator[Run]) -> None:
                for run in left:
                    region.fill(run, files.read(run.file, run.offset, run.nbytes))

            share(work, runs_of(self.index, region.plan, _LOCAL_GAP, 0, _LOCAL_MOST), self._threads)
        layout = self.index.layout
        COUNTER.add(decoded_bytes=len(region.plan.firsts) * math.prod(layout.box) * layout.itemsize)
        return region.voxels

    def _read_far(self, files: S3Files, region: Region) -> None:
        """Few long reads, several under way together, at most a quarter of the budget in memory."""
        most = max(MB, min(_FAR_MOST, self._budget // 4 // files.parallel))
        runs = runs_of(self.index, region.plan, self._gap, self._small, most)

        def fill(run: Run, content: memoryview) -> None:
            parts = [
                replace(run, boxes=run.boxes[i : i + _BOXES_AT_ONCE])
                for i in range(0, len(run.boxes), _BOXES_AT_ONCE)
            ]

            def work(left: Iterator[Run]) -> None:
                for part in left:
                    region.fill(part, content)

            share(work, parts, self._threads)

        for first in range(0, len(runs), files.parallel):
            together = runs[first : first + files.parallel]
            reads = [partial(files.read, run.file, run.offset, run.nbytes) for run in together]
            # The caller's thread reads the first.
            others = [begin(read) for read in reads[1:]]
            fill(together[0], reads[0]())
            for run, other in zip(together[1:], others, strict=True):
                fill(run, other.result())


class IndexPool:
    """Indexes by array and context; None where an array has none. Thread-safe; emptied after a fork."""

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], tuple[IndexedArray | None, tiledb.Ctx]] = OrderedDict()

    def get(self, uri: str, ctx: tiledb.Ctx) -> IndexedArray | None:
        """The array at `uri` if it has an index that can be used."""
        key = (uri, id(ctx))
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept[0]
        return self._keep(key, _open_index(uri, ctx), ctx)

    def _keep(self, key: tuple[str, int], found: IndexedArray | None, ctx: tiledb.Ctx) -> IndexedArray | None:
        with self._lock:
            kept = self._kept.setdefault(key, (found, ctx))
            while len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)  # closed when its last reader is done with it
        return kept[0]

    def ignore(self, uri: str, ctx: tiledb.Ctx) -> None:
        """Leave the index of an array aside: TileDB reads it from now on."""
        self.drop(uri)
        self._keep((uri, id(ctx)), None, ctx)

    def drop(self, uri: str) -> None:
        """Forget the index of an array."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == uri]:
                del self._kept[key]

    def orphan(self) -> None:
        """After a fork: contexts of the parent must never be destroyed here."""
        keep_orphan(self._kept)
        self._kept = OrderedDict()
        self._lock = threading.Lock()


INDEXES = IndexPool()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=INDEXES.orphan)


def load_index(uri: str, ctx: tiledb.Ctx) -> IndexedArray | None:
    """The array at `uri` with its tile index, read from storage; None where it has none.

    Raises
    ------
    IndexDamagedError
        If the index isn't what was written.
    StorageError
        If storage fails.
    """
    place = join(uri, INDEX_NAME)
    folder, objects = local_path(uri), s3_objects(uri, ctx)
    try:
        if folder is not None:
            content = on_storage("read", place, ctx, (folder / INDEX_NAME).read_bytes)
        elif objects is not None:
            content = on_storage("read", place, ctx, partial(objects.read, place))
            COUNTER.add(reads=1, stored_bytes=len(content))
        else:
            return None
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    index = TileIndex.decode(content)
    if folder is not None:
        return IndexedArray(index, LocalFiles(folder, index.files), ctx)
    return None if objects is None else IndexedArray(index, S3Files(uri, index.files, objects), ctx)


def has_fragments(uri: str, index: TileIndex, ctx: tiledb.Ctx) -> bool:
    """Whether the array has the fragments that the index names and no others."""
    fragments = [DATA_FILE.format(name) for name in list_names(join(uri, "__fragments"), ctx)]
    return sorted(fragments) == sorted(file.name for file in index.files)


def damaged_file(uri: str, index: TileIndex, ctx: tiledb.Ctx) -> str | None:
    """The first of an array's files without voxels that is gone or not what was written; None if all are."""
    folder, objects = local_path(uri), s3_objects(uri, ctx)
    for name, checksum in index.others.items():
        place = join(uri, name)
        try:
            if folder is not None:
                content = on_storage("read", place, ctx, (folder / name).read_bytes)
            elif objects is not None:
                content = on_storage("read", place, ctx, partial(objects.read, place))
            else:
                return None
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return name
            raise
        if checksum_of(content) != checksum:
            return name
    return None


def _open_index(uri: str, ctx: tiledb.Ctx) -> IndexedArray | None:
    try:
        return load_index(uri, ctx)
    except IndexDamagedError as error:
        # The voxels are whole, and TileDB finds them without it.
        _log.warning("volume %s: %s; TileDB reads it, `verify` reports it", last_part(uri), error)
        return None


def check_index(uri: str, ctx: tiledb.Ctx) -> None:
    """Leave the index of an array that stands alone aside where another program wrote to the array since.

    Raises
    ------
    StorageError
        If a file on a disk that TileDB would parse is not what was written (S3 guards its objects itself).
    """
    indexed = INDEXES.get(uri, ctx)
    if indexed is None:
        return
    if not has_fragments(uri, indexed.index, ctx):
        INDEXES.ignore(uri, ctx)
    elif local_path(uri) is not None and (damaged := damaged_file(uri, indexed.index, ctx)):
        raise StorageError(f"cannot open the volume {uri}: {damaged} is not what was written")


def read_voxels(
    uri: str, ctx: tiledb.Ctx, start: tuple[int, ...], size: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Voxels [start, start + size) of the array at `uri`, in Fortran order.

    Raises
    ------
    StorageError
        If storage fails, or what is stored was damaged.
    """
    indexed = INDEXES.get(uri, ctx)
    if indexed is None or indexed.index.layout.dtype != carrier_dtype(dtype).name or 0 in size:
        return read_by_tiledb(uri, ctx, start, size, dtype)
    try:
        read = partial(indexed.read, start, size)
        voxels = on_storage("read voxels of", uri, ctx, read, nbytes=math.prod(size) * dtype.itemsize)
    except DamagedError as error:
        raise StorageError(f"cannot read voxels of {uri}: {error}") from error
    return voxels if voxels.dtype == dtype else voxels.view(dtype)


def read_by_tiledb(
    uri: str, ctx: tiledb.Ctx, start: tuple[int, ...], size: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """The same through TileDB, as any program would read it."""
    with open_array(uri, ctx) as array:
        read = partial(read_region, array, ctx, start, size, dtype)
        return on_storage("read voxels of", uri, ctx, read, nbytes=math.prod(size) * dtype.itemsize)


def tile_extents(uri: str, ctx: tiledb.Ctx) -> tuple[int, ...]:
    """Tile extents of the array at `uri`, in voxels."""
    indexed = INDEXES.get(uri, ctx)
    if indexed is not None:
        return indexed.index.layout.tile
    with storage_errors("open the volume", uri), open_array(uri, ctx, voxels=False) as array:
        domain = array.schema.domain
        return tuple(int(domain.dim(i).tile) for i in range(domain.ndim))
