"""Does `memory_budget_mb` hold for loaders over volumes, their workers and prefetched batches together?

`python -m benchmarks.loader_memory [--budgets 256 512 2048] [--workers 0 2 4] [--folder FOLDER]`

Volumes of 36 MB (int16), and one of 1 GB, in a store made anew. Each line is a process of its own that trains
on nothing for some batches while the memory of its tree is sampled, by proportional set size. *above* is what
that takes beside interpreters and libraries: the same loader with patches of 8 x 8 x 8 voxels is taken off.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from rich.table import Table

from benchmarks.measure import wide_console, write_json
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store import (
    RadiObject,
    ReadConfig,
    commit_volumes,
    configure,
    ensure_collection,
    ensure_store,
    stage_volume,
    upsert_subjects,
)
from radiobject_assets.system.memory import MB

_BATCHES = 24
_SMALL, _LARGE = (256, 256, 288), (512, 512, 2048)


def make_store(uri: str) -> None:
    """Eight volumes of 36 MB and one of 1 GB, of noise, so that tiles are as large as scanners' are."""
    ensure_store(uri)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 200, _SMALL).astype(np.int16)
    _add(uri, "small", [np.roll(noise, number, axis=0) for number in range(8)])
    _add(uri, "large", [np.resize(noise, _LARGE)])


def _add(uri: str, name: str, volumes: list[Any]) -> None:
    collection = ensure_collection(uri, name)
    ids = [f"{name}-{number}" for number in range(len(volumes))]
    upsert_subjects(uri, pd.DataFrame({"obs_subject_id": ids}))
    staged = [
        stage_volume(collection, obs_id=one, obs_subject_id=one, voxels=voxels, affine=np.eye(4))
        for one, voxels in zip(ids, volumes, strict=True)
    ]
    commit_volumes(collection, staged)


def peak_pss_mb(work: Any) -> float:
    """The highest proportional set size of this process's tree while `work` runs."""
    stop, peak = threading.Event(), [0]

    def look() -> None:
        while not stop.wait(0.02):
            total, root = 0, psutil.Process()
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error):
                    total += process.memory_full_info().pss
            peak[0] = max(peak[0], total)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        work()
    finally:
        stop.set()
        watcher.join()
    return peak[0] / MB


def run_one(case: dict[str, Any]) -> dict[str, Any]:
    """One line, in this process."""
    from radiobject_assets.training import create_inference_dataloader, create_training_dataloader

    configure(read=ReadConfig(memory_budget_mb=case["budget_mb"]))
    collection = RadiObject(case["store"]).collection(case["volumes"])
    try:
        if case["patch"] is None:
            loader = create_inference_dataloader(collection, num_workers=case["workers"])
        else:
            loader = create_training_dataloader(
                collection,
                batch_size=4,
                patch_size=(case["patch"],) * 3,
                patches_per_volume=case["patches_per_volume"],
                num_workers=case["workers"],
            )
    except ConfigurationError as error:
        return {"refused": str(error)}

    def train() -> None:
        done = 0
        while done < case["batches"]:
            for batch in islice(loader, case["batches"] - done):
                batch["image"].mean()
                done += 1

    return {"peak_mb": peak_pss_mb(train)}


def measured(case: dict[str, Any]) -> dict[str, Any]:
    """One line, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loader_memory", "--one", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {**case, **json.loads(done.stdout.splitlines()[-1])}


def cases(store: str, budgets: list[int], workers: list[int]) -> list[dict[str, Any]]:
    """All lines, first the ones that say what interpreters and libraries take."""
    found = [_case(store, "small", 8, 1024, n) for n in workers]
    found += [_case(store, "small", 64, budget, n) for budget in budgets for n in workers]
    found += [_case(store, "small", None, budget, n) for budget in budgets for n in workers]
    found += [_case(store, "large", 64, budgets[0], 0), _case(store, "large", None, budgets[0], 0)]
    return [*found, _case(store, "large", None, 6144, 0)]


def _case(store: str, volumes: str, patch: int | None, budget_mb: int, workers: int) -> dict[str, Any]:
    batches = 2 if volumes == "large" and patch is None else _BATCHES
    more = {"patches_per_volume": 16 if volumes == "small" else 128, "batches": batches}
    return {
        "store": store, "volumes": volumes, "patch": patch, "budget_mb": budget_mb, "workers": workers, **more
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--budgets", type=int, nargs="+", default=[256, 512, 2048])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 4])
    parser.add_argument("--folder")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run_one(json.loads(given.one))))
        return
    table = Table("volumes", "items", "budget MB", "workers", "peak MB", "above MB", "")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        store = str(Path(folder) / "store")
        make_store(store)
        lines, bare = [], {}
        for case in cases(store, given.budgets, given.workers):
            line = measured(case)
            peak = line.get("peak_mb")
            if case["patch"] == 8:
                bare[case["workers"]] = peak
            line["above_mb"] = None if peak is None else peak - bare[case["workers"]]
            lines.append({name: value for name, value in line.items() if name not in ("store", "refused")})
            table.add_row(
                {"small": "36 MB", "large": "1 GB"}[case["volumes"]],
                f"{case['patch']}^3, batch 4" if case["patch"] else "whole, batch 1",
                str(case["budget_mb"]),
                str(case["workers"]),
                "refused" if peak is None else f"{peak:.0f}",
                "" if peak is None else f"{line['above_mb']:.0f}",
                "" if peak is None else ("held" if line["above_mb"] <= case["budget_mb"] else "NOT HELD"),
            )
    wide_console().print(table)
    write_json("loader_memory", {"lines": lines})


if __name__ == "__main__":
    main()
