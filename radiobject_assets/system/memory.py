"""Memory as a contract: one number for a process tree, divided among its consumers, and measured.

`MemoryBudget` says who may hold how much; `system.resource_monitor` what was really held. Nothing here
allocates or limits by itself: the store passes its share to TileDB, and the ingest pool admits tasks by the
bytes that they declare.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.system.processes import groups_with

MB = 1024 * 1024
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True)
class MemoryBudget:
    """One memory limit for a process and its children, and how it is divided.

    Parameters
    ----------
    total_mb
        Mebibytes for voxels, tiles and buffers together, at least 64. Interpreters and imported libraries
        are the same whatever the data and come on top: up to 300 MB for a process, and 120 MB for each
        worker. Who sets the total to a machine's limit means them too, so ingest starts only as many workers
        as leave room for all of that within the total, but always one.
    """

    total_mb: int = 2048

    def __post_init__(self) -> None:
        if self.total_mb < 64:
            raise ConfigurationError(f"memory budget of {self.total_mb} MB: at least 64 MB are needed")

    @property
    def total_bytes(self) -> int:
        """The whole budget in bytes."""
        return self.total_mb * MB

    @property
    def tasks_bytes(self) -> int:
        """Bytes that tasks in flight may declare together: half of the budget."""
        return self.total_bytes // 2

    @property
    def tiledb_bytes(self) -> int:
        """Bytes for TileDB's own buffers (`sm.mem.total_budget`): a quarter of the budget."""
        return self.total_bytes // 4

    @property
    def tile_cache_bytes(self) -> int:
        """Bytes for the decoded-tile cache: an eighth of the budget."""
        return self.total_bytes // 8


def usable_memory_mb() -> int:
    """Mebibytes that this process and those beside it may use: the machine's, or its container's limit."""
    import psutil

    bytes_there = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError):
        bytes_there = min(bytes_there, memory_limit(_OWN_GROUPS.read_text(), _GROUPS))
    return bytes_there // MB


def memory_limit(own_groups: str, mounted: Path) -> int:
    """Bytes that a process's control groups allow it; a very large number where nothing limits it.

    Parameters
    ----------
    own_groups
        What /proc/self/cgroup says.
    mounted
        Where the control groups are mounted: both generations are understood.
    """
    limits = [2**62]
    for folder, is_unified in groups_with("memory", own_groups, mounted):
        with contextlib.suppress(OSError, ValueError):  # "max", or not there
            file = folder / ("memory.max" if is_unified else "memory.limit_in_bytes")
            limits.append(int(file.read_text()))
    return min(limits)


def tree_resident_bytes(pid: int | None = None) -> dict[int, int]:
    """Resident bytes of a process and of all its living descendants, by pid (shared pages count in each)."""
    pid = pid or os.getpid()
    if Path(f"/proc/{pid}/task/{pid}/children").exists():
        return _resident_in_linux_tree(pid)
    import psutil

    found = {}
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):  # it ended between being listed and being asked
                found[process.pid] = int(process.memory_info().rss)
    return found


def _resident_in_linux_tree(pid: int) -> dict[int, int]:
    """The same from the kernel's own lists of children: others look at every process of the machine for them,
    1.2 ms where there are a hundred, twenty times a second."""
    found: dict[int, int] = {}
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        process = f"/proc/{one}"
        try:
            found[one] = int(_read(f"{process}/statm").split()[1]) * _PAGE_BYTES
            threads = os.listdir(f"{process}/task")
        except (OSError, IndexError):
            continue  # it ended between being listed and being asked
        for thread in threads:
            with contextlib.suppress(OSError):
                waiting += map(int, _read(f"{process}/task/{thread}/children").split())
    return found


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
