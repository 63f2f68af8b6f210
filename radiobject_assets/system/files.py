"""Bytes onto a local disk: all of them, and for certain."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path


def write_through(path: Path, content: bytes) -> None:
    """Write a small file that is on the disk when this returns."""
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
