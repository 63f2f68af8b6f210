"""What a process may count on: the cores that are its own, and being told in a child that it was forked."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath

_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Processor cores that this process may use, at least 1.

    Those that its affinity names (`taskset`, a batch system), and no more than its control group's limit
    (`docker --cpus`, a limit of Kubernetes), rounded up, gives it time for.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(cores, _own_limit()))


@cache
def _own_limit() -> float:
    try:
        return cpu_limit(_OWN_GROUPS.read_text(), _GROUPS)
    except OSError:
        return math.inf  # not Linux


def cpu_limit(own_groups: str, mounted: Path) -> float:
    """Cores' worth of time that a process's control groups allow it; infinity where nothing limits it.

    Parameters
    ----------
    own_groups
        What /proc/self/cgroup says.
    mounted
        Where the control groups are mounted: both generations are understood.
    """
    limits = [math.inf]
    for folder, is_unified in groups_with("cpu", own_groups, mounted):
        names = ("cpu.max",) if is_unified else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        limits.append(_limit_of(*(folder / name for name in names)))
    return min(limits)


def groups_with(controller: str, own_groups: str, mounted: Path) -> Iterator[tuple[Path, bool]]:
    """Folders of the control groups that a process is in, and of those above, which may limit something.

    Parameters
    ----------
    controller
        What is limited: `cpu`, `memory`.
    own_groups, mounted
        As of `cpu_limit`.

    Yields
    ------
    Each folder, and whether it is of the second generation (unified).
    """
    for line in own_groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # In a container the path may be the host's, of which only the root is mounted.
        inside = PurePosixPath(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            yield (mounted / controller if controllers else mounted) / folder, not controllers


def _limit_of(*files: Path) -> float:
    """Quota by period, in microseconds, that stand in one file or two; a quota of `max` or -1 is none."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def after_fork(call: Callable[[], None]) -> None:
    """Have `call` made in every child that this process forks, before anything else of the child runs.

    For what a child may not share with its parent: locks that a thread of the parent may hold, threads that
    stayed there, connections, TileDB's contexts. Calls are made in the order in which they were registered.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)
