"""The worker processes of one function: taken for work, given back, and ended when nobody wants them.

To start one takes longer than to decode a small series, so that the next call finds those of the last. They
end after half a minute without work, with this process however it ends, and they are never used in a fork of
it.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Mapping
from weakref import WeakSet

from radiobject_assets.system.processes import after_fork
from radiobject_assets.workers.process import WorkerProcess

IDLE_S = 30.0


class Processes:
    """Processes at work and processes that wait; for any number of threads.

    Parameters
    ----------
    function, environment
        Of `WorkerProcess`.
    idle_s
        Seconds without work after which a process is ended.
    """

    def __init__(
        self, function: str, environment: Mapping[str, str] | None = None, idle_s: float = IDLE_S
    ) -> None:
        self._function = function
        self._environment = environment or {}
        self._idle_s = idle_s
        self._begin()
        _everyones.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._all: set[WorkerProcess] = set()
        self._idle: deque[tuple[float, WorkerProcess]] = deque()  # since when, the earliest first
        self._timer: threading.Timer | None = None

    @property
    def idle_pids(self) -> list[int]:
        """Ids of the processes that wait."""
        with self._lock:
            return [process.pid for _, process in self._idle]

    def start(self, count: int) -> None:
        """Start processes until `count` wait; ConfigurationError if one cannot be started."""
        for _ in range(count - len(self.idle_pids)):
            self.give(self._new())

    def take(self) -> WorkerProcess:
        """A process that waits or, if none does, a new one: it may still be starting."""
        while True:
            with self._lock:
                process = self._idle.pop()[1] if self._idle else None
            if process is None:
                return self._new()
            if not process.ended:
                return process
            self.drop(process)  # something else has ended it

    def give(self, process: WorkerProcess) -> None:
        """Take back a process that is well and has no task."""
        with self._lock:
            self._idle.append((time.monotonic(), process))
            self._watch(self._idle_s)

    def drop(self, process: WorkerProcess) -> None:
        """End a process."""
        process.kill()
        with self._lock:
            self._all.discard(process)

    def end_idle(self, for_s: float = 0.0, leave: int = 0) -> None:
        """End the processes that wait for `for_s` seconds or longer, but for the `leave` latest."""
        until = time.monotonic() - for_s
        ended = []
        with self._lock:
            while len(self._idle) > leave and self._idle[0][0] <= until:
                ended.append(self._idle.popleft()[1])
        for process in ended:
            process.stop()  # all of them at once, then wait for each
        for process in ended:
            self.drop(process)

    def end(self) -> None:
        """End the processes that wait, and stop those at work."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
        self.end_idle()
        with self._lock:
            at_work = list(self._all)
        for process in at_work:
            process.stop()

    def forget(self) -> None:
        """In a fork: let go of what belongs to the parent."""
        # without the lock, which a thread that is not here may hold
        for process in self._all:
            process.forget()
        self._begin()

    def _new(self) -> WorkerProcess:
        process = WorkerProcess(self._function, self._environment)
        with self._lock:
            self._all.add(process)
        return process

    def _watch(self, after_s: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(after_s, self._look)
            self._timer.daemon = True
            self._timer.start()

    def _look(self) -> None:
        self.end_idle(self._idle_s)
        with self._lock:
            self._timer = None
            if self._idle:
                self._watch(max(0.0, self._idle[0][0] + self._idle_s - time.monotonic()))


_everyones: WeakSet[Processes] = WeakSet()


def _forget_all() -> None:
    for processes in list(_everyones):
        processes.forget()


def _end_all() -> None:
    for processes in list(_everyones):
        processes.end()


after_fork(_forget_all)
atexit.register(_end_all)
