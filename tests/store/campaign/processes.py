"""Child processes as the campaign holds them: started fresh, listened to, stopped and killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tests.store.campaign.operations import Operation
from tests.store.campaign.questions import Plan, answer
from tests.store.campaign.worker import Setting, observe, work

_CONTEXT = multiprocessing.get_context("forkserver")
PROJECT = Path(__file__).parents[3]


def warm_up() -> None:
    """Let the server of forks import everything once; a child then starts in a few milliseconds."""
    _CONTEXT.set_forkserver_preload(["tests.store.campaign.preloaded"])


def faketime_library() -> str | None:
    """The library that sets a program's clock (package libfaketime), where it is installed."""
    with contextlib.suppress(ImportError, OSError):
        import libfaketime

        for path in Path(libfaketime.__file__).parent.rglob("libfaketime.so.1"):
            return str(path)
    return None


@dataclass
class Told:
    """What a child told of one operation."""

    began: float
    ended: float | None = None
    outcome: str = "unknown"
    """`done`, `error`, or `unknown` where the child told no more."""
    result: Any = None
    error: tuple[list[str], str, str] | None = None


@dataclass
class Child:
    """One process with its program."""

    name: str
    operations: Sequence[Operation]
    process: Any
    channel: Connection
    told: list[Told] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    finished: bool = False
    """It told that it is through with its program."""
    gone: bool = False
    killed: bool = False
    """By the campaign."""
    stopped: bool = False
    clock: str | None = None

    @property
    def pid(self) -> int:
        """Its number."""
        return int(self.process.pid)

    def signal(self, number: int) -> None:
        """Send a signal, if it still lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        self.killed |= number == signal.SIGKILL
        self.stopped = number == signal.SIGSTOP or (self.stopped and number != signal.SIGCONT)

    def hear(self) -> list[str]:
        """Take in what it told since; returns one line for each message, for the journal."""
        lines = []
        try:
            while self.channel.poll():
                lines.append(self._take(self.channel.recv()))
        except (EOFError, OSError, pickle.UnpicklingError):
            self.gone = True
        return lines

    def _take(self, message: tuple[Any, ...]) -> str:
        match message:
            case ("begin", int(), float(moment)):
                self.told.append(Told(moment))
            case ("note", int(), float(), str(text)):
                self.notes.append(text)
            case ("done", int(number), float(moment), result):
                told = self.told[number]
                told.ended, told.outcome, told.result = moment, "done", result
            case ("error", int(number), float(moment), names, text, trace):
                told = self.told[number]
                told.ended, told.outcome, told.error = moment, "error", (names, text, trace)
            case ("end",):
                self.finished = True
        number = message[1] if len(message) > 1 else len(self.operations) - 1
        text = f"{self.name} {message[0]} {number}"
        if message[0] == "begin" and number < len(self.operations):
            text += f": {self.operations[number]}"
        if message[0] == "note":
            text += f": {message[3]}"
        if message[0] == "error":
            text += f": {message[3][0]}: {message[4][:300]}"
        return text

    def ended_by(self) -> int | None:
        """The signal that ended it, where one did; None while it lives or where it ended by itself."""
        if isinstance(self.process, subprocess.Popen):
            code = self.process.poll()
        else:
            self.process.join(0.2)
            code = self.process.exitcode
        return -code if code is not None and code < 0 else None

    def close(self) -> None:
        """End it and give back what it held."""
        if isinstance(self.process, subprocess.Popen):
            self.process.kill()
            self.process.wait()
        elif self.process.is_alive():
            self.process.kill()
            self.process.join()
        else:
            self.process.join()
        self.channel.close()


def start(name: str, setting: Setting, operations: Sequence[Operation], clock: str | None = None) -> Child:
    """A child that begins with its program at once; with `clock` (as `-3h`) its clock is set back."""
    ours, theirs = multiprocessing.Pipe()
    process: Any
    if clock is None:
        process = _CONTEXT.Process(target=work, args=(theirs, setting, operations), daemon=True)
        process.start()
    else:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        environment |= {"LD_PRELOAD": str(faketime_library()), "FAKETIME": clock, "DONT_FAKE_MONOTONIC": "1"}
        command = [sys.executable, "-m", "tests.store.campaign.worker", str(theirs.fileno())]
        process = subprocess.Popen(
            command, env=environment, pass_fds=[theirs.fileno()], cwd=PROJECT, stdin=subprocess.DEVNULL
        )
        ours.send((setting, operations))
    theirs.close()
    return Child(
        name, operations, process, ours, clock=clock or (str(setting.clock_s) if setting.clock_s else None)
    )


def start_observer(setting: Setting) -> Child:
    """A child that reads everything."""
    ours, theirs = multiprocessing.Pipe()
    process = _CONTEXT.Process(target=observe, args=(theirs, setting), daemon=True)
    process.start()
    theirs.close()
    return Child("observer", [], process, ours)


def start_asking(setting: Setting, plan: Plan | None) -> Child:
    """A child that puts the questions of a plan, or makes one."""
    ours, theirs = multiprocessing.Pipe()
    process = _CONTEXT.Process(target=answer, args=(theirs, setting, plan), daemon=True)
    process.start()
    theirs.close()
    return Child("asking", [], process, ours)


def listen(children: Sequence[Child], seconds: float) -> list[str]:
    """Wait until a child tells something, or ends, or the time is over; returns lines for the journal."""
    open_ones = [child for child in children if not child.gone and not child.finished]
    if not open_ones:
        time.sleep(min(seconds, 0.01))
        return []
    ready = wait([child.channel for child in open_ones], max(0.0, seconds))
    lines = []
    for child in open_ones:
        if child.channel in ready:
            lines += child.hear()
    return lines
