"""Open arrays, kept open: opening costs more than reading a tile.

A bounded pool for each process, least recently used first out. An array in use is never closed under its
reader. Voxel arrays never change once written, so a kept handle is never stale; tables are not pooled.
Arrays on S3 are opened as local copies, which are kept as long as they are open.
"""

from __future__ import annotations

import atexit
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import tiledb

from radiobject_assets.store.arrays.array_copies import copied_bytes, local_array
from radiobject_assets.store.arrays.checking import check_files
from radiobject_assets.store.storage.context import keep_orphan
from radiobject_assets.store.storage.errors import storage_errors
from radiobject_assets.store.storage.uris import local_path
from radiobject_assets.system.processes import after_fork

MAX_OPEN = 128
# What copies of arrays may take of the disk, beside those in use.
MAX_COPIED_BYTES = 1024**3

# TileDB shows what was there at "now": nothing at all to a process whose clock is behind the writer's.
ALWAYS = (0, 2**63 - 1)

Key = tuple[str, int, bool]


class _Handle:
    def __init__(self, uri: str, ctx: tiledb.Ctx, digest: str | None, voxels: bool) -> None:
        self.ctx = ctx  # keeps the context, and so its id(), alive
        self.users = 0
        self.dropped = False
        with ExitStack() as opening:
            place = opening.enter_context(local_array(uri, ctx, voxels=voxels))
            self.copied_bytes = 0 if local_path(uri) is not None else copied_bytes(place)
            check_files(uri, ctx, digest, Path(place))
            with storage_errors("open", uri, ctx):
                opened = tiledb.open(place, "r", ctx=ctx, timestamp=ALWAYS)
                self.array = opening.enter_context(opened)
            self._until_closed = opening.pop_all()

    def close(self) -> None:
        self._until_closed.close()


class HandlePool:
    """Open arrays by URI and context. Thread-safe; emptied in a forked child."""

    def __init__(self, max_open: int = MAX_OPEN, max_copied_bytes: int = MAX_COPIED_BYTES) -> None:
        self._max_open = max_open
        self._max_copied_bytes = max_copied_bytes
        self._lock = threading.Lock()
        self._handles: OrderedDict[Key, _Handle] = OrderedDict()

    def __len__(self) -> int:
        return len(self._handles)

    @contextmanager
    def use(self, uri: str, ctx: tiledb.Ctx, digest: str | None = None, voxels: bool = True) -> Iterator[Any]:
        """The array at `uri`, open for reading for the length of the `with` block and likely longer.

        Parameters
        ----------
        voxels
            Whether voxels will be read. Without, an array on S3 can only be asked what it is.
        """
        key = (uri, id(ctx), voxels or local_path(uri) is not None)
        with self._lock:
            handle = self._handles.get(key)
            if handle is not None:
                handle.users += 1
                self._handles.move_to_end(key)
        if handle is None:
            fresh = _Handle(uri, ctx, digest, voxels)
            with self._lock:
                handle = self._handles.setdefault(key, fresh)
                handle.users += 1
                closing = self._overflow()
            if handle is not fresh:
                fresh.close()
            for old in closing:
                old.close()
        try:
            yield handle.array
        finally:
            with self._lock:
                handle.users -= 1
                close = handle.dropped and handle.users == 0
            if close:
                handle.close()

    def _overflow(self) -> list[_Handle]:
        closing = []
        copied = sum(handle.copied_bytes for handle in self._handles.values())
        for key, handle in list(self._handles.items()):
            full = copied > self._max_copied_bytes and handle.copied_bytes
            if handle.users == 0 and (full or len(self._handles) > self._max_open):
                copied -= handle.copied_bytes
                closing.append(self._handles.pop(key))
        return closing

    def drop(self, uri: str) -> None:
        """Close the array at `uri`, at once or when its last reader is done."""
        closing = []
        with self._lock:
            for key in [key for key in self._handles if key[0] == uri]:
                handle = self._handles.pop(key)
                handle.dropped = True
                if handle.users == 0:
                    closing.append(handle)
        for handle in closing:
            handle.close()

    def clear(self) -> None:
        """Close everything that is not in use."""
        for uri in {key[0] for key in list(self._handles)}:
            self.drop(uri)

    def orphan(self) -> None:
        """After a fork: the parent's handles must never be closed here."""
        keep_orphan(self._handles)
        self._handles = OrderedDict()
        self._lock = threading.Lock()


POOL = HandlePool()
atexit.register(POOL.clear)  # so that no copies are left

after_fork(POOL.orphan)


def open_array(
    uri: str, ctx: tiledb.Ctx, digest: str | None = None, *, voxels: bool = True
) -> AbstractContextManager[Any]:
    """The array at `uri`, open, from the pool of this process.

    Parameters
    ----------
    digest
        As `load_index` takes it.
    voxels
        Whether voxels will be read. Without, an array on S3 can only be asked what it is.

    Raises
    ------
    StorageError
        If storage fails, or a file that TileDB would parse is not what was written.
    """
    return POOL.use(uri, ctx, digest, voxels)
