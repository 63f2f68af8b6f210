"""Files on a local disk, or one that is mounted like it: read and written whole, and on the disk for certain.

A file is written aside, put on the disk, and only then given its name: nobody ever reads half of one, and an
interrupted write leaves the old one.
"""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from radiobject_assets.errors import LockedError
from radiobject_assets.system.folders import sync_path
from radiobject_assets.system.locks import file_lock


@contextmanager
def whole_file(path: Path, *, mode: int = 0o666, sync: bool = True) -> Iterator[Path]:
    """A hidden file beside `path`, empty, that takes its place when the block ends well, else is removed.

    What a killed writer leaves is written over by the next one of the same file; writers that are at it
    together do not disturb each other, and the last one stays. The folder must be there.

    Parameters
    ----------
    mode
        Rights of the file, less the process's umask.
    sync
        Put content and name on the disk first (`fsync`). Without it a machine that loses power may lose the
        content: only for what is easily made again.

    Raises
    ------
    OSError
        The disk is full or cannot be written.
    """
    with ExitStack() as held:
        staged, handle = _staged(path, mode, held)
        try:
            yield staged
            if sync:
                os.fsync(handle)
            os.replace(staged, path)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        if sync:
            sync_path(path.parent)


def _staged(path: Path, mode: int, held: ExitStack) -> tuple[Path, int]:
    staged = path.with_name(f".{path.name}.partial")
    try:
        handle = held.enter_context(file_lock(staged, wait_s=0, mode=mode))
        os.ftruncate(handle, 0)
    except (LockedError, OSError):  # another writer is at it, it is another user's, or a disk without locks
        staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        handle = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        held.callback(os.close, handle)
    return staged, handle


def write_whole(path: Path, content: str | bytes, *, mode: int = 0o666) -> None:
    """Write a file (text as UTF-8) that is there whole or not at all, in place of what may be there."""
    with whole_file(path, mode=mode) as staged:
        staged.write_bytes(content.encode() if isinstance(content, str) else content)


def write_through(path: Path, content: bytes) -> None:
    """Write a small file, under its own name at once, that is on the disk when this returns."""
    with path.open("wb", buffering=0) as file:
        write_all(file.fileno(), [content])
        os.fsync(file.fileno())


def write_all(handle: int, parts: Sequence[bytes]) -> None:
    """Write all parts; a disk that takes only some of them at once (it is nearly full) is asked again."""
    left = deque(memoryview(part) for part in parts if part)
    while left:
        written = os.writev(handle, list(left)[:512])
        while left and written >= len(left[0]):
            written -= len(left.popleft())
        if written:
            left[0] = left[0][written:]


def read_at(handle: int, offset: int, nbytes: int) -> bytes:
    """Bytes [offset, offset + nbytes) of an open file; fewer where it ends before."""
    content = os.pread(handle, nbytes, offset)
    if len(content) == nbytes:
        return content
    parts = [content]
    while parts[-1] and (got := sum(map(len, parts))) < nbytes:  # one call gives 2 GB at most
        parts.append(os.pread(handle, nbytes - got, offset + got))
    return b"".join(parts)
