"""Runs a trial in a child process, watches its tree, ends what is silent or takes too much.

The probe itself never imports the user's code: whatever that does, a crash, `os._exit`, a deadlock, the
kernel's killer, happens to the child.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radiobject_assets.probe.child import STORAGE, TRIAL
from radiobject_assets.probe.child_journal import JOURNAL, STACKS, new_events
from radiobject_assets.probe.outcomes import Reading
from radiobject_assets.probe.trial import Ended, Outcome, Trial
from radiobject_assets.system.memory import tree_resident_bytes
from radiobject_assets.system.resource_monitor import ResourceMonitor
from radiobject_assets.system.temporary import temporary_folder

_POLL_S = 0.05
_PROC = Path("/proc")
# For processes to write their stacks in when they are asked to.
_STACKS_S = 1.0
_SAMPLE_S = 0.25
# Of a core: the kernel's killer is not to be quicker than the limit.
_SHARE = 0.1
# Interpreters that start on a busy machine and import large libraries are not silent.
_START_S = 90.0
_MOST_TEXT = 40_000
# Those that remove what others have left in /dev/shm, once these are gone.
_TIDY = (b"resource_tracker", b"torch_shm_manager")
_TIDY_S = 2.0
# What Python's says of that: it is of the probe's making.
_TIDIED = re.compile(r"^.*resource_tracker\.py:\d+: UserWarning: .*\n(?: .*\n?)?", re.M)


@dataclass
class _Watch:
    """What the monitor's thread tells the one that waits."""

    limit_mb: float
    memory_mb: float = 0.0

    def on_memory(self, memory_mb: float) -> None:
        self.memory_mb = memory_mb

    @property
    def is_over(self) -> bool:
        return 0 < self.limit_mb < self.memory_mb


def run_trial(trial: Trial, folder: Path, *, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run one trial in a child process, below `folder`, which stays for whoever wants to look.

    Never takes longer than the trial's limit, the time that it may be silent, and a few seconds.
    """
    folder.mkdir(parents=True)
    (folder / TRIAL).write_text(trial.to_json(), encoding="utf-8")
    if trial.subject.startswith("s3://"):
        from radiobject_assets.store import get_radiobject_config

        content = get_radiobject_config().model_dump_json()
        (folder / STORAGE).write_text(content, encoding="utf-8")
    killed_before = _kernel_kills()
    started = time.monotonic()
    reading = Reading(trial)
    watch = _Watch(trial.memory_mb)
    with (
        (folder / "stdout.txt").open("wb") as out,
        (folder / "stderr.txt").open("wb") as err,
        # not below the folder: paths of sockets have 108 characters
        temporary_folder() as temporary,
    ):
        command = [sys.executable, "-m", "radiobject_assets.probe", str(folder.resolve()), str(temporary)]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        try:
            monitor = ResourceMonitor(child.pid, sample_s=_SAMPLE_S, share=_SHARE, on_memory=watch.on_memory)
            with monitor:
                ended = _wait(child, trial, folder / JOURNAL, reading, watch, started)
        finally:
            _end(child)
    reading.take(new_events(folder / JOURNAL, reading.offset))
    return reading.outcome(
        ended=ended,
        seconds=time.monotonic() - started,
        code=child.returncode,
        stacks=_stacks(folder),
        stderr=_tail(folder / "stderr.txt"),
        samples=monitor.samples,
        peaks=monitor.peaks(),
        kernel_kills=_kernel_kills() - killed_before,
    )


def _wait(
    child: subprocess.Popen[bytes],
    trial: Trial,
    journal: Path,
    reading: Reading,
    watch: _Watch,
    started: float,
) -> Ended | None:
    """Until the child ends, or has to be ended; None where it ended by itself."""
    while True:
        gone = child.poll() is not None
        reading.take(new_events(journal, reading.offset))
        if gone:
            return None
        now = time.monotonic()
        if watch.is_over:
            reading.freeze(now)
            return Ended.MEMORY
        allowed_s = trial.silent_s if reading.has_begun else max(trial.silent_s, _START_S)
        # the second: it goes on, and does not look at the clock
        if reading.silent_s(now, started) > allowed_s or now - started > trial.limit_s + allowed_s:
            reading.freeze(now)
            _ask_for_stacks(child.pid)
            return Ended.SILENT
        time.sleep(_POLL_S)


def _ask_for_stacks(pid: int) -> None:
    for one in tree_resident_bytes(pid):
        if _catches_usr1(one):
            with contextlib.suppress(OSError):
                os.kill(one, signal.SIGUSR1)
    time.sleep(_STACKS_S)


def _catches_usr1(pid: int) -> bool:
    """Whether a process has a handler for it; another one would die of it, with what it knows."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
    return False


def _end(child: subprocess.Popen[bytes]) -> None:
    """End everything that the child started: its session, and who left it but is still below it.

    Who tidies up after the others ends by itself when they are gone, and is waited for.
    """
    left = set(tree_resident_bytes(child.pid)) - {child.pid}
    until = time.monotonic() + _TIDY_S
    while there := _alive(child.pid, left):
        is_late = time.monotonic() > until
        for pid in there:
            if is_late or not _tidies(pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        if is_late:
            break
        time.sleep(_POLL_S)
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    if not _PROC.is_dir():
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    child.wait()


def _alive(session: int, others: set[int]) -> list[int]:
    """Those of a session, and others by number, that still run; none where the system has no /proc."""
    found = []
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):  # it is gone
            # state, parent, group, session
            state = (folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
            if state[0] not in "ZX" and (int(state[3]) == session or int(folder.name) in others):
                found.append(int(folder.name))
    return found


def _tidies(pid: int) -> bool:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return any(name in command for name in _TIDY)
    return False


def _stacks(folder: Path) -> str:
    told = []
    for path in sorted(folder.glob(f"{STACKS}-*.txt")):
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        if text:
            told.append(f"process {path.stem.rpartition('-')[2]}\n{text}")
    return "\n\n".join(told)[:_MOST_TEXT]


def _tail(path: Path) -> str:
    return _TIDIED.sub("", path.read_bytes()[-_MOST_TEXT:].decode("utf-8", "replace"))


def _kernel_kills() -> int:
    """How many processes the kernel has killed for memory on this machine."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def settings_text(told: Mapping[str, Any]) -> str:
    """`workers 2, start method fork`."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())
