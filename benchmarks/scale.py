"""A store with 100,000 volumes: `python -m benchmarks.scale [--volumes 100000]`.

Every row is committed as an ingest commits it, in batches; the arrays behind the first rows are not written,
since what is measured here are the tables: opening, filtering, looking up, appending one volume (a real one,
with its array) and memory. The same is measured with 100 volumes: what grows with the store shows.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.measure import RESULTS, show, wide_console, write_json
from radiobject_assets.store import (
    RadiObject,
    StagedVolume,
    commit_volumes,
    consolidate,
    create_snapshot,
    ensure_collection,
    ensure_store,
    stage_volume,
)
from radiobject_assets.system.memory import MB

SMALL = 100
BATCH = 10_000
"""Rows of one commit while the store is filled."""
QUESTION = "slice_thickness_mm >= 5 and modality == 'CT'"
COLUMNS = {
    "name": "what",
    "few": f"{SMALL} volumes",
    "many": "all volumes",
    "wanted": "wanted",
    "met": "met",
}


def row(number: int) -> StagedVolume:
    """A volume as `commit_volumes` takes it, with the columns that a CT of an ingest has."""
    return StagedVolume(
        token=f"{number:032x}",
        obs_id=f"s{number:06d}_ct",
        obs_subject_id=f"s{number:06d}",
        shape=(512, 512, 120),
        dtype="int16",
        affine=((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
        slope=1.0,
        intercept=-1024.0,
        orientation_source="dicom",
        voxel_digest=f"blake3:{number:064x}",
        voxel_bytes=512 * 512 * 120 * 2,
        stored_bytes=20_000_000,
        attributes={
            "modality": "CT",
            "series_uid": f"1.2.826.0.1.{number}",
            "study_uid": f"1.2.826.0.2.{number}",
            "slice_thickness_mm": float(number % 7),
            "manufacturer": "phantom",
        },
    )


def fill(store: str, count: int, start: int = 0) -> None:
    """Commit rows `start` to `count`."""
    images = ensure_collection(store, "ct")
    for first in range(start, count, BATCH):
        commit_volumes(images, [row(number) for number in range(first, min(count, first + BATCH))])


def append_one(store: str, name: str) -> None:
    """Write one small volume and commit it."""
    images = ensure_collection(store, "ct")
    voxels = np.zeros((4, 4, 4), np.int16)
    staged = stage_volume(
        images,
        obs_id=name,
        obs_subject_id=name,
        voxels=voxels,
        attributes={"modality": "CT", "slice_thickness_mm": 1.0},
    )
    commit_volumes(images, [staged])


def questions(store: str, count: int) -> dict[str, Callable[[], object]]:
    """What is timed, each from a fresh object; `count` rows are expected."""
    middle = f"s{count // 2:06d}_ct"
    opened = RadiObject(store).ct
    len(opened)

    def count_all() -> None:
        if len(RadiObject(store).ct) < count:
            raise ValueError("rows are missing")

    def choose() -> None:
        fresh = RadiObject(store).ct
        len(fresh)
        started = time.perf_counter()
        found = len(fresh.filter(QUESTION))
        spent.append(time.perf_counter() - started)
        if not found:
            raise ValueError("the filter found nothing")

    spent: list[float] = []

    def filter_only() -> float:
        choose()
        return spent[-1]

    return {
        "open, and count": count_all,
        "filter two columns": filter_only,
        "find one volume by id, first": lambda: RadiObject(store).ct[middle],
        "find one volume by id, again": lambda: opened[middle],
    }


def seconds(call: Callable[[], object], times: int) -> float:
    """Median seconds of a call; a call that measures itself returns them."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        own = call()
        found.append(own if isinstance(own, float) else time.perf_counter() - started)
    return statistics.median(found)


def _first(store: str, count: int, name: str, pipe: Connection) -> None:
    """In a process of its own, which has read nothing: the seconds of one question."""
    calls: dict[str, Callable[[], object]] = {
        "open, and count": lambda: len(RadiObject(store).ct),
        "filter a core column": lambda: len(RadiObject(store).ct.filter("modality == 'CT'")),
        "filter another column": lambda: len(RadiObject(store).ct.filter("slice_thickness_mm >= 5")),
        "find one volume by id": lambda: RadiObject(store).ct[f"s{count // 2:06d}_ct"],
    }
    import pandas  # noqa: F401  (what is loaded with the first object is not what is measured)

    RadiObject(store)
    started = time.perf_counter()
    calls[name]()
    pipe.send(time.perf_counter() - started)


