"""The sign of life that a run gives, so that one whose machine has died does not count as running for ever.

Dagster's own monitoring asks the code server whether a run's process lives; where the server died with it,
nobody answers. So each run says by itself, every few seconds and in its own record, that it is alive.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

HEART_TAG = "radiobject/heartbeat"
"""Tag of a run: which process it is in, and how often that has given a sign of life."""
BEAT_S = 10.0

_ENDED = "ended"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Heartbeat:
    """One sign of life."""

    machine: str
    """Token of the machine (since it was booted) and of its processes' name space."""
    pid: int
    started: str
    """When the process began: a process id is given again."""
    number: int

    @classmethod
    def of_this_process(cls, number: int = 0) -> Heartbeat:
        """The sign that this process gives."""
        return cls(_machine(), os.getpid(), _started(os.getpid()), number)

    @classmethod
    def parse(cls, text: str) -> Heartbeat | None:
        """The sign of life that a tag holds; None if it is none."""
        with suppress(ValueError):
            machine, pid, started, number = text.split(" ")
            return cls(machine, int(pid), started, int(number))
        return None

    def __str__(self) -> str:
        return f"{self.machine} {self.pid} {self.started} {self.number}"

    @property
    def has_died(self) -> bool:
        """Whether the process is known to be gone: only of processes of this machine can that be said."""
        return self.machine == _machine() and self.started != _started(self.pid)


class RunHeart:
    """A thread that gives signs of life for a run until it is stopped."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self._instance, self._run_id = instance, run_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="run-heart", daemon=True)
        self._give(0)
        self._thread.start()

    def stop(self) -> None:
        """Give no more signs."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        number = 0
        while not self._stop.wait(BEAT_S):
            number += 1
            self._give(number)

    def _give(self, number: int) -> None:
        try:
            self._instance.add_run_tags(self._run_id, {HEART_TAG: str(Heartbeat.of_this_process(number))})
        except Exception as error:  # noqa: BLE001 - the work goes on; the next sign may come through
            _log.warning("a run could not give a sign of life: %s", type(error).__name__)


def _machine() -> str:
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with suppress(OSError):
            place = Path(path)
            parts.append(os.readlink(place) if place.is_symlink() else place.read_text(encoding="ascii"))
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=6).hexdigest()


def _started(pid: int) -> str:
    # Linux counts ticks since boot; psutil adds the boot time, which moves when the clock is set
    with suppress(OSError):
        name_and_rest = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        state, *numbers = name_and_rest.rpartition(")")[2].split()
        return _ENDED if state in "ZX" else numbers[18]
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.0f}"
    except psutil.Error:
        return _ENDED
