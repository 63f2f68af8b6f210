"""Temporary folders that do not outlive their process by long: images in them are of patients.

A process that is killed removes nothing. Its folders stay locked as long as it lives, and no longer, so the
next one that makes such a folder removes what the dead have left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "radiobject-assets-"
_LOCK = ".lock"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for this process alone, gone with all that is in it when the block ends.

    It lies under the system's place for temporary files (`TMPDIR`), in a folder of mode 0700. After a kill
    the next call by the same user, in any process, removes it.
    """
    _sweep(Path(tempfile.gettempdir()))
    own, made_by = Path(tempfile.mkdtemp(prefix=_PREFIX)), os.getpid()
    with open(own / "new", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.rename(own / "new", own / _LOCK)  # nobody sees it before it is locked
            inside = own / "files"
            inside.mkdir()
            yield inside
        finally:
            if os.getpid() == made_by:  # a forked child that ends may not take its parent's away
                shutil.rmtree(own, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove the folders whose processes are gone."""
    for folder in place.glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with open(folder / _LOCK, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use, being made, or being removed by its owner