FIRST = ("open, and count", "filter a core column", "filter another column", "find one volume by id")


def first_in_a_process(store: str, count: int, times: int) -> dict[str, float]:
    """Median seconds of questions, each asked by processes that have read nothing before."""
    context = multiprocessing.get_context("spawn")
    found: dict[str, list[float]] = {name: [] for name in FIRST}
    for _ in range(times):
        for name in FIRST:
            near, far = context.Pipe()
            process = context.Process(target=_first, args=(store, count, name, far))
            process.start()
            found[name].append(near.recv())
            process.join()
    return {f"{name}, new process": statistics.median(times) for name, times in found.items()}


def measure(store: str, count: int, times: int, label: str) -> dict[str, float]:
    """Seconds of every question and of appending one volume."""
    found = first_in_a_process(store, count, max(3, times // 2))
    found |= {name: seconds(call, times) for name, call in questions(store, count).items()}
    number = iter(range(times))
    found["append one volume"] = seconds(lambda: append_one(store, f"{label}{next(number)}"), times)
    return found


def _memory_of_reading(store: str, pipe: Connection) -> None:
    """In a process of its own: resident memory before and after many filters and appends."""
    process = psutil.Process()
    opened = RadiObject(store)
    len(opened.ct.filter(QUESTION))
    gc.collect()
    before = process.memory_info().rss
    seen = []
    for number in range(30):
        view = RadiObject(store).ct.filter(QUESTION)
        len(view.obs_ids)
        append_one(store, f"memory{number}")
        seen.append(process.memory_info().rss)
    pipe.send((before / MB, statistics.mean(seen[:10]) / MB, statistics.mean(seen[-10:]) / MB))


def memory_mb(store: str) -> tuple[float, float, float]:
    """Resident MB after one filter, and over the first and last ten of thirty rounds of filter and append."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_memory_of_reading, args=(store, far))
    process.start()
    found: tuple[float, float, float] = near.recv()
    process.join()
    return found


def verdicts(few: dict[str, float], many: dict[str, float]) -> list[dict[str, Any]]:
    """Both sizes side by side, with what was promised."""
    wanted: dict[str, tuple[str, Callable[[float, float], bool]]] = {
        "open, and count, new process": ("< 0.1 s", lambda _, long: long < 0.1),
        "filter a core column, new process": ("< 0.1 s", lambda _, long: long < 0.1),
        "filter another column, new process": ("< 0.5 s", lambda _, long: long < 0.5),
        "append one volume": (f"1.2 times of {SMALL}", lambda short, long: long <= short * 1.2),
    }
    rows = []
    for name, long in many.items():
        words, holds = wanted.get(name, ("", lambda _, __: True))
        met = ("yes" if holds(few[name], long) else "no") if words else ""
        rows.append(
            {"name": name, "few": round(few[name], 4), "many": round(long, 4), "wanted": words, "met": met}
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill a store, measure, print the table, write results/scale.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volumes", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=9, help="repetitions of each question")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    chosen = parser.parse_args(arguments)
    console = wide_console()
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        store = f"{folder}/store"
        ensure_store(store)
        fill(store, SMALL)
        few = measure(store, SMALL, chosen.times, "few")
        started = time.perf_counter()
        fill(store, chosen.volumes, start=SMALL)
        filled_s = time.perf_counter() - started
        consolidate(store)
        many = measure(store, chosen.volumes, chosen.times, "many")
        started = time.perf_counter()
        create_snapshot(store, "all")
        snapshot_s = time.perf_counter() - started
        memory = memory_mb(store)
    rows = verdicts(few, many)
    show(f"{chosen.volumes:,} volumes in obs, seconds", rows, COLUMNS, console)
    console.print(f"rows committed in {filled_s:.1f} s, snapshot in {snapshot_s:.1f} s")
    console.print(
        f"memory: {memory[0]:.0f} MB after one filter; over 30 rounds of filter and append "
        f"{memory[1]:.0f} MB at first, {memory[2]:.0f} MB at last"
    )
    document = {
        "benchmark": "a long store",
        "volumes": chosen.volumes,
        "rows": rows,
        "fill_s": round(filled_s, 2),
        "snapshot_s": round(snapshot_s, 2),
        "memory_mb": {
            "after_one_filter": round(memory[0], 1),
            "first_ten_rounds": round(memory[1], 1),
            "last_ten_rounds": round(memory[2], 1),
        },
    }
    console.print(f"written: {write_json('scale', document, chosen.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
