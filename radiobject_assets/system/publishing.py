"""Giving a file a name that nothing has yet: of all who try at once one succeeds, and each knows who did.

By a hard link, which the system makes for one of all who try. What is published has no name before
(`O_TMPFILE`), so that nothing is left of a process that dies; where the system has no such files, a file that
was written aside is given its name, by a link, by a rename that replaces nothing, or under a file lock.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from functools import cache
from typing import Any

from radiobject_assets.system.durable_files import write_all
from radiobject_assets.system.locks import file_lock

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NO_SUCH_RENAME = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS)
_O_TMPFILE = getattr(os, "O_TMPFILE", 0)
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


def publish_unnamed(target: str, data: bytes) -> bool | None:
    """Whether a file with `data` got the name `target`, which nothing had; None where the system can't tell.

    Until it has its name it has none: of a process that dies nothing is left. The folder's own entry is not
    put on the disk.
    """
    if not _O_TMPFILE:
        return None
    try:
        handle = os.open(os.path.dirname(target), os.O_WRONLY | _O_TMPFILE | os.O_CLOEXEC, 0o666)
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


def publish_staged(staged: str, target: str, lock: str) -> bool:
    """Whether the file `staged` got the name `target`, which nothing had.

    `lock` is the file lock that all who publish there share: for disks that know neither links nor renames
    that replace nothing.
    """
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
    with file_lock(lock, make_folders=True):
        if os.path.lexists(target):
            return False
        os.rename(staged, target)
        return True


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
