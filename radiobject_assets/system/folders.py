"""Folders that are there for certain: made with those above them, and put on the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def sync_path(path: str | Path) -> None:
    """Put a file's content, or the names in a folder, on the disk (`fsync`)."""
    handle = os.open(path or ".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no such thing for folders
            raise
    finally:
        os.close(handle)


def in_folder(path: str, call: Callable[[], T]) -> T:
    """`call()`, which makes `path`; its folder is made where it is missing."""
    for _ in range(3):  # somebody may remove the folder meanwhile
        try:
            return call()
        except FileNotFoundError:
            make_folder(os.path.dirname(path))
    return call()


def make_folder(folder: str) -> None:
    """Make a folder and those above it, each for certain."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    if above and above != folder:
        make_folder(above)
    with suppress(FileExistsError):
        os.mkdir(folder)
    sync_path(above)
