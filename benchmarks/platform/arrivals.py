"""Many small arrivals against one with as many series: seconds, and what Dagster's storage grows by.

    python -m benchmarks.platform.arrivals --series 200
    python -m benchmarks.platform.arrivals --series 20 --share-run 1     each arrival with a run of its own
    python -m benchmarks.platform.arrivals --series 200 --one-person     they are taken in one after the other

Each arrival is a folder with one tiny CT series of another person. They are taken in by a real pass without a
daemon (`platform.headless`): the sensors, the runs and their records are those of the daemon, the start of a
process for each run is not in it. Two passes, one after the other in one process: many arrivals, then one.
Where other programs are at work, compare seconds of CPU (of this process and its children).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pydicom

from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_ct_series
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.store import list_snapshots

SHAPE = (16, 16, 3)
DATASET = """\
landing: landing
store: store
collections:
  ct: {match: {modality: CT}}
  mr: {match: {modality: MR}}
  seg: {match: {modality: SEG}, kind: labels, labels_of: ct}
split: {fractions: {train: 0.5, test: 0.5}}
"""


def make_home(
    folder: Path, n_series: int, *, is_together: bool, share_run: int | None, one_person: bool = False
) -> None:
    """A data set whose landing zone has so many series, in one arrival or in as many arrivals."""
    shared = "" if share_run is None else f", share_run: {share_run}"
    text = f"{DATASET}arrivals: {{quiet_period_s: 0{shared}}}\n"
    for number in range(n_series):
        one = Path("together") / f"s{number:04d}" if is_together else Path(f"delivery {number:04d}")
        make_ct_series(folder / "landing" / one, shape=SHAPE, seed=number)
        for path in (folder / "landing" / one).iterdir():
            with pydicom.dcmread(path) as read:
                read.PatientID = "person-0" if one_person else f"person-{number}"
                read.save_as(path)
    (folder / "dataset.yaml").write_text(text, encoding="utf-8")


def measure(folder: Path) -> dict[str, float]:
    """One pass over a home: seconds, runs, snapshots, volumes, and bytes of Dagster's storage."""
    instance_folder = folder / "dagster"
    definitions = build_definitions(folder / "dataset.yaml")
    with open_instance(instance_folder) as instance:
        instance.get_runs(limit=1)
        before = bytes_below(instance_folder)
        started, cpu_before = time.perf_counter(), sum(os.times()[:4])
        done = run_pass(definitions, instance)
        seconds = time.perf_counter() - started
        cpu_s = sum(os.times()[:4]) - cpu_before
        problems = [run.problem for run in done.failed]
    if problems:
        raise SystemExit(f"runs failed: {problems[:3]}")
    snapshots = list_snapshots(str(folder / "store"))
    return {
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu_s, 1),
        "runs_of_arrivals": len(done.arrivals),
        "runs_after_them": len(done.follow_ups),
        "snapshots": len(snapshots),
        "volumes": snapshots[-1].counts["ct"],
        "instance_kB": round((bytes_below(instance_folder) - before) / 1000),
    }


def bytes_below(folder: Path) -> int:
    """Bytes of all files in a folder and its folders."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Measure, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--share-run", type=int)
    parser.add_argument("--one-person", action="store_true", help="all series are of one person")
    parser.add_argument("--keep", type=Path, help="leave the homes in this folder")
    options = parser.parse_args()
    root = options.keep or Path(tempfile.mkdtemp(prefix="arrivals-"))
    try:
        make_home(root / "warm", 1, is_together=True, share_run=None)
        measure(root / "warm")  # imports and first calls cost seconds that are no arrival's
        for name, is_together in (("many", False), ("one", True)):
            folder = root / name
            make_home(
                folder,
                options.series,
                is_together=is_together,
                share_run=options.share_run,
                one_person=options.one_person,
            )
            told: dict[str, object] = {"arrivals": name, "series": options.series, **measure(folder)}
            arrivals = 1 if is_together else options.series
            told["kB_an_arrival"] = round(float(str(told["instance_kB"])) / arrivals, 1)
            print(json.dumps({**told, "load": round(os.getloadavg()[0], 1)}), flush=True)
    finally:
        if options.keep is None:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
