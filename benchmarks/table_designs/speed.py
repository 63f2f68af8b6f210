"""Times of every design in turns, each in a warm process of its own."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Sequence
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.measure import bytes_below
from benchmarks.table_designs.design import Place, files_below
from benchmarks.table_designs.designs import DESIGNS, design
from benchmarks.table_designs.rows import CORE_FILTER, OTHER_FILTER, key_of, made_rows

FEW = 100
BATCH = 10_000
ON_TOP = 16
"""Small commits above the merged rows when reads are timed."""
READS = {
    "open, and count": ("count",),
    "full read": ("read",),
    "filter, a column of all volumes": ("at_least", *CORE_FILTER),
    "filter, another column": ("at_least", *OTHER_FILTER),
}


def _serve(pipe: Connection, name: str) -> None:
    """Body of a design's process: build and do what is asked, answer (error, seconds, peak MB above)."""
    while (asked := pipe.recv()) is not None:
        folder, method, *values = asked
        made = design(name, Place(folder))
        try:
            if method == "fill":
                rows = pq.read_table(values[0])
                method, values = "put", []
                started = time.perf_counter()
                made.create(rows.slice(0, BATCH))
                for first in range(BATCH, len(rows), BATCH):
                    made.put(rows.slice(first, BATCH))
                pipe.send(("", time.perf_counter() - started, 0.0))
                continue
            if method == "replace":
                method, options = "put", {"new": False}
            else:
                options = {}
            Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
            before = _status_mb("VmRSS")
            started = time.perf_counter()
            getattr(made, method)(*values, **options)
            seconds = time.perf_counter() - started
            pipe.send(("", seconds, _status_mb("VmHWM") - before))
        except Exception:  # noqa: BLE001  (whatever fails in a library, the parent reports it)
            pipe.send((traceback.format_exc(limit=-3), 0.0, 0.0))


def _status_mb(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


class Worker:
    """A design in a process of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, name), name=name)
        self._process.start()
        far.close()

    def do(self, table: str, method: str, *values: Any) -> tuple[float, float]:
        """Seconds, and MB above what was there before."""
        self._pipe.send((str(self.folder / table), method, *values))
        error, seconds, peak = self._pipe.recv()
        if error:
            raise RuntimeError(f"{self.name}, {method}: {error}")
        return seconds, peak

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def measure(folder: Path, many: int, rounds: int, names: Sequence[str] = DESIGNS) -> list[dict[str, Any]]:
    """Rows of the table: what was timed, and the median of each design."""
    whole, first = folder / "many.parquet", folder / "few.parquet"
    pq.write_table(made_rows(range(many)), whole)
    pq.write_table(made_rows(range(FEW)), first)
    workers = [Worker(name, folder / name) for name in names]
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for worker in workers:
        (folder / worker.name).mkdir()
        worker.do("few", "fill", str(first))
        found[f"fill with {many:,} rows"][worker.name].append(worker.do("many", "fill", str(whole))[0])
        worker.do("many", "compact")
        worker.do("many", "vacuum")
        found[f"MB on disk, {many:,} rows merged"][worker.name].append(
            bytes_below(folder / worker.name / "many") / 1e6
        )
    fresh = iter(range(many + 1000, 10_000_000))
    for _ in range(ON_TOP):
        rows = made_rows([next(fresh)])
        for worker in workers:
            worker.do("many", "put", rows)
    for number in range(rounds):
        for worker in _turned(workers, number):
            for what, (method, *values) in READS.items():
                found[f"{what}, {many:,} rows"][worker.name].append(worker.do("many", method, *values)[0])
    _writes(workers, found, rounds, many, fresh)
    for worker in workers:
        before = len(files_below(str(worker.folder / "few")))
        worker.do("few", "put", made_rows(next(fresh) for _ in range(64)))
        found["files of a commit of 64 rows"][worker.name].append(
            len(files_below(str(worker.folder / "few"))) - before
        )
        worker.close()
    for worker in [Worker(name, folder / name) for name in names]:  # new processes: memory not used before
        seconds, peak = worker.do("many", "compact")
        found[f"merge all, {many:,} rows and the commits above"][worker.name].append(seconds)
        found["... MB of memory for it"][worker.name].append(peak)
        worker.close()
    return [
        {"name": what, **{name: statistics.median(values) for name, values in by_design.items()}}
        for what, by_design in found.items()
    ]


def _writes(workers: Sequence[Worker], found: Any, rounds: int, many: int, fresh: Any) -> None:
    for number in range(rounds):
        one = {size: made_rows([next(fresh)]) for size in ("few", "many")}
        more = {size: made_rows(next(fresh) for _ in range(64)) for size in ("few", "many")}
        again = {size: made_rows([number + 1], 1) for size in ("few", "many")}
        os.sync()  # what libraries did not bring to the disk is not paid for by the next one
        for worker in _turned(workers, number):
            for size, rows in (("few", FEW), ("many", many)):
                steps = {
                    "append one row": ("put", one[size]),
                    "append 64 rows": ("put", more[size]),
                    "replace one row": ("replace", again[size]),
                    "delete one row": ("delete", [key_of(50 + number)]),
                }
                for what, step in steps.items():
                    found[f"{what}, to {rows:,}"][worker.name].append(worker.do(size, *step)[0])


def _turned(workers: Sequence[Worker], number: int) -> list[Worker]:
    first = number % len(workers)
    return [*workers[first:], *workers[:first]]


_COMMIT = """
import sys
from benchmarks.table_designs.design import Place
from benchmarks.table_designs.designs import design
from benchmarks.table_designs.rows import made_rows
made = design(sys.argv[1], Place(sys.argv[2]))
made.create(made_rows(range(20))) if sys.argv[3] == "0" else made.put(made_rows([int(sys.argv[3])]))
"""


def flushes(folder: Path, names: Sequence[str] = DESIGNS) -> dict[str, Any] | None:
    """How often a commit of one row asks the kernel to bring something to the disk; None without strace."""
    if shutil.which("strace") is None:
        return None
    found = {}
    for name in names:
        table = str(folder / f"flushed-{name}")
        subprocess.run([sys.executable, "-c", _COMMIT, name, table, "0"], check=True)
        command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs"]
        command += [sys.executable, "-c", _COMMIT, name, table, "1000"]
        traced = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = len(re.findall(r"\b(?:fsync|fdatasync|sync_file_range|syncfs)\(", traced.stderr))
    return {"name": "calls that bring a commit of one row to the disk", **found}


_IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
_PACKAGES = {
    "TileDB": ("tiledb", "tiledb"),
    "pyarrow": ("pyarrow.parquet", "pyarrow"),
    "Delta": ("deltalake", "deltalake"),
    "Lance": ("lance", "pylance"),
}
"""Module and distribution of each library."""


def imports(times: int = 5) -> list[dict[str, Any]]:
    """Seconds to import each library in a new process, and MB that it takes on disk."""
    spent: dict[str, list[float]] = defaultdict(list)
    for _ in range(times):
        for title, (module, _) in _PACKAGES.items():
            command = [sys.executable, "-c", _IMPORT.format(module)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                spent[title].append(float(done.stdout))
    return [
        {
            "name": title,
            "import_s": statistics.median(values),
            "installed_mb": sum(file.size or 0 for file in metadata.files(_PACKAGES[title][1]) or ()) / 1e6,
        }
        for title, values in spent.items()
    ]
