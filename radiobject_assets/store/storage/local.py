"""Files on a local disk (or one that is mounted like it).

A file is written aside, put on the disk, and only then given its name: by a rename, or, to publish it, by a
hard link, which the system makes for one of all who try. What is published has no name before (`O_TMPFILE`),
so that nothing is left of a process that dies; where the system has no such files, and of a `write`, a file
with a random name is left in the staging folder, where nobody looks for anything.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from radiobject_assets.store.storage.errors import MissingError, disk_errors
from radiobject_assets.store.storage.storage import Entry, Storage, checked, folder_prefix
from radiobject_assets.system.durable_files import read_at, write_all
from radiobject_assets.system.folders import in_folder, sync_path
from radiobject_assets.system.locks import file_lock
from radiobject_assets.system.publishing import publish_staged, publish_unnamed

T = TypeVar("T")

STAGING = "tmp"
# A folder is no file: S3 knows no others than these.
_NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_PIECE_BYTES = 8 * 1024**2
# It is held while one file is written: whoever waits for longer has a disk that hangs.
_REPLACING_S = 60.0


class LocalStorage(Storage):
    """A folder."""

    def __init__(self, folder: str, uri: str) -> None:
        self.uri = uri
        self._folder = folder
        self._staging = os.path.join(folder, STAGING)

    @property
    def parallel(self) -> int:
        """One: the system reads ahead, and what was read lately is in memory."""
        return 1

    def list(self, prefix: str = "", *, after: str | None = None, recursive: bool = False) -> Sequence[Entry]:
        """See `Storage`. The staging folder is not shown."""
        start = folder_prefix(prefix)
        found: list[Entry] = []
        waiting = [start]
        while waiting:
            inside = waiting.pop()
            for entry in self._entries(inside, found):
                if recursive:
                    waiting.append(entry.path)
                else:
                    found.append(entry)
        return sorted(entry for entry in found if after is None or entry.path > after)

    def _entries(self, inside: str, files: MutableSequence[Entry]) -> Iterator[Entry]:
        """Folders in a folder; its files are added to `files`. What vanishes meanwhile is left out."""
        with disk_errors("list", self._place(inside)), suppress(FileNotFoundError, NotADirectoryError):
            with os.scandir(os.path.join(self._folder, inside)) as entries:
                here = [entry for entry in entries if entry.path != self._staging]
            for entry in here:
                with suppress(FileNotFoundError):
                    if entry.is_dir():
                        yield Entry(f"{inside}{entry.name}/", 0)
                    else:
                        found = entry.stat()
                        stamp = f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
                        files.append(Entry(inside + entry.name, found.st_size, stamp))

    def read(self, path: str) -> bytes:
        """See `Storage`."""
        with self._open(path) as handle:
            return read_at(handle, 0, os.fstat(handle).st_size)

    def ranges(self, path: str, spans: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """See `Storage`."""
        with self._open(path) as handle:
            return [read_at(handle, offset, nbytes) for offset, nbytes in spans]

    def read_many(self, paths: Iterable[str]) -> Sequence[bytes]:
        """See `Storage`."""
        return [self.read(path) for path in paths]

    @contextmanager
    def _open(self, path: str) -> Iterator[int]:
        with disk_errors("read", self._place(path), _NO_FILE):
            handle = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield handle
            finally:
                os.close(handle)

    def write(self, path: str, data: bytes) -> None:
        """See `Storage`."""
        self._write(path, lambda: [data])

    def write_file(self, path: str, source: Path) -> None:
        """See `Storage`."""
        with disk_errors("read", str(source)), source.open("rb") as file:

            def pieces() -> Iterable[bytes]:
                file.seek(0)
                return iter(partial(file.read, _PIECE_BYTES), b"")

            self._write(path, pieces)

    def write_files(self, sources: Mapping[str, Path]) -> None:
        """See `Storage`."""
        for path, source in sources.items():
            self.write_file(path, source)

    def _write(self, path: str, pieces: Callable[[], Iterable[bytes]]) -> None:
        target = self._at(path)

        def put(staged: str) -> None:
            in_folder(target, lambda: os.replace(staged, target))
            sync_path(os.path.dirname(target))

        with disk_errors("write", self._place(path)):
            self._from_staged(pieces, put)

    def publish(self, path: str, data: bytes) -> bool:
        """See `Storage`."""
        target = self._at(path)
        lock = os.path.join(self._staging, "lock")

        def put(staged: str) -> bool:
            return in_folder(target, lambda: publish_staged(staged, target, lock))

        with disk_errors("publish", self._place(path)):
            mine = in_folder(target, lambda: publish_unnamed(target, data))
            if mine is None:
                mine = self._from_staged(lambda: [data], put)
            # Also where another's is there: what the caller builds on that must not outlive it.
            sync_path(os.path.dirname(target))
            return mine

    def _from_staged(self, pieces: Callable[[], Iterable[bytes]], put: Callable[[str], T]) -> T:
        """`put(staged file)`; with another one where somebody took it for a left-over and removed it."""
        for _ in range(20):
            with suppress(FileNotFoundError), self._staged(pieces()) as staged:
                return put(staged)
        with self._staged(pieces()) as staged:
            return put(staged)

    @contextmanager
    def _staged(self, pieces: Iterable[bytes]) -> Iterator[str]:
        """A file that holds all pieces for certain, in the staging folder for the length of the block."""
        staged = os.path.join(self._staging, secrets.token_hex(16))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        handle = in_folder(staged, lambda: os.open(staged, flags, 0o666))
        try:
            try:
                for piece in pieces:
                    write_all(handle, [piece])
                os.fsync(handle)
            finally:
                os.close(handle)
            yield staged
        finally:
            with suppress(FileNotFoundError):
                os.unlink(staged)

    def read_version(self, path: str) -> tuple[bytes, str]:
        """See `Storage`."""
        content = self.read(path)
        return content, _digest(content)

    def replace(self, path: str, data: bytes, version: str) -> bool:
        """See `Storage`."""
        with self.lock(f"{STAGING}/replacing", wait_s=_REPLACING_S):
            try:
                if self.read_version(path)[1] != version:
                    return False
            except MissingError:
                return False
            self.write(path, data)
            return True

    def remove(self, path: str) -> None:
        """See `Storage`."""
        target = self._at(path)
        with disk_errors("remove", self._place(path)), suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(target)
            sync_path(os.path.dirname(target))

    def remove_tree(self, path: str) -> None:
        """See `Storage`."""
        target = self._at(path) if path else self._folder
        with disk_errors("remove", self._place(path)):
            while True:
                try:
                    shutil.rmtree(target)
                except (FileNotFoundError, NotADirectoryError):
                    # Somebody else removes it as well: again, until it is gone.
                    if os.path.isdir(target):
                        continue
                    return
                except OSError as error:
                    # Somebody put a file into it meanwhile.
                    if error.errno == errno.ENOTEMPTY:
                        continue
                    raise
                sync_path(os.path.dirname(target))
                return

    def prune(self) -> None:
        """See `Storage`."""
        for folder, _, _ in os.walk(self._folder, topdown=False):
            with suppress(OSError):  # it holds something
                os.rmdir(folder)

    def exists(self, path: str) -> bool:
        """See `Storage`."""
        with disk_errors("look at", self._place(path)):
            return os.path.isfile(self._at(path))

    @contextmanager
    def lock(self, path: str, *, wait_s: float) -> Iterator[None]:
        """See `Storage`."""
        with ExitStack() as held:
            with disk_errors("lock", self._place(path)):
                held.enter_context(
                    file_lock(self._at(path), wait_s=wait_s, place=self._place(path), make_folders=True)
                )
            yield

    def leftovers(self, older_than_s: float) -> Sequence[Entry]:
        """See `Storage`."""
        before = time.time() - older_than_s
        found = []
        with (
            disk_errors("list", self._staging),
            suppress(FileNotFoundError),
            os.scandir(self._staging) as here,
        ):
            for entry in here:
                with suppress(FileNotFoundError):
                    if len(entry.name) == 32 and entry.stat().st_mtime <= before:
                        path = os.path.relpath(entry.path, self._folder)
                        found.append(Entry(path, entry.stat().st_size))
        return sorted(found)

    def _at(self, path: str) -> str:
        return os.path.join(self._folder, checked(path))

    def _place(self, path: str) -> str:
        return f"{self.uri}/{path}".rstrip("/")


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
