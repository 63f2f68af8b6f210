"""A clock for looks at the landing zone, that only runs while somebody could have looked.

Quiet is what did not change while the looker's machine was awake. The wall clock says more than that: when it
is put forward (NTP, a person), or a laptop wakes up, an hour passes at once, and what is in the middle of
being copied would count as quiet. So this clock goes by the time that the machine was running, and follows
the wall clock, from which it starts, only slowly.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from radiobject_assets.system.durable_files import write_whole

_UNKNOWN_S: Final = 60.0
"""Of the time in which the machine was started anew no more than this is counted."""
_CATCHES_UP: Final = 0.1
"""Share by which it may run faster or slower until it shows what the wall clock does."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class _Last:
    steady_s: float
    wall_s: float
    awake_s: float
    boot: str


@dataclass(frozen=True)
class SteadyClock:
    """Seconds since the epoch, roughly, that never jump; kept in a file from one process to the next.

    path
        The file. Without it (lost, damaged) the clock shows what the wall clock does.
    wall
        Seconds since the epoch.
    awake
        Seconds of this start of the machine, one clock for all processes, without the time in which it slept
        (CLOCK_MONOTONIC).
    boot
        What tells starts of machines apart.
    """

    path: Path
    wall: Callable[[], float] = time.time
    awake: Callable[[], float] = time.monotonic
    boot: Callable[[], str] = lambda: _BOOT.read_text().strip() if _BOOT.is_file() else ""

    def __call__(self) -> float:
        """What it shows now."""
        wall_s, awake_s, boot = self.wall(), self.awake(), self.boot()
        last = self._last()
        steady_s = wall_s if last is None else _shown(last, wall_s, awake_s, boot)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps(asdict(_Last(steady_s, wall_s, awake_s, boot))))
        return steady_s

    def _last(self) -> _Last | None:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            steady_s, wall_s, awake_s = (float(found[name]) for name in ("steady_s", "wall_s", "awake_s"))
            return _Last(steady_s, wall_s, awake_s, str(found["boot"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None


def _shown(last: _Last, wall_s: float, awake_s: float, boot: str) -> float:
    if boot == last.boot and awake_s >= last.awake_s:
        elapsed_s = awake_s - last.awake_s
    else:
        elapsed_s = min(max(0.0, wall_s - last.wall_s), _UNKNOWN_S)
    behind_s = wall_s - (last.steady_s + elapsed_s)
    most_s = _CATCHES_UP * elapsed_s
    # never more than the wall's: files that are written now would look old
    return min(wall_s, last.steady_s + elapsed_s + min(max(behind_s, -most_s), most_s))
