"""Reads of volumes, side by side: `python -m benchmarks.read [--rounds 5] [--only ours,zarr]`.

Six int16 volumes of 240 x 240 x 155 (smooth tissue with noise inside an ellipsoid, Rician noise outside,
from a seed) are written by every contender, and the same 120 random unaligned 64^3 regions, 120 axial
slices and whole volumes are read. Everything is compared with the truth before anything is timed.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, bytes_below, show, wide_console, write_json
from benchmarks.read_formats import (
    FORMATS,
    NPY,
    OURS,
    OURS_AXIAL,
    OURS_UNVERIFIED,
    OURS_WARM,
    RADIOBJECT,
    RADIOBJECT_ISOTROPIC,
    TENSORSTORE,
    TENSORSTORE_BLOSC,
    TENSORSTORE_TILES,
    ZARR,
    Format,
    Part,
    Reader,
    Voxels,
)
from benchmarks.volumes import SHAPE, make_volumes
from radiobject_assets.store import reset_radiobject_config
from radiobject_assets.system.memory import MB

ROI = 64
WRITTEN = 3
"""Volumes that are written in every round."""
SLOW_S = 0.05
"""A region that takes longer than this (.nii.gz: all before it is decompressed) is measured on fewer."""
COLUMNS = {
    "name": "what",
    "roi_ms": "64^3 ms",
    "axial_ms": "axial ms",
    "full_ms": "full ms",
    "write_ms": "write ms",
    "size_mb": "MB",
}
# What is promised, as (words, operation, ours, peer, how many times faster ours must be).
GOALS = (
    ("64^3, uncached, against tensorstore", "roi_ms", OURS, TENSORSTORE, 1.0),
    ("64^3, uncached, against tensorstore with blosc", "roi_ms", OURS, TENSORSTORE_BLOSC, 1.0),
    ("64^3, unverified, against tensorstore, our tiles", "roi_ms", OURS_UNVERIFIED, TENSORSTORE_TILES, 1.0),
    ("64^3, uncached, against RadiObject", "roi_ms", OURS, RADIOBJECT, 4.0),
    ("64^3, uncached, against RadiObject isotropic", "roi_ms", OURS, RADIOBJECT_ISOTROPIC, 1.0),
    ("64^3, cache warm, against memory-mapped npy", "roi_ms", OURS_WARM, NPY, 1 / 3),
    ("whole volume against tensorstore", "full_ms", OURS, TENSORSTORE, 0.95),
    ("whole volume against tensorstore with blosc", "full_ms", OURS, TENSORSTORE_BLOSC, 0.95),
    ("axial slice from axial tiles against RadiObject", "axial_ms", OURS_AXIAL, RADIOBJECT, 2.0),
    ("write against zarr", "write_ms", OURS, ZARR, 1.0),
    ("size against zarr", "size_mb", OURS, ZARR, 1.0),
    ("size against tensorstore with blosc", "size_mb", OURS, TENSORSTORE_BLOSC, 1.0),
    ("size against RadiObject", "size_mb", OURS, RADIOBJECT, 1.0),
)


@dataclass(frozen=True)
class Work:
    """The volumes and what is read of them: the same for all."""

    volumes: Sequence[Voxels]
    regions: Sequence[tuple[int, Part]]
    slices: Sequence[tuple[int, Part]]

    @property
    def whole(self) -> list[tuple[int, Part]]:
        """Every volume from end to end."""
        return [(i, (slice(None),) * 3) for i in range(len(self.volumes))]


@dataclass
class Measured:
    """Medians of the rounds of one contender, in milliseconds of one operation."""

    format: Format
    rounds: dict[str, list[float]] = field(
        default_factory=lambda: {"roi_ms": [], "axial_ms": [], "full_ms": [], "write_ms": []}
    )
    size_mb: float = 0.0

    def row(self) -> dict[str, Any]:
        """One row of the table and of the JSON file."""
        medians = {key: round(statistics.median(found), 3) for key, found in self.rounds.items()}
        return {
            "name": self.format.name,
            **medians,
            "size_mb": round(self.size_mb, 2),
            "rounds": {key: [round(value, 3) for value in found] for key, found in self.rounds.items()},
        }


def make_work(count: int, reads: int) -> Work:
    """`count` volumes, `reads` regions that start anywhere, and as many axial slices."""
    rng = np.random.default_rng(0)
    regions, slices = [], []
    for _ in range(reads):
        x, y, z = (int(rng.integers(0, n - ROI + 1)) for n in SHAPE)
        box = (slice(x, x + ROI), slice(y, y + ROI), slice(z, z + ROI))
        regions.append((int(rng.integers(count)), box))
        slices.append((int(rng.integers(count)), (slice(None), slice(None), int(rng.integers(SHAPE[2])))))
    return Work(make_volumes(count, background_noise=8.0), regions, slices)


def in_order(one: Format, work: Work) -> list[Voxels]:
    """The volumes in the memory order in which a contender keeps them: nobody pays for turning them."""
    return [np.asarray(voxels, order="F" if one.fortran else "C") for voxels in work.volumes]


def check(one: Format, read: Reader, work: Work) -> None:
    """Compare all that will be read with the truth."""
    for kind, parts in (("region", work.regions), ("slice", work.slices), ("volume", work.whole)):
        for i, part in parts[: 3 if _is_slow(read, work) else None]:
            found, truth = read(i, part), work.volumes[i][part]
            if found.dtype != truth.dtype or not np.array_equal(found, truth):
                raise ValueError(f"{one.name}: a {kind} differs from what was written")


def _is_slow(read: Reader, work: Work) -> bool:
    started = time.perf_counter()
    read(*work.regions[0])
    return time.perf_counter() - started > SLOW_S


def timed_ms(read: Reader, parts: Sequence[tuple[int, Part]]) -> float:
    """Median of single reads, in milliseconds."""
    spent = []
    for i, part in parts:
        started = time.perf_counter()
        read(i, part)
        spent.append(time.perf_counter() - started)
        if len(spent) >= 6 and sum(spent) > 20 * SLOW_S * len(parts) / 120:
            break
    return statistics.median(spent) * 1000


def measure_reads(kind: str, measured: Measured, read: Reader, work: Work) -> None:
    """One round of one contender's regions, slices or whole volumes, after a warm-up."""
    measured.format.before()
    parts = {"roi_ms": work.regions, "axial_ms": work.slices, "full_ms": work.whole}[kind]
    for _ in range(measured.format.warm_up):
        timed_ms(read, parts if measured.format.warm_up > 1 else parts[:10])
    measured.rounds[kind].append(timed_ms(read, parts))


