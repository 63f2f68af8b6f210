"""doctor on large stores: is its time linear, its memory bounded, and when does it tell the first finding?

`python -m benchmarks.doctor [--rows 10000 100000] [--voxels 1000 2000] [--folder FOLDER]`

Stores of `--rows` have that many rows, whose arrays are links to the files of one small array: only rules
over rows, names and snapshots are measured (`--quick`). Stores of `--voxels` have real arrays of 16^3 voxels,
and every one is read. In each, one array in a thousand (at least one) is gone; so is the affine of a row.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import show, wide_console, write_json
from radiobject_assets.doctor.examination import examine
from radiobject_assets.doctor.examined import Examined
from radiobject_assets.store import (
    StagedVolume,
    commit_volumes,
    create_snapshot,
    ensure_collection,
    ensure_store,
    stage_volume,
)
from radiobject_assets.system.resource_monitor import ResourceMonitor

_AT_ONCE = 5_000


def staged(where: str, number: int) -> StagedVolume:
    """A volume of its own voxels."""
    random = np.random.default_rng(number)
    return stage_volume(
        where,
        obs_id=f"volume-{number}",
        obs_subject_id=f"subject-{number}",
        voxels=random.integers(0, 900, (16, 16, 16), dtype=np.int16),
        affine=np.diag([1.0, 1.0, 2.0, 1.0]),
        attributes={"kind": "image", "modality": "CT", "source_digest": f"{number:064x}"},
    )


def make(folder: Path, n: int, *, real: bool) -> str:
    """A store of `n` volumes, one in a thousand damaged."""
    uri = str(folder / f"store-{n}-{'voxels' if real else 'rows'}")
    ensure_store(uri)
    where = ensure_collection(uri, "ct")
    first = staged(where, 0)
    volumes = Path(where) / "volumes"
    waiting = [first]
    for number in range(1, n):
        if real:
            waiting.append(staged(where, number))
        else:
            token = f"{number:032x}"[::-1]  # findings show the first digits
            shutil.copytree(volumes / first.token, volumes / token, copy_function=os.link)
            one = replace(
                first, token=token, obs_id=f"volume-{number}", obs_subject_id=f"subject-{number}",
                voxel_digest=f"digest-{number}",
            )  # fmt: skip
            waiting.append(one)
        if len(waiting) == _AT_ONCE:
            commit_volumes(where, waiting, with_subjects=True)
            waiting = []
    commit_volumes(where, waiting, with_subjects=True)
    create_snapshot(uri, "first")
    for path in sorted(volumes.iterdir())[:: max(2, min(1000, n - 1))]:
        shutil.rmtree(path)
    return uri


def measure(uri: str, n: int, *, real: bool) -> dict[str, Any]:
    """Seconds in all and to the first finding, and memory above what there was before."""
    started, first, findings = time.perf_counter(), 0.0, 0
    with ResourceMonitor() as peak:
        for report in examine(Examined(uri, grace_s=0.0), voxels=real):
            findings += len(report.findings)
            if report.findings and not first:
                first = time.perf_counter() - started
    seconds = time.perf_counter() - started
    return {
        "volumes": n,
        "read": "voxels" if real else "rows",
        "seconds": round(seconds, 1),
        "us_per_volume": round(seconds / n * 1e6),
        "first_finding_s": round(first, 1),
        "grown_mb": round(peak.grown_mb),
        "findings": findings,
    }


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--voxels", type=int, nargs="*", default=[500, 1_000])
    parser.add_argument("--folder", type=Path, help="where stores are made; else a temporary folder")
    chosen = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        for real, sizes in ((True, chosen.voxels), (False, chosen.rows)):
            for n in sizes:
                found.append(measure(make(Path(folder), n, real=real), n, real=real))
    columns = {
        "volumes": "volumes", "read": "what is read", "seconds": "s", "us_per_volume": "us a volume",
        "first_finding_s": "first finding after s", "grown_mb": "MB above idle", "findings": "findings",
    }  # fmt: skip
    show("doctor", found, columns, wide_console())
    write_json("doctor", {"stores": found})


if __name__ == "__main__":
    main()
