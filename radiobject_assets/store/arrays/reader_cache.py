"""Which reader an array has, and a cache of readers: one a process, bounded, least recently used first out.

An array never changes once it is written, so that a cached reader is never stale.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict

import tiledb

from radiobject_assets.store.arrays.array_files import MAX_KEPT_OPEN, ArrayFiles
from radiobject_assets.store.arrays.block_reader import BlockReader
from radiobject_assets.store.arrays.checking import load_index
from radiobject_assets.store.arrays.doors import VoxelReader
from radiobject_assets.store.arrays.tiledb_array import TileDBReader
from radiobject_assets.store.blocks.index import IndexDamagedError
from radiobject_assets.store.storage.config import get_radiobject_config
from radiobject_assets.store.storage.context import keep_orphan
from radiobject_assets.store.storage.read_meter import METER
from radiobject_assets.store.storage.uris import last_part
from radiobject_assets.system.processes import after_fork

_log = logging.getLogger(__name__)

MAX_KEPT = 128


def most_open_files() -> int:
    """How many files of arrays this process keeps open at most, whatever is read."""
    return MAX_KEPT * MAX_KEPT_OPEN


def open_reader(uri: str, ctx: tiledb.Ctx, digest: str | None, voxels: str) -> VoxelReader:
    """A reader of the array at `uri`; `digest` as `load_index` takes it, `voxels` as in the configuration.

    Raises
    ------
    StorageError
        If storage fails, or the array is not the one that is expected.
    """
    files = ArrayFiles(uri, ctx)
    try:
        index = load_index(files, digest)
    except IndexDamagedError as error:
        # The voxels are whole, and TileDB finds them without it.
        _log.warning("volume %s: %s; TileDB reads it, `verify` reports it", last_part(uri), error)
        index = None
    blocks = BlockReader(index, files) if index is not None and files.parallel else None
    if blocks is not None and blocks.index.known and voxels == "fast":
        return blocks
    return TileDBReader(uri, ctx, digest, blocks)


class ReaderCache:
    """Readers by array and context. Thread-safe; emptied after a fork."""

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, str], tuple[VoxelReader, tiledb.Ctx]] = OrderedDict()

    def get(self, uri: str, ctx: tiledb.Ctx, digest: str | None = None) -> VoxelReader:
        """The reader of the array at `uri`; see `open_reader`."""
        voxels = get_radiobject_config().voxels
        key = (uri, id(ctx), voxels)  # the context is kept alive, and so its id()
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept[0]
            elsewhere = any(other[0] == uri for other in self._kept)
        opened = open_reader(uri, ctx, digest, voxels)
        METER.add(opened=1, opened_for_another_context=int(elsewhere))
        with self._lock:
            reader, _ = self._kept.setdefault(key, (opened, ctx))
            while len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)  # closed when its last user is done with it
        return reader

    def drop(self, uri: str) -> None:
        """Forget the reader of an array."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == uri]:
                del self._kept[key]

    def orphan(self) -> None:
        """After a fork: contexts of the parent must never be destroyed here."""
        keep_orphan(self._kept)
        self._kept = OrderedDict()
        self._lock = threading.Lock()


READERS = ReaderCache()

after_fork(READERS.orphan)
