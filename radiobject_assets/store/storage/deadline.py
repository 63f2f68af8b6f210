"""Calls with an end: a server that is silent, trickles or asks to slow down for ever is given up in time.

Timeouts of sockets bound the silence between two bytes, not a call. So what touches a server runs on daemon
threads, and its caller waits for as long as `S3Config.deadline_s` says, and a second more for each MB.
A call that was given up finds that out before its next request; until then its thread waits in the
background, where it keeps nobody from ending.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from radiobject_assets.store.storage.config import MB

T = TypeVar("T")

# A deadline is for a server that does not answer, not for a slow line.
S_PER_MB = 1.0


class GivenUpError(Exception):
    """The time of a call is up; internal to this package."""


class Deadline:
    """The end of a call; it moves with what the call turns out to move."""

    def __init__(self, seconds: float, nbytes: int = 0) -> None:
        self.seconds = seconds + nbytes / MB * S_PER_MB
        self._began = time.monotonic()
        self._given_up = False

    def extend(self, nbytes: int) -> None:
        """Allow for so many bytes more."""
        self.seconds += nbytes / MB * S_PER_MB

    def left(self) -> float:
        """Seconds from now; 0 when the time is up."""
        return 0.0 if self._given_up else max(0.0, self._began + self.seconds - time.monotonic())

    def give_up(self) -> None:
        """The caller waits no longer."""
        self._given_up = True

    def check(self) -> None:
        """Raise `GivenUpError` if the time is up."""
        if not self.left():
            raise GivenUpError

    def sleep(self, seconds: float) -> None:
        """Wait before another try, unless the time is up before that."""
        if seconds >= self.left():
            time.sleep(self.left())
            raise GivenUpError
        time.sleep(seconds)


class _Calls(Generic[T]):
    """Calls that some threads share, and their results."""

    def __init__(self, calls: Sequence[Callable[[], T]]) -> None:
        self._calls = calls
        self._change = threading.Condition()
        self._next = 0
        self._results: dict[int, T] = {}
        self._error: BaseException | None = None

    def work(self) -> None:
        while True:
            with self._change:
                number = self._next
                if self._error is not None or number >= len(self._calls):
                    return
                self._next += 1
            try:
                result = self._calls[number]()
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                with self._change:
                    self._error = self._error or error
                    self._change.notify_all()
                return
            with self._change:
                self._results[number] = result
                if len(self._results) == len(self._calls):
                    self._change.notify_all()

    def stop(self) -> None:
        with self._change:
            self._next = len(self._calls)

    def results(self, deadline: Deadline) -> list[T]:
        with self._change:
            while self._error is None and len(self._results) < len(self._calls):
                if not deadline.left():
                    raise GivenUpError
                self._change.wait(deadline.left())
            if self._error is not None:
                raise self._error
            return [self._results[number] for number in range(len(self._calls))]


def in_time(calls: Sequence[Callable[[], T]], deadline: Deadline, parallel: int = 1) -> list[T]:
    """The results of all calls, so many at once; the first error ends it.

    Raises
    ------
    GivenUpError
        The deadline passed before.
    """
    shared = _Calls(calls)
    try:
        for _ in range(min(parallel, len(calls))):
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(shared.work,), daemon=True).start()
        return shared.results(deadline)
    except BaseException:
        deadline.give_up()
        raise
    finally:
        shared.stop()
