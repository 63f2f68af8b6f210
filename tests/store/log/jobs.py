"""Jobs in processes of their own that a signal ends, or stops, just before a call that changes the disk."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

_FRESH = multiprocessing.get_context("forkserver")
_FRESH.set_forkserver_preload(["tests.store.log.stores"])

Job = Callable[..., Any]
_CHANGES = frozenset(["os.link", "os.remove", "os.rename", "os.mkdir", "os.rmdir"])
_TMPFILE = getattr(os, "O_TMPFILE", 0)


def _changed_path(event: str, args: tuple[Any, ...]) -> str | None:
    """What a call is about to change, as the interpreter announces it; None where it changes nothing."""
    if event == "open" and isinstance(args[0], str) and isinstance(args[2], int):
        unnamed = bool(_TMPFILE) and args[2] & _TMPFILE == _TMPFILE
        return args[0] if unnamed or args[2] & (os.O_CREAT | os.O_TRUNC) else None
    if event in ("os.link", "os.rename"):
        return str(args[1])
    return str(args[0]) if event in _CHANGES else None


def _signal_at(number: int, where: str, signal_number: int, tell: Callable[[], None]) -> None:
    """Send this process a signal just before its `number`-th change of a path that contains `where`."""
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        path = _changed_path(event, args)
        if path is None or where not in path or seen >= number:
            return
        seen += 1
        if seen == number:
            tell()
            os.kill(os.getpid(), signal_number)

    sys.addaudithook(hook)


def _run(
    job: Job, args: tuple[Any, ...], at: tuple[int, str, int] | None, answers: Connection, go: Connection
) -> None:
    if at is not None:
        _signal_at(*at, lambda: answers.send(("signal", None)))
    answers.send(("ready", None))
    go.recv()
    try:
        answers.send(("done", job(*args)))
    except Exception as error:  # noqa: BLE001 - whatever it is, the test is to see it
        answers.send(("failed", error))


class Process:
    """A job that is under way."""

    def __init__(self, job: Job, args: tuple[Any, ...], at: tuple[int, str, int] | None) -> None:
        self._answers, theirs = _FRESH.Pipe()
        go, self._go = _FRESH.Pipe()
        self._process = _FRESH.Process(target=_run, args=(job, args, at, theirs, go), daemon=True)
        self._process.start()
        theirs.close()
        assert self._answer()[0] == "ready"

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    def begin(self) -> None:
        """Let it work."""
        self._go.send(None)

    def _answer(self) -> tuple[str, Any]:
        assert self._answers.poll(100), "a job had no end"
        answer: tuple[str, Any] = self._answers.recv()
        return answer

    def wait_until_stopped(self) -> None:
        """Wait for its signal, and until it is stopped."""
        assert self._answer()[0] == "signal"
        while _state_of(self._process.pid) != "T":
            time.sleep(0.002)

    def go_on(self) -> None:
        """Let a stopped process work on."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def result(self) -> Any:
        """What the job gave; an error of its own is raised here.

        Raises
        ------
        EOFError
            The process was killed.
        """
        what, value = self._answer()
        while what == "signal":
            what, value = self._answer()
        if what == "failed":
            raise value
        return value

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.join()


def _state_of(pid: int | None) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


@contextmanager
def started(job: Job, *args: Any, at: tuple[int, str, int] | None = None) -> Iterator[Process]:
    """A job under way; it is ended with the block."""
    process = Process(job, args, at)
    try:
        process.begin()
        yield process
    finally:
        process.end()


def stopped(job: Job, *args: Any, number: int = 1, where: str = "") -> Any:
    """A job that is stopped before the `number`-th change of a path with `where`; for `started`'s uses."""
    return _stopped(job, args, (number, where, signal.SIGSTOP))


@contextmanager
def _stopped(job: Job, args: tuple[Any, ...], at: tuple[int, str, int]) -> Iterator[Process]:
    with started(job, *args, at=at) as process:
        process.wait_until_stopped()
        yield process


def killed(job: Job, *args: Any, number: int, where: str = "") -> bool:
    """Do a job and kill it before its `number`-th change of a path with `where`; whether it came to that."""
    with started(job, *args, at=(number, where, signal.SIGKILL)) as process:
        try:
            process.result()
        except EOFError:
            return True
        return False


def together(*jobs: tuple[Any, ...]) -> list[Any]:
    """Do jobs `(function, *arguments)` at once, each in a process; what they gave."""
    processes = [Process(job, args, None) for job, *args in jobs]  # type: ignore[arg-type]  # lists will do
    try:
        for process in processes:
            process.begin()
        return [process.result() for process in processes]
    finally:
        for process in processes:
            process.end()
