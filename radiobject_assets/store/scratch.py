"""A place to make a small file with TileDB, and the step that puts its bytes into a table or group.

TileDB creates a schema, a delete condition or a group's metadata empty, in its place, and fills it then: who
dies in between leaves something that nobody can open. So it is made elsewhere and moved there whole. Where
the system has a file system in memory, elsewhere is there: folders on a disk take longer to remove than all
the rest (0.7 ms each where the disk is told of freed blocks).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from radiobject_assets.store.checksums import SUMS, note_checksum
from radiobject_assets.store.uris import new_token

_MEMORY = "/dev/shm"
# Containers have 64 MB there by default, which loaders of other programs may have filled.
_ENOUGH_BYTES = 8 * 1024**2


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of the caller's own for a few small files; gone afterwards.

    Who is killed leaves it: nothing that may name a patient belongs there.
    """
    place = _in_memory()
    with tempfile.TemporaryDirectory(prefix="radiobject-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


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