def measure_write(measured: Measured, work: Work, folder: Path) -> None:
    """One round of one contender's writing; milliseconds a volume."""
    volumes = in_order(measured.format, work)[:WRITTEN]
    _empty(folder)
    started = time.perf_counter()
    measured.format.write(folder, volumes)
    measured.rounds["write_ms"].append((time.perf_counter() - started) * 1000 / len(volumes))


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    gc.collect()


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """A process that keeps one of the cores busy on which this one may run."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            yield
        finally:
            neighbour.kill()


def goals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was promised, and what came out."""
    by_name = {row["name"]: row for row in rows}
    found = []
    for words, key, ours, peer, wanted in GOALS:
        if ours in by_name and peer in by_name:
            ratio = by_name[peer][key] / by_name[ours][key]
            found.append(
                {
                    "name": words,
                    "times": round(ratio, 2),
                    "wanted": round(wanted, 2),
                    "met": "yes" if ratio >= wanted else "no",
                }
            )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, print it, write results/read.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--volumes", type=int, default=6)
    parser.add_argument("--reads", type=int, default=120, help="regions, and slices")
    parser.add_argument("--only", default="", help="comma-separated parts of names: run these only")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--neighbour", action="store_true", help="beside a process that is always busy")
    chosen = parser.parse_args(arguments)
    console = wide_console()
    wanted = [part.strip() for part in chosen.only.split(",") if part.strip()]
    formats = [one for one in FORMATS if not wanted or any(part in one.name for part in wanted)]
    left_out: list[str] = []
    work = make_work(chosen.volumes, chosen.reads)
    running: list[tuple[Measured, Reader]] = []
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-read-") as name,
            busy_neighbour() if chosen.neighbour else nullcontext(),
        ):
            for number, one in enumerate(formats):
                folder = Path(name) / str(number)
                folder.mkdir()
                try:
                    one.before()
                    one.write(folder, in_order(one, work))
                    read = one.open(folder, len(work.volumes))
                    check(one, read, work)
                except Exception as error:  # noqa: BLE001  (a peer that fails is named, the others go on)
                    left_out.append(f"{one.name}: {type(error).__name__}: {error}".splitlines()[0])
                    continue
                running.append((Measured(one, size_mb=bytes_below(folder) / MB), read))
            for number in range(chosen.rounds):
                console.print(f"round {number + 1} of {chosen.rounds}", style="dim")
                first = number % max(1, len(running))
                order = running[first:] + running[:first]
                # Kind by kind: what is compared is measured within seconds of each other.
                for kind in ("roi_ms", "axial_ms", "full_ms"):
                    for measured, read in order:
                        measure_reads(kind, measured, read, work)
                for measured, _ in order:
                    measure_write(measured, work, Path(name) / "again")
    finally:
        reset_radiobject_config()
    rows = [measured.row() for measured, _ in running]
    title = f"{chosen.volumes} volumes of {'x'.join(map(str, SHAPE))} int16, {chosen.rounds} rounds"
    show(title, rows, COLUMNS, console)
    reached = goals(rows)
    goal_columns = {"name": "ours", "times": "times faster or smaller", "wanted": "wanted", "met": "met"}
    show("Promised", reached, goal_columns, console)
    for reason in left_out:
        console.print(f"left out: {reason}", style="yellow", markup=False)
    document = {
        "benchmark": "reads of volumes",
        "volumes": chosen.volumes,
        "shape": SHAPE,
        "region": ROI,
        "rows": rows,
        "goals": reached,
        "left_out": left_out,
    }
    console.print(f"written: {write_json('read', document, chosen.results)}")
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
