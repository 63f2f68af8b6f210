"""The decoder processes of this process: taken for work, given back, and ended when nobody wants them.

To start one takes longer than to decode a small series, so that the next call finds those of the last. They
end after half a minute without work, with this process however it ends (their stdin does), and they are
never used in a fork of it.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque

from radiobject_assets.imaging.pixels.decoder_handle import DecoderHandle
from radiobject_assets.system.processes import after_fork

IDLE_S = 30.0


class Keeper:
    """Processes at work and processes that wait; for any number of threads.

    Parameters
    ----------
    idle_s
        Seconds without work after which a process is ended.
    """

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._all: set[DecoderHandle] = set()
        self._idle: deque[tuple[float, DecoderHandle]] = deque()  # since when, the earliest first
        self._timer: threading.Timer | None = None

    @property
    def idle_pids(self) -> list[int]:
        """Ids of the processes that wait."""
        with self._lock:
            return [handle.pid for _, handle in self._idle]

    def start(self, count: int) -> None:
        """Start processes until `count` wait; ConfigurationError if one cannot be started."""
        for _ in range(count - len(self.idle_pids)):
            self.give(self._new())

    def take(self) -> DecoderHandle:
        """A process that waits or, if none does, a new one: it may still be starting."""
        while True:
            with self._lock:
                handle = self._idle.pop()[1] if self._idle else None
            if handle is None:
                return self._new()
            if not handle.ended:
                return handle
            self.drop(handle)  # something else has ended it

    def give(self, handle: DecoderHandle) -> None:
        """Take back a process that is well and has no frame."""
        with self._lock:
            self._idle.append((time.monotonic(), handle))
            self._watch(self._idle_s)

    def drop(self, handle: DecoderHandle) -> None:
        """End a process."""
        handle.kill()
        with self._lock:
            self._all.discard(handle)

    def end_idle(self, for_s: float = 0.0, leave: int = 0) -> None:
        """End the processes that wait for `for_s` seconds or longer, but for the `leave` latest."""
        until = time.monotonic() - for_s
        ended = []
        with self._lock:
            while len(self._idle) > leave and self._idle[0][0] <= until:
                ended.append(self._idle.popleft()[1])
        for handle in ended:
            handle.stop()  # all of them at once, then wait for each
        for handle in ended:
            self.drop(handle)

    def end(self) -> None:
        """End all processes, at work or not."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
        self.end_idle()
        with self._lock:
            at_work = list(self._all)
        for handle in at_work:
            handle.stop()

    def forget(self) -> None:
        """In a fork: let go of what belongs to the parent."""
        # without the lock, which a thread that is not here may hold
        for handle in self._all:
            handle.forget()

    def _new(self) -> DecoderHandle:
        handle = DecoderHandle()
        with self._lock:
            self._all.add(handle)
        return handle

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


_keeper = Keeper()


def keeper() -> Keeper:
    """The one of this process."""
    return _keeper


def end_idle_decoders(leave: int = 0) -> None:
    """End the decoder processes that wait, but for `leave`: their memory is wanted for something else."""
    _keeper.end_idle(leave=leave)


def _let_go() -> None:
    global _keeper
    _keeper.forget()
    _keeper = Keeper()


def _end_all() -> None:
    _keeper.end()


after_fork(_let_go)
atexit.register(_end_all)
