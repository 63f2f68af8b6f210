"""The files of one array, on a disk or on S3: all that this package asks of storage by itself."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.blocks.index import DATA_FILE, INDEX_NAME
from radiobject_assets.store.blocks.tile_layout import DamagedBlockError
from radiobject_assets.store.storage import DeadlineError, MissingError, open_storage
from radiobject_assets.store.storage.errors import disk_errors
from radiobject_assets.store.storage.read_meter import METER
from radiobject_assets.store.storage.uris import child_names, join, local_path, remove_tree
from radiobject_assets.system.durable_files import write_all, write_through

_log = logging.getLogger(__name__)

# Descriptors that one array holds. Large volumes written with little memory have dozens of files, and a
# process may often open no more than 1024.
MAX_KEPT_OPEN = 2
# What is handed to the disk at once, while other tiles are being made.
_FLUSH_BYTES = 8 * 1024 * 1024


class ArrayFiles:
    """Reads files of the array at `uri`; on a disk the first whose ranges are read stay open. Thread-safe."""

    def __init__(self, uri: str, ctx: tiledb.Ctx, folder: Path | None = None) -> None:
        self.uri = uri
        self.ctx = ctx
        self._folder = folder or local_path(uri)  # of a copy, or its own
        self._storage = open_storage(uri, ctx)
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}

    @property
    def local(self) -> bool:
        """Whether they are on a disk of this machine."""
        return self._folder is not None

    @property
    def parallel(self) -> int:
        """Ranges that may be under way together."""
        return 1 if self.local else self._storage.parallel

    def read(self, name: str) -> bytes | None:
        """A whole small file; None where there is none.

        Raises
        ------
        StorageError
            If storage fails.
        """
        try:
            if self._folder is not None:
                with disk_errors("read", join(self.uri, name)):
                    return (self._folder / name).read_bytes()
            content = self._storage.read(name)
        except MissingError:
            return None
        METER.add(reads=1, stored_bytes=len(content))
        return content

    def fragments(self) -> list[str]:
        """Names of the files with voxels of all fragments that are there, relative to the array."""
        place = self.uri if self._folder is None else str(self._folder)
        return [DATA_FILE.format(name) for name in child_names(join(place, "__fragments"), self.ctx)]

    def range(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Bytes [offset, offset + nbytes) of a file.

        Raises
        ------
        DamagedBlockError
            If the file ends before.
        OSError, StorageError
            If a disk, or S3, does not give it.
        """
        if self._folder is None:
            return self.ranges(name, [(offset, nbytes)])[0]
        with METER.waiting():
            content = self._range_on_disk(name, offset, nbytes)
        return _whole(name, content, nbytes)

    def ranges(self, name: str, spans: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Spans (offset, nbytes) of a file; from S3 they are under way together. See `range`."""
        if self._folder is not None:
            return [self.range(name, *span) for span in spans]
        contents = self._storage.ranges(name, spans)
        return [_whole(name, content, nbytes) for content, (_, nbytes) in zip(contents, spans, strict=True)]

    def _range_on_disk(self, name: str, offset: int, nbytes: int) -> bytes:
        descriptor = self._open.get(name)
        if descriptor is not None:
            return os.pread(descriptor, nbytes, offset)
        place = f"{self._folder}/{name}"
        with self._lock:
            if name not in self._open and len(self._open) < MAX_KEPT_OPEN:
                self._open[name] = _opened(place)
            descriptor = self._open.get(name)
        if descriptor is not None:
            return os.pread(descriptor, nbytes, offset)
        descriptor = _opened(place)
        try:
            return os.pread(descriptor, nbytes, offset)
        finally:
            os.close(descriptor)

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)


def _whole(name: str, content: bytes, nbytes: int) -> memoryview:
    METER.add(reads=1, stored_bytes=len(content))
    if len(content) != nbytes:
        raise DamagedBlockError(f"{name} is shorter than it was written (checksum impossible)")
    return memoryview(content)


def _opened(path: str) -> int:
    return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))


class GrowingFile:
    """A file of a new array on a local disk, on its way to the disk while it grows."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        self._file = path.open("wb", buffering=0)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._flushing: Future[None] | None = None
        self._flushed = 0
        self.nbytes = 0

    def append(self, parts: Sequence[bytes]) -> None:
        """Write at its end."""
        write_all(self._file.fileno(), parts)
        self.nbytes += sum(map(len, parts))
        if self.nbytes - self._flushed >= _FLUSH_BYTES and (not self._flushing or self._flushing.done()):
            self.flush()

    def flush(self) -> None:
        """Begin to put what was written on the disk."""
        self.on_disk()
        self._flushed = self.nbytes
        self._flushing = self._disk.submit(os.fdatasync, self._file.fileno())

    def on_disk(self) -> None:
        """Wait for the last `flush`."""
        if self._flushing is not None:
            self._flushing.result()

    def close(self) -> None:
        """Close it, whatever it holds."""
        self._disk.shutdown(wait=True, cancel_futures=True)
        self._file.close()


def drop_pages(uri: str) -> None:
    """Let the system forget what it keeps in memory of an array's files, where they are on a disk here.

    A hint: where the system has none, or is not allowed, nothing happens.
    """
    folder = local_path(uri)
    if folder is None or not hasattr(os, "posix_fadvise"):
        return
    for name in names_below(folder):
        with contextlib.suppress(OSError), (folder / name).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def put_file(path: Path, content: bytes) -> None:
    """Write a small file of a new array on a local disk, for certain."""
    path.parent.mkdir(exist_ok=True)
    write_through(path, content)


def names_below(folder: Path) -> list[str]:
    """All files of a new array on a local disk, relative to it."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def upload(folder: Path, uri: str, ctx: tiledb.Ctx) -> None:
    """Put the files of an array that was made in `folder` to `uri`, one request each.

    The schema is first, since its name says when the array was made, then whose the array is, then the
    voxels, and the index last.
    """
    # What is put after an interruption would stay, so nothing follows before all that went before is there.
    waves: list[list[str]] = [[], [], [], []]
    order = {"__schema": 0, "__meta": 1, INDEX_NAME: 3}
    for name in names_below(folder):
        waves[order.get(name.split("/")[0], 2)].append(name)
    storage = open_storage(uri, ctx)
    for names in waves:
        storage.write_files({name: folder / name for name in names})


def remove_unfinished(uri: str, ctx: tiledb.Ctx, error: BaseException) -> None:
    """Remove an array whose making ended with `error`; what cannot be removed, vacuum finds."""
    if isinstance(error, DeadlineError):
        # Storage that does not answer would not answer to a removal either, and whoever writes may still
        # be at it. Nothing names the array.
        return
    try:
        remove_tree(uri, ctx)
    except StorageError:  # the first error is the one to report
        _log.warning("an unfinished array could not be removed; vacuum will", exc_info=True)
