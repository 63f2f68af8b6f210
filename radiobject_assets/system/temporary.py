"""Folders that do not outlive their process by long: images in them are of patients.

A process that is killed removes nothing. Its folders stay locked as long as it lives, and no longer, so the
next one that makes such a folder removes what the dead have left. A temporary folder goes when its block
ends; a staging folder becomes the final one.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from radiobject_assets.errors import LockedError
from radiobject_assets.system.folders import sync_path
from radiobject_assets.system.locks import file_lock

_log = logging.getLogger(__name__)

_PREFIX = "radiobject-assets-"
_LOCK = ".lock"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for this process alone, gone with all that is in it when the block ends.

    It lies under the system's place for temporary files (`TMPDIR`), in a folder of mode 0700. After a kill
    the next call by the same user, in any process, removes it.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_own(folder):
            _remove_abandoned(folder)
    with _held(Path(tempfile.mkdtemp(prefix=_PREFIX))) as inside:
        yield inside


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes `target`, by one rename, when the block ends well, and else is removed.

    Another process may have put a folder at `target` meanwhile: then that one stays. The folder's names are
    put on the disk; what its files hold is the caller's to put there (`write_through`, `sync_path`). After a
    kill the next call in the same parent folder removes what is left.
    """
    for folder in target.parent.glob(".*.partial"):
        _remove_abandoned(folder)
    own = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    own.mkdir()
    with _held(own) as inside:
        yield inside
        sync_path(inside)
        try:
            inside.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            _log.info("another process made the same folder first; that one stays")
        sync_path(target.parent)


@contextmanager
def _held(own: Path) -> Iterator[Path]:
    """A folder in the new folder `own`, which stays locked until it is removed with the end of the block."""
    made_by = os.getpid()
    with file_lock(own / "new", wait_s=0):
        try:
            os.rename(own / "new", own / _LOCK)  # nobody sees it before it is locked
            inside = own / "files"
            inside.mkdir()
            yield inside
        finally:
            if os.getpid() == made_by:  # a forked child that ends may not take its parent's away
                shutil.rmtree(own, ignore_errors=True)


def _is_own(folder: Path) -> bool:
    try:
        return not folder.is_symlink() and folder.stat().st_uid == os.getuid()
    except OSError:
        return False  # it is being removed by its owner


def _remove_abandoned(folder: Path) -> None:
    """Remove a folder if its process is gone."""
    try:
        with file_lock(folder / _LOCK, wait_s=0, create=False):
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, LockedError):
        return  # in use, being made, or being removed by its owner
