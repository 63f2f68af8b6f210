"""File locks: one holder at a time among the processes and threads that see the same disk.

A lock is `flock` on a file that stays when nobody holds it. The system lets it go when its holder dies, so a
lock that can be had says that whoever held it is done or dead.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from radiobject_assets.errors import LockedError
from radiobject_assets.system.folders import in_folder

_POLL_S = 0.01


@contextmanager
def file_lock(
    path: str | Path,
    *,
    wait_s: float | None = None,
    place: str | None = None,
    create: bool = True,
    make_folders: bool = False,
    mode: int = 0o666,
) -> Iterator[int]:
    """Hold the lock `path` for the length of the block; the value is the open file's descriptor.

    A fork that leaves the block does not let go of what its parent holds.

    Parameters
    ----------
    wait_s
        Seconds to wait for whoever holds it; 0 to try once, None to wait for ever.
    place
        What the error calls the lock; its path, if None.
    create
        Make the file where it is missing, with the rights of `mode`.
    make_folders
        Make the folders above it, too.

    Raises
    ------
    LockedError
        Somebody else held it all the time.
    OSError
        The file cannot be opened, or the disk has no locks.
    """
    until = None if wait_s is None else time.monotonic() + wait_s
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)

    def opened() -> int:
        return os.open(path, flags, mode)

    while True:
        handle = in_folder(os.fspath(path), opened) if make_folders else opened()
        try:
            if not _taken(handle, until):
                waited = f" (waited {wait_s:.3g} s)" if wait_s else ""
                raise LockedError(
                    f"cannot lock {place or path}: another process holds it{waited}; "
                    "wait for it to finish, or end it"
                )
            # Somebody may have removed the file, and others lock another of that name by now.
            if not _same_file(handle, path):
                continue
            taken_by = os.getpid()
            try:
                yield handle
            finally:
                if os.getpid() == taken_by:
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


def _same_file(handle: int, path: str | Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path))
    return False
