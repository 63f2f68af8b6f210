"""Open arrays, kept open: opening costs more than reading a tile, on S3 by far.

A bounded pool for each process, least recently used first out. An array in use is never closed under its
reader. Voxel arrays never change once written, so a kept handle is never stale; tables are not pooled.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import tiledb

from radiobject_assets.store.arrays.checking import check_files
from radiobject_assets.store.context import keep_for_ever, keep_orphan
from radiobject_assets.store.deadline import DeadlineError, on_storage

MAX_OPEN = 128


class _Handle:
    def __init__(self, array: Any, ctx: tiledb.Ctx) -> None:
        self.array = array
        self.ctx = ctx  # keeps the context, and so its id(), alive
        self.users = 0
        self.dropped = False


class HandlePool:
    """Open arrays by URI and context. Thread-safe; emptied in a forked child."""

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._max_open = max_open
        self._lock = threading.Lock()
        self._handles: OrderedDict[tuple[str, int], _Handle] = OrderedDict()

    def __len__(self) -> int:
        return len(self._handles)

    @contextmanager
    def use(self, uri: str, ctx: tiledb.Ctx, digest: str | None) -> Iterator[Any]:
        """The array at `uri`, open for reading for the length of the `with` block and likely longer."""
        key = (uri, id(ctx))
        with self._lock:
            handle = self._handles.get(key)
            if handle is not None:
                handle.users += 1
                self._handles.move_to_end(key)
        if handle is None:
            check_files(uri, ctx, digest)
            opened = on_storage("open", uri, ctx, lambda: tiledb.open(uri, "r", ctx=ctx))
            fresh = _Handle(opened, ctx)
            with self._lock:
                handle = self._handles.setdefault(key, fresh)
                handle.users += 1
                closing = self._overflow()
            if handle is not fresh:
                fresh.array.close()
            for old in closing:
                old.array.close()
        try:
            yield handle.array
        except DeadlineError:
            # The call that was given up still uses the array: it may not be closed under it.
            keep_for_ever(handle.array)
            with self._lock:
                if self._handles.get(key) is handle:
                    del self._handles[key]
                handle.dropped = False
            raise
        finally:
            with self._lock:
                handle.users -= 1
                close = handle.dropped and handle.users == 0
            if close:
                handle.array.close()

    def _overflow(self) -> list[_Handle]:
        closing = []
        for key in list(self._handles):
            if len(self._handles) <= self._max_open:
                break
            if self._handles[key].users == 0:
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
            handle.array.close()

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

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.orphan)


def open_array(uri: str, ctx: tiledb.Ctx, digest: str | None = None) -> AbstractContextManager[Any]:
    """The array at `uri`, open, from the pool of this process; `digest` as `load_index` takes it.

    Raises
    ------
    StorageError
        If storage fails, or a file that TileDB would parse is not what was written.
    """
    return POOL.use(uri, ctx, digest)
