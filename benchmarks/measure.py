"""How contenders are run and measured: alternating rounds, time and memory apart, one process each.

A contender is either a function (`InProcess`: called in a process of its own that has already imported
everything and has run once, so a warm call) or a command (`WholeProcess`: everything from start to exit).
Memory is measured in rounds of its own: sampling processes costs time on a small machine.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from radiobject_assets.system.memory import MB

RESULTS = Path(__file__).parent / "results"
_SAMPLE_S = 0.01


class PeakOfTree:
    """Samples the resident memory of a process and its descendants until closed."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._stop = threading.Event()
        self._peak = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            try:
                family = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                return
            total = 0
            for process in family:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue  # it ended between being listed and being asked
            self._peak = max(self._peak, total)

    def close_mb(self) -> float:
        """Stop and give the highest sum seen, MiB."""
        self._stop.set()
        self._thread.join()
        return self._peak / MB


class InProcess:
    """A function called with the output folder, in a warm process of its own."""

    kind = "warm call"

    def __init__(self, name: str, call: Callable[[Path], None]) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, call), name=name)
        self._process.start()
        far_end.close()

    def time(self, out: Path) -> float:
        """Seconds of one call, measured inside the process."""
        self._pipe.send(out)
        error, seconds = self._pipe.recv()
        if error:
            raise RuntimeError(f"{self.name}: {error}")
        return float(seconds)

    def peak_mb(self, out: Path) -> float:
        """Peak resident memory of the process tree during one call, MiB."""
        assert self._process.pid is not None
        peak = PeakOfTree(self._process.pid)
        self.time(out)
        return peak.close_mb()

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


class WholeProcess:
    """A command, from its start to its exit."""

    kind = "process"

    def __init__(self, name: str, command: Callable[[Path], list[str]]) -> None:
        self.name = name
        self._command = command

    def time(self, out: Path) -> float:
        """Seconds from start to exit."""
        started = time.perf_counter()
        self._finish(self._start(out))
        return time.perf_counter() - started

    def peak_mb(self, out: Path) -> float:
        """Peak resident memory of the process tree, MiB."""
        process = self._start(out)
        peak = PeakOfTree(process.pid)
        self._finish(process)
        return peak.close_mb()

    def close(self) -> None:
        """Nothing is left running."""

    def _start(self, out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command(out), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        output, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{self.name}: exit {process.returncode}\n{output.decode(errors='replace')}")


Runner = InProcess | WholeProcess


@dataclass(frozen=True)
class Contender:
    """Something to compare, and how its output is checked and read."""

    runner: Runner
    check: Callable[[Path], float | None] = lambda _: None
    """Largest absolute difference to the truth, found in the output; None: not checked."""
    read_patch: Callable[[Path], Callable[[Sequence[slice]], Any]] | None = None
    """Opens the output and gives a function that reads one region."""
    note: str = ""


@dataclass
class Measurement:
    """What was measured of one contender."""

    name: str
    kind: str
    seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    output_bytes: int = 0
    largest_difference: float | None = None
    patch_ms: float | None = None
    note: str = ""

    def row(self) -> dict[str, Any]:
        """One JSON row, medians first."""
        return {
            "name": self.name,
            "kind": self.kind,
            "median_s": round(statistics.median(self.seconds), 4),
            "min_s": round(min(self.seconds), 4),
            "max_s": round(max(self.seconds), 4),
            "rounds": len(self.seconds),
            "peak_rss_mb": round(statistics.median(self.peak_mb), 1) if self.peak_mb else None,
            "output_bytes": self.output_bytes,
            "largest_difference": self.largest_difference,
            "patch_ms": None if self.patch_ms is None else round(self.patch_ms, 3),
            "note": self.note,
        }


def compare(
    contenders: Sequence[Contender],
    work_dir: Path,
    *,
    rounds: int,
    memory_rounds: int,
    regions: Sequence[Sequence[slice]] = (),
    console: Console | None = None,
) -> tuple[list[Measurement], list[str]]:
    """Run all contenders in alternating order and measure them.

    Every call gets a fresh output folder. Each round starts with another contender, and what a call
    left in the page cache is written out before the next one starts, so that none pays for another.
    A contender whose first call fails is left out; the second value says which and why.
    """
    measured = [Measurement(one.runner.name, one.runner.kind, note=one.note) for one in contenders]
    order = list(range(len(contenders)))
    out = work_dir / "out"
    failed = []
    for index in list(order):  # warm-up, not counted; the output of this call is what is checked and read
        one = contenders[index]
        _fresh(out)
        try:
            one.runner.time(out)
        except RuntimeError as error:
            order.remove(index)
            failed.append(str(error).strip())
            if console:
                console.print(f"failed, left out: {error}", style="red", markup=False)
            continue
        measured[index].output_bytes = bytes_below(out)
        measured[index].largest_difference = one.check(out)
        if one.read_patch is not None and regions:
            measured[index].patch_ms = _patch_ms(one.read_patch(out), regions)
    for number in range(rounds):
        if console:
            console.print(f"round {number + 1} of {rounds}", style="dim")
        first = number % max(1, len(order))
        for index in order[first:] + order[:first]:
            _fresh(out)
            measured[index].seconds.append(contenders[index].runner.time(out))
    for _ in range(memory_rounds):
        for index in order:
            _fresh(out)
            measured[index].peak_mb.append(contenders[index].runner.peak_mb(out))
    shutil.rmtree(out, ignore_errors=True)
    return [measured[index] for index in order], failed


def bytes_below(folder: Path) -> int:
    """Bytes of all regular files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def wide_console() -> Console:
    """A console as wide as the terminal, or wide enough for the table where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=150)


def show(title: str, rows: Sequence[dict[str, Any]], columns: dict[str, str], console: Console) -> None:
    """Print rows as a table; `columns` maps a key of the rows to its heading."""
    table = Table(title=title, title_justify="left")
    for key, heading in columns.items():
        table.add_column(heading, justify="left" if key in ("name", "kind", "note") else "right")
    for row in rows:
        table.add_row(*[_shown(row.get(key)) for key in columns])
    console.print(table)


def write_json(name: str, document: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `<folder>/<name>.json` with what is needed to judge it: cores, memory, versions."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **document}, indent=2) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """Cores, memory and versions; no names and no paths."""
    packages = ("tiledb", "pydicom", "numpy", "SimpleITK", "dicom2nifti", "dcm2niix", "nibabel", "radiobject")
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _patch_ms(read: Callable[[Sequence[slice]], Any], regions: Sequence[Sequence[slice]]) -> float:
    spent = []
    for region in regions:
        started = time.perf_counter()
        read(region)
        spent.append((time.perf_counter() - started) * 1000)
    return statistics.median(spent)


def _fresh(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    os.sync()


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _serve(pipe: Connection, call: Callable[[Path], None]) -> None:
    """Body of a warm process: call for every folder that is sent, answer (error, seconds)."""
    while (out := pipe.recv()) is not None:
        started = time.perf_counter()
        try:
            call(out)
            pipe.send(("", time.perf_counter() - started))
        except Exception:  # noqa: BLE001  (whatever fails in a peer, the parent reports it)
            pipe.send((traceback.format_exc(), 0.0))
