"""A place to make a small file with TileDB, and the step that puts its bytes into a table or group.

TileDB creates a schema, a delete condition or a group's metadata empty, in its place, and fills it then: who
dies in between leaves something that nobody can open. So it is made elsewhere and moved there whole. Where
the system has a file system in memory, elsewhere is there: folders on a disk take longer to remove than all
the rest (0.7 ms each where the disk is told of freed blocks).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from radiobject_assets.store.checksums import SUMS, note_checksum
from radiobject_assets.store.uris import new_token

_MEMORY = "/dev/shm"
# Containers have 64 MB there by default, which loaders of other programs may have filled.
_ENOUGH_BYTES = 8 * 1024**2
_PREFIX = "radiobject-scratch-"
# Nothing there takes longer than a second.
_LEFT_S = 3600.0


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of the caller's own for a few small files; gone afterwards.

    Who is killed leaves it until another process needs one an hour later: nothing that may name a patient
    belongs there.
    """
    place = _in_memory() or tempfile.gettempdir()
    _sweep(place)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@cache
def _sweep(place: str) -> None:
    """Remove what processes left that were killed, once in a process."""
    before = time.time() - _LEFT_S
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.stat(follow_symlinks=False).st_mtime < before:
                shutil.rmtree(entry.path, ignore_errors=True)


def _in_memory() -> str | None:
    try:
        room = os.statvfs(_MEMORY)
    except OSError:
        return None
    usable = os.access(_MEMORY, os.W_OK | os.X_OK) and room.f_bavail * room.f_frsize >= _ENOUGH_BYTES
    return _MEMORY if usable else None


def publish(folder: Path, path: str, content: bytes) -> None:
    """Put a file at `path` (relative) in the table or group `folder`, whole, its checksum noted before."""
    note_checksum(folder, path, content)
    aside = folder / SUMS / f".{new_token()}"
    try:
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, folder / path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
