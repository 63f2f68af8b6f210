"""One worker process as its parent has it: start, tasks out, answers in, limits, end.

The process is a program of its own, not a fork: it holds nothing of ours, starts in 0.1 s, and needs no
`if __name__ == "__main__"` in the user's script. (A TileDB context made before a fork hangs in the child.)
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import FileIO
from typing import Any, Literal, TypeVar, cast

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.system.memory import MB
from radiobject_assets.workers.channel import Channel
from radiobject_assets.workers.memory_use import memory_use

Answer = TypeVar("Answer")
Fill = Callable[[memoryview], None]
"""Fills a buffer of the answer's size with its bytes."""

# What a task may hold above its declaration: allocator slack, codec scratch, TileDB's thread stacks.
SLACK_BYTES = 192 * MB
# A task is with a process before it has answered the last one, so that it never waits for its parent.
_TASKS_AHEAD = 2
_START_TIMEOUT_S = 120.0
_LOOK_S = 0.1
# What does not end when it is asked to is ended by force after this time.
_GRACE_S = 2.0


@dataclass(frozen=True)
class Limits:
    """What one task may take.

    memory_bytes
        Resident memory beyond what its process held before: measured, and who takes `SLACK_BYTES` more is
        ended.
    seconds
        Time until its answer.
    refuses_memory
        Whether the system also refuses what the task asks for far beyond that, before any of it is used: for
        codecs, which bad data lets ask for anything. Not for code with threads, whose stacks and arenas are
        addresses without being memory.
    """

    memory_bytes: int
    seconds: float
    refuses_memory: bool = False


class LostError(Exception):
    """A process is of no use any more: it died, hangs, or took too much memory."""

    def __init__(self, why: Literal["died", "hangs", "memory"], detail: str) -> None:
        super().__init__(detail)
        self.why = why


class WorkerStartError(ConfigurationError):
    """No worker process can be started: no task is to blame."""


