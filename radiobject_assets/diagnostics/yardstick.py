"""Reading compared with the machine, minute by minute: what a plain file and a copy in memory take.

Milliseconds differ between machines, and on one between a quiet and a busy hour. So what reading a patch
takes is told as a multiple of what reading and copying as many bytes of a plain file takes at the same time;
that ratio stays where it is while store, disks and network are as they were, and is judged by its own past.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Sequence

from radiobject_assets.system.temporary import temporary_folder

ENOUGH = 8
"""Measurements that make a history: fewer say nothing."""
KEPT = 100
_REPEATS = 9
# What is less is the noise of shared machines, whose processes take turns in the middle of a read.
_LEAST_FACTOR = 4.0
_SPREADS = 5.0


def plain_read_ms(nbytes: int) -> float:
    """Median time to read a file of so many bytes, which was written just now, and to copy it in memory."""
    with temporary_folder() as place:
        file = place / "yardstick"
        file.write_bytes(os.urandom(nbytes))
        taken = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            bytearray(file.read_bytes())
            taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


def usual_factor(history: Sequence[float], ratio: float) -> float | None:
    """How many times its usual value a ratio is, if that is more than its past explains; else None.

    The past is its median and its spread (median of distances, of logarithms, since noise multiplies).

    Parameters
    ----------
    history
        Earlier ratios; fewer than `ENOUGH` explain everything.
    """
    if len(history) < ENOUGH or ratio <= 0:
        return None
    logs = [math.log(one) for one in history if one > 0]
    usual = statistics.median(logs)
    spread = 1.4826 * statistics.median(abs(one - usual) for one in logs)
    distance = math.log(ratio) - usual
    return math.exp(distance) if distance > max(math.log(_LEAST_FACTOR), _SPREADS * spread) else None
