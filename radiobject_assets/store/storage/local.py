"""Files on a local disk (or one that is mounted like it).

A file is written aside, put on the disk, and only then given its name: by a rename, or, to publish it, by a
hard link, which the system makes for one of all who try. What is published has no name before (`O_TMPFILE`),
so that nothing is left of a process that dies; where the system has no such files, and of a `write`, a file
with a random name is left in the staging folder, where nobody looks for anything.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from radiobject_assets.store.storage.errors import LockedError, disk_errors
from radiobject_assets.store.storage.storage import Entry, Storage, checked, folder_prefix
from radiobject_assets.system.files import write_all

T = TypeVar("T")

STAGING = "tmp"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NO_SUCH_RENAME = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
# A folder is no file: S3 knows no others than these.
_NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS)
_O_TMPFILE = getattr(os, "O_TMPFILE", 0)
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_POLL_S = 0.01
_PIECE_BYTES = 8 * 1024**2
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)


class LocalStorage(Storage):
    """A folder."""

    def __init__(self, folder: str, uri: str, staging: str | None = None) -> None:
        self.uri = uri
        self._folder = folder
        self._staging = staging or os.path.join(folder, STAGING)

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
                        files.append(Entry(inside + entry.name, entry.stat().st_size))

    def read(self, path: str) -> bytes:
        """See `Storage`."""
        with self._open(path) as handle:
            return _read_at(handle, 0, os.fstat(handle).st_size)

    def ranges(self, path: str, spans: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """See `Storage`."""
        with self._open(path) as handle:
            return [_read_at(handle, offset, nbytes) for offset, nbytes in spans]

    def read_many(self, paths: Iterable[str]) -> Sequence[bytes]:
        """See `Storage`."""
        return [self.read(path) for path in paths]

    @contextmanager
    def _open(self, path: str) -> Iterator[int]:
        with disk_errors("read", self._place(path), _NO_FILE):
            handle = os.open(self._at(path), os.O_RDONLY | _CLOEXEC)
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
            _in_folder(target, lambda: os.replace(staged, target))
            _sync_folder(os.path.dirname(target))

        with disk_errors("write", self._place(path)):
            self._from_staged(pieces, put)

    def publish(self, path: str, data: bytes) -> bool:
        """See `Storage`."""
        target = self._at(path)
        with disk_errors("publish", self._place(path)):
            mine = _in_folder(target, lambda: _publish_unnamed(target, data))
            if mine is None:
                mine = self._from_staged(
                    lambda: [data],
                    lambda staged: _in_folder(target, lambda: self._place_if_absent(staged, target)),
                )
            # Also where another's is there: what the caller builds on that must not outlive it.
            _sync_folder(os.path.dirname(target))
            return mine

    def _place_if_absent(self, staged: str, target: str) -> bool:
        try:
            os.link(staged, target)
            return True
        except FileExistsError:
            # A server of files may have lost its answer and been asked again.
            with suppress(FileNotFoundError):
                return os.path.samestat(os.stat(staged), os.stat(target))
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        renamed = _rename_if_absent(staged, target)
        if renamed is not None:
            return renamed
        with _locked(os.path.join(self._staging, "lock"), None):
            if os.path.lexists(target):
                return False
            os.rename(staged, target)
            return True

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
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CLOEXEC
        handle = _in_folder(staged, lambda: os.open(staged, flags, 0o666))
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

    def remove(self, path: str) -> None:
        """See `Storage`."""
        target = self._at(path)
        with disk_errors("remove", self._place(path)), suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(target)
            _sync_folder(os.path.dirname(target))

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
                _sync_folder(os.path.dirname(target))
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
        with disk_errors("lock", self._place(path)):
            lock = _locked(self._at(path), wait_s)
            held = lock.__enter__()
        if not held:
            raise LockedError(
                f"cannot lock {self._place(path)}: another process held it for {wait_s:.3g} s; "
                "wait for it to finish, or end it"
            )
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def child(self, *parts: str) -> LocalStorage:
        """See `Storage`."""
        inside = [checked(part) for part in parts]
        return LocalStorage(os.path.join(self._folder, *inside), "/".join([self.uri, *inside]), self._staging)

    def leftovers(self, older_than_s: float) -> Sequence[Entry]:
        """See `Storage`. The staging folder must lie in this storage's root."""
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


def _publish_unnamed(target: str, data: bytes) -> bool | None:
    """Whether a file with `data` got the name `target`, which nothing had; None where the system can't tell.

    Until it has its name it has none: of a process that dies nothing is left.
    """
    if not _O_TMPFILE:
        return None
    try:
        handle = os.open(os.path.dirname(target), os.O_WRONLY | _O_TMPFILE | _CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in _NO_UNNAMED:
            return None
        raise
    try:
        write_all(handle, [data])
        os.fsync(handle)
        try:
            # With a folder given, Python follows the link in /proc, which it does not otherwise.
            os.link(f"/proc/self/fd/{handle}", target, src_dir_fd=handle, follow_symlinks=True)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in (*_NO_LINKS, errno.ENOENT, errno.EXDEV):
                return None
            raise
        return True
    finally:
        os.close(handle)


def _read_at(handle: int, offset: int, nbytes: int) -> bytes:
    content = os.pread(handle, nbytes, offset)
    if len(content) == nbytes:
        return content
    parts = [content]
    while parts[-1] and (got := sum(map(len, parts))) < nbytes:  # one call gives 2 GB at most
        parts.append(os.pread(handle, nbytes - got, offset + got))
    return b"".join(parts)


def _in_folder(path: str, call: Callable[[], T]) -> T:
    """`call()`, which makes `path`; its folder is made where it is missing."""
    for _ in range(3):  # somebody may remove the folder meanwhile
        try:
            return call()
        except FileNotFoundError:
            _make_folder(os.path.dirname(path))
    return call()


def _make_folder(folder: str) -> None:
    """Make a folder and those above it, each for certain."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    if above and above != folder:
        _make_folder(above)
    with suppress(FileExistsError):
        os.mkdir(folder)
    _sync_folder(above)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder or ".", os.O_RDONLY | _CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no such thing
            raise
    finally:
        os.close(handle)


@cache
def _renameat2() -> Any:
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _rename_if_absent(source: str, target: str) -> bool | None:
    """Whether `source` got the name `target`, which nothing had; None where the system can't tell."""
    rename = _renameat2()
    if rename is None:
        return None
    if rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in _NO_SUCH_RENAME:
        return None
    raise OSError(code, os.strerror(code), target)


@contextmanager
def _locked(path: str, wait_s: float | None) -> Iterator[bool]:
    """Hold a lock; the value is False where it was not to be had in time. Without `wait_s`, wait for ever."""
    until = None if wait_s is None else time.monotonic() + wait_s
    while True:
        handle = _in_folder(path, lambda: os.open(path, os.O_RDWR | os.O_CREAT | _CLOEXEC, 0o666))
        try:
            held = _taken(handle, until)
            # Somebody may have removed the file, and others lock another of that name by now.
            if held and not _same_file(handle, path):
                continue
            try:
                yield held
            finally:
                if held:
                    # Not by closing alone: a child that was forked meanwhile has the descriptor too.
                    fcntl.flock(handle, fcntl.LOCK_UN)
            return
        finally:
            os.close(handle)


def _taken(handle: int, until: float | None) -> bool:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (BlockingIOError, PermissionError):
            if until is not None and time.monotonic() >= until:
                return False
            time.sleep(_POLL_S)


def _same_file(handle: int, path: str) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path))
    return False