class WorkerProcess:
    """One worker process and what leads to it; used by one thread at a time.

    Parameters
    ----------
    function
        `module:name` of a `serving.Answering`, which the process imports.
    environment
        Variables of its environment beside ours.
    """

    def __init__(self, function: str, environment: Mapping[str, str]) -> None:
        module, name = function.split(":")
        places = [place for place in sys.path if isinstance(place, str)]  # Python passes over others, as Path
        program = (
            f"import sys; sys.path[:] = {places!r}\n"
            "from radiobject_assets.workers.serving import main\n"
            f"from {module} import {name}\n"
            f"main({name})"
        )
        self._memory: list[int] = []
        self._lifeline = -1
        try:
            theirs, self._lifeline = os.pipe()
            try:
                self._memory += _files_in_memory(_TASKS_AHEAD)
                descriptors = [theirs, *self._memory]
                self._process = subprocess.Popen(
                    [sys.executable, "-c", program, *map(str, descriptors)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,  # what codecs print may quote header values: patients' names
                    bufsize=0,
                    pass_fds=descriptors,
                    # numpy would start threads, for nothing
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
                    start_new_session=True,  # Ctrl-C is for the parent, who decides what to finish
                )
            finally:
                os.close(theirs)
        except OSError as error:
            self._close()
            raise WorkerStartError(f"a worker process cannot be started: {error.strerror}") from error
        self._pipes = cast("tuple[FileIO, FileIO]", (self._process.stdin, self._process.stdout))
        self._channel = Channel(self._pipes[1].fileno(), self._pipes[0].fileno(), self._memory)
        self._ready = False
        self._stopped = False
        self._resident = 0
        self._sent = 0
        self._unsent = ""
        self._under_way: deque[tuple[int, Limits]] = deque()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    @property
    def tasks_at_once(self) -> int:
        """Tasks that may be with the process before the first of them is answered."""
        return max(1, len(self._memory))

    def wait_until_ready(self) -> None:
        """Wait until the process can take a task; LostError if it does not start."""
        if not self._ready:
            document, _, _ = self._answer(None, _START_TIMEOUT_S)
            self._resident = int(document.get("resident", 0))
            self._ready = True

    def send(self, data: bytes | memoryview, limits: Limits) -> None:
        """Give the process a task, before `tasks_at_once` wait to be answered; LostError if it is gone.

        Where one task could not be sent no other is, so that no answer can be taken for that of another.
        """
        if self._unsent:
            raise LostError("died", self._unsent)
        task = {"task": self._sent, "addresses": limits.memory_bytes if limits.refuses_memory else None}
        try:
            self._channel.send(task, data, self._sent % self.tasks_at_once)
        except OSError as error:
            gone = isinstance(error, BrokenPipeError)
            self._unsent = self._ending() if gone else f"a task that cannot be sent: {error.strerror}"
            raise LostError("died", self._unsent) from error
        self._under_way.append((self._sent, limits))
        self._sent += 1

    def receive(self, read: Callable[[dict[str, Any], int, Fill], Answer]) -> Answer:
        """What `read` makes of the answer to the earliest task that was sent and not received.

        `read` gets the answer's document, the number of its bytes, and what fills a buffer with them.

        Raises
        ------
        LostError
            The process is of no use any more.
        """
        if not self._under_way:
            raise LostError("died", self._unsent or "nothing to answer")
        number, limits = self._under_way[0]
        document, length, slot = self._answer(limits, limits.seconds)
        self._under_way.popleft()
        if document.get("task") != number or slot != number % self.tasks_at_once:
            raise LostError("died", "an answer to another task")
        self._resident = int(document.get("resident", 0))

        def fill(target: memoryview) -> None:
            try:
                self._channel.read_into(target, slot)
            except (EOFError, OSError) as error:
                raise LostError("died", self._ending()) from error

        return read(document, length, fill)

    def _answer(self, limits: Limits | None, timeout_s: float) -> tuple[dict[str, Any], int, int]:
        poll = select.poll()
        poll.register(self._pipes[1].fileno(), select.POLLIN)
        until = time.monotonic() + timeout_s
        while not poll.poll(max(0.0, min(until - time.monotonic(), _LOOK_S)) * 1000):
            if self._stopped:
                raise LostError("died", "being stopped")
            if time.monotonic() >= until:
                raise LostError("hangs", f"{timeout_s:g} s")
            if limits is not None:
                self._look_at_memory(limits)
        try:
            return self._channel.receive()
        except (EOFError, OSError) as error:
            raise LostError("died", self._ending()) from error

    def _look_at_memory(self, limits: Limits) -> None:
        taken = memory_use(self.pid).resident_bytes - self._resident
        if taken > limits.memory_bytes + SLACK_BYTES:
            self._signal(signal.SIGKILL)
            raise LostError(
                "memory", f"took {taken // MB} MB, and {limits.memory_bytes // MB} MB were declared"
            )

    def _ending(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"exit code {self._process.wait(5)}"
        return "its pipes closed"

    def stop(self) -> None:
        """Ask the process to end: from any thread; the one that uses it finds it gone."""
        self._stopped = True
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and all that it has started, and close what leads to it.

        A second call does nothing.
        """
        if self._lifeline < 0:
            return
        self.stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self.forget()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses it for a zombie
            os.killpg(self.pid, number)

    def forget(self) -> None:
        """Close what leads to the process: in a fork of the parent, to whom the process belongs."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        self._close()

    def _close(self) -> None:
        for descriptor in (*self._memory, self._lifeline):
            if descriptor >= 0:
                os.close(descriptor)
        self._memory, self._lifeline = [], -1


def _files_in_memory(count: int) -> list[int]:
    if not hasattr(os, "memfd_create"):  # not Linux
        return []
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
        return []  # it holds for these files too, and tasks may be larger
    return [os.memfd_create("task") for _ in range(count)]
