"""Memory that one process holds now."""

from __future__ import annotations

import sys
from typing import NamedTuple

if sys.platform == "linux":
    from resource import getpagesize

    _PAGE_BYTES = getpagesize()


class MemoryUse(NamedTuple):
    """What a process has of memory, in bytes."""

    address_bytes: int
    resident_bytes: int


def memory_use(pid: int | None = None) -> MemoryUse:
    """What a process, or this one, holds; nothing if it is gone."""
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid or 'self'}/statm", "rb", buffering=0) as file:
                addresses, resident = file.read(64).split()[:2]
        except (OSError, ValueError):
            return MemoryUse(0, 0)
        return MemoryUse(int(addresses) * _PAGE_BYTES, int(resident) * _PAGE_BYTES)
    import psutil

    try:
        info = psutil.Process(pid).memory_info()
    except psutil.Error:
        return MemoryUse(0, 0)
    return MemoryUse(info.vms, info.rss)
