"""All of it: `python -m benchmarks.table_designs` (some six minutes; `--help` says what can be left out).

Delta and Lance are measured where they are installed: `pip install deltalake pylance`.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.measure import show, wide_console, write_json
from benchmarks.table_designs import robustness, s3_requests, speed
from benchmarks.table_designs.designs import DESIGNS, TITLES

PARTS = ("speed", "imports", "s3", "robustness")
_LIBRARIES = ("tiledb", "pyarrow", "deltalake", "pylance")
_MEMORY = Path("/dev/shm")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write results/table_designs.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(DESIGNS), help="designs, with commas")
    parser.add_argument("--parts", default=",".join(PARTS), help="of: " + ", ".join(PARTS))
    parser.add_argument("--times", type=int, default=100, help="kills of each operation, pauses, and flips")
    parser.add_argument("--budget", type=float, default=3.0, help="most seconds for each kind of them")
    parser.add_argument("--torture", default="narrow,parquet,delta,lance", help="designs to kill and pause")
    parser.add_argument("--kinds", default="erasing,fork,kills,crowds,pauses,flips", help="of torture")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default="table_designs", help="of the file with the results")
    chosen = parser.parse_args(arguments)
    names = [name for name in DESIGNS if name in chosen.only.split(",")]
    parts = chosen.parts.split(",")
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        if "speed" in parts:
            found["times"] = speed.measure(Path(folder), chosen.rows, chosen.rounds, names)
            flushed = speed.flushes(Path(folder), names)
            found["times"] += [flushed] if flushed else []
            _table("seconds (medians), unless another unit is named", found["times"], names)
        if "imports" in parts:
            found["imports"] = speed.imports()
            _show("libraries", found["imports"])
        if "s3" in parts:
            found["s3"], found["s3_race"] = s3_requests.measure(Path(folder) / "s3", names)
            _table("requests to S3 (each waits 30 ms)", found["s3"], names)
            _show("two writers at once on S3", found["s3_race"])
    if "robustness" in parts:
        # Nothing here is about time, and a disk that others use makes every trial slow.
        with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
            found |= torture(Path(folder), names, chosen)
    versions = {name: _version(name) for name in _LIBRARIES}
    document = {"benchmark": "designs of the rows' tables", "libraries": versions, **found}
    wide_console().print(f"written: {write_json(chosen.name, document)}")
    return 0


def torture(
    folder: Path, names: Sequence[str], chosen: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """Everything of `robustness`, with fresh randomness for each kind."""
    times, budget_s = chosen.times, chosen.budget
    killed = [name for name in names if name in chosen.torture.split(",")]

    def each(which: Iterable[str], run: Callable[[str, Path, random.Random], Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for name in which:
            (folder / name).mkdir(exist_ok=True)
            one = run(name, folder / name, random.Random(f"{chosen.seed}.{name}"))
            rows += one if isinstance(one, list) else [one]
        return rows

    kinds: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "erasing": lambda: each(names, lambda name, at, _: robustness.erasing(name, at)),
        "fork": lambda: each(names, lambda name, at, _: robustness.after_fork(name, at)),
        "kills": lambda: each(killed, lambda name, at, rng: robustness.kills(name, at, times, budget_s, rng)),
        "crowds": lambda: each(
            killed,
            lambda name, at, _: [
                robustness.crowd(name, at, times, budget_s, erase) for erase in (False, True)
            ],
        ),
        "pauses": lambda: each(
            killed, lambda name, at, rng: robustness.pauses(name, at, times, budget_s, rng)
        ),
        "flips": lambda: each(
            [*killed, *(name for name in names if name == "arrow")],
            lambda name, at, rng: robustness.flips(name, at, 2 * times, 2 * budget_s, rng),
        ),
    }
    found = {}
    for what in chosen.kinds.split(","):
        found[what] = kinds[what]()
        _show(what, found[what])
    return found


def _table(title: str, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    show(title, rows, {"name": "what", **{name: TITLES[name] for name in names}}, wide_console())


def _show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    columns = dict.fromkeys(key for row in rows for key in row)
    show(title, rows, {key: key for key in columns}, wide_console())


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None
