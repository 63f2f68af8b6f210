"""The files of one array, on a disk or on S3: all that this package asks of storage by itself."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.blocks.index import DATA_FILE, INDEX_NAME
from radiobject_assets.store.blocks.layout import DamagedError
from radiobject_assets.store.deadline import DeadlineError, begin, on_storage
from radiobject_assets.store.disk import write_all, write_through
from radiobject_assets.store.s3_objects import s3_objects
from radiobject_assets.store.uris import join, list_names, local_path, remove_tree

_log = logging.getLogger(__name__)

# Descriptors that one array holds. Large volumes written with little memory have dozens of files, and a
# process may often open no more than 1024.
MAX_KEPT_OPEN = 2
# What is handed to the disk at once, while other tiles are being made.
_FLUSH_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class ByteCounts:
    """What was read past TileDB so far, by this process."""

    reads: int = 0
    """Reads of files, or requests."""
    stored_bytes: int = 0
    decoded_bytes: int = 0


class _Counter:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = ByteCounts()

    def add(self, reads: int = 0, stored_bytes: int = 0, decoded_bytes: int = 0) -> None:
        with self._lock:
            now = self._counts
            self._counts = ByteCounts(
                now.reads + reads, now.stored_bytes + stored_bytes, now.decoded_bytes + decoded_bytes
            )

    @property
    def counts(self) -> ByteCounts:
        return self._counts

    def after_fork(self) -> None:
        self._lock = threading.Lock()


COUNTER = _Counter()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=COUNTER.after_fork)


class ArrayFiles:
    """Reads files of the array at `uri`; on a disk the first whose ranges are read stay open. Thread-safe."""

    def __init__(self, uri: str, ctx: tiledb.Ctx) -> None:
        self.uri = uri
        self.ctx = ctx
        self._folder = local_path(uri)
        self._objects = s3_objects(uri, ctx)
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}

    @property
    def local(self) -> bool:
        """Whether they are on a disk of this machine."""
        return self._folder is not None

    @property
    def parallel(self) -> int:
        """Ranges that may be under way together; 0 where only TileDB can read here."""
        return 1 if self.local else self._objects.parallel if self._objects else 0

    def read(self, name: str) -> bytes | None:
        """A whole small file; None where there is none.

        Raises
        ------
        StorageError
            If storage fails.
        """
        try:
            content = on_storage("read", join(self.uri, name), self.ctx, partial(self._read, name))
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        if not self.local:
            COUNTER.add(reads=1, stored_bytes=len(content))
        return content

    def _read(self, name: str) -> bytes:
        if self._folder is not None:
            return (self._folder / name).read_bytes()
        if self._objects is not None:
            return self._objects.read(join(self.uri, name))
        vfs = tiledb.VFS(ctx=self.ctx)
        if not vfs.is_file(join(self.uri, name)):
            raise FileNotFoundError(name)
        with vfs.open(join(self.uri, name), "rb") as file:
            return bytes(file.read())

    def fragments(self) -> list[str]:
        """Names of the files with voxels of all fragments that are there, relative to the array."""
        return [DATA_FILE.format(name) for name in list_names(join(self.uri, "__fragments"), self.ctx)]

    def range(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Bytes [offset, offset + nbytes) of a file.

        Raises
        ------
        DamagedError
            If the file ends before.
        OSError
            If storage does not give it.
        """
        if self._folder is not None:
            content = self._range_on_disk(self._folder / name, offset, nbytes)
        elif self._objects is not None:
            content = self._objects.read(join(self.uri, name), offset, nbytes)
        else:
            raise OSError("only TileDB can read here")
        COUNTER.add(reads=1, stored_bytes=len(content))
        if len(content) != nbytes:
            raise DamagedError(f"{name} is shorter than it was written (checksum impossible)")
        return memoryview(content)

    def _range_on_disk(self, path: Path, offset: int, nbytes: int) -> bytes:
        key = os.fspath(path)
        descriptor = self._open.get(key)
        if descriptor is not None:
            return os.pread(descriptor, nbytes, offset)
        with self._lock:
            if key not in self._open and len(self._open) < MAX_KEPT_OPEN:
                self._open[key] = _opened(key)
            descriptor = self._open.get(key)
        if descriptor is not None:
            return os.pread(descriptor, nbytes, offset)
        descriptor = _opened(key)
        try:
            return os.pread(descriptor, nbytes, offset)
        finally:
            os.close(descriptor)

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)


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
    most = int(ctx.config()["vfs.s3.multipart_part_size"])
    objects = s3_objects(uri, ctx)
    together = 1 if objects is None else objects.parallel

    def put(name: str) -> None:
        target, path = join(uri, name), folder / name
        if objects is not None and path.stat().st_size <= most:
            objects.write(target, path.read_bytes())
            return
        vfs = tiledb.VFS(ctx=ctx)
        if not path.stat().st_size:
            vfs.touch(target)
            return
        with path.open("rb") as source, vfs.open(target, "wb") as out:
            while piece := source.read(most):
                out.write(piece)

    for names in waves:
        for first in range(0, len(names), together):
            under_way = [begin(partial(put, name)) for name in names[first : first + together]]
            wait(under_way)
            for one in under_way:
                one.result()


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
