"""What happens in the child and its workers, a line for each event, written before it happens.

A process that dies without a word has said what it was about to do. All processes append to one file, each
line by one write, so that lines never mix.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JOURNAL = "journal.jsonl"
STACKS = "stacks"


class ChildJournal:
    """Appends events to a folder's journal; its files are opened at once, for a time when none can be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle = os.open(folder / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, event: str, **facts: Any) -> None:
        """Write one event with its time and process."""
        line = json.dumps({"t": round(time.monotonic(), 4), "pid": os.getpid(), "event": event, **facts})
        os.write(self._handle, line.encode("utf-8", "backslashreplace") + b"\n")


class _Here:
    """The journal of this process: every process of a trial has one, and one file for its stacks."""

    journal: ChildJournal | None = None
    stacks: io.TextIOWrapper | None = None
    pid = 0


def watch_this_process(folder: Path) -> ChildJournal:
    """Begin, in the process that calls it, to write its journal, and its stacks at a crash or when asked.

    In a forked process call it again: the stacks go to a file of its own.
    """
    if _Here.journal is None or _Here.journal.folder != folder:
        _Here.journal = ChildJournal(folder)
    if _Here.pid != os.getpid():
        _Here.pid = os.getpid()
        _Here.stacks = (folder / f"{STACKS}-{os.getpid()}.txt").open("w", encoding="utf-8")
    if _Here.stacks is not None:
        faulthandler.enable(_Here.stacks, all_threads=True)
        if hasattr(faulthandler, "register"):
            faulthandler.register(signal.SIGUSR1, _Here.stacks, all_threads=True)
    return _Here.journal


def here() -> ChildJournal:
    """The journal of this process."""
    if _Here.journal is None:
        raise RuntimeError("watch_this_process was not called in this process")
    return _Here.journal


def new_events(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Whole lines after `offset`, and where the next ones begin."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offset)
        read = file.read()
        whole = read[: read.rfind(b"\n") + 1]
        return list(_parsed(whole)), offset + len(whole)
    return [], offset


def _parsed(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in lines.splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)
