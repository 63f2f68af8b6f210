"""Ingest of several CT series at once, side by side: `python -m benchmarks.ingest_many`.

What a group does with an arrival: a folder with phantom CT series of 120 slices of 512x512 (signed 16-bit,
realistic noise) goes into one store, or into NIfTI files. Every output is checked against the phantoms'
truth through world coordinates, matched by the series' UIDs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import ingest
from benchmarks.ingest import DCM2NIIX_GZ, OURS_COMMAND, OURS_IN_PROCESS, dcm2niix_program
from benchmarks.measure import Contender, InProcess, WholeProcess, compare, show, wide_console, write_json

if TYPE_CHECKING:
    from radiobject_assets.phantom.truth import VolumeTruth

COLUMNS = {name: title for name, title in ingest.COLUMNS.items() if name != "patch_ms"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, print it, write results/ingest-many.json."""
    from radiobject_assets.phantom.cohort import make_ct_series

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (5 or more, to be quoted)")
    parser.add_argument("--memory-rounds", type=int, default=2)
    parser.add_argument("--series", type=int, default=8)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--results", type=Path, default=None, help="folder for the JSON")
    chosen = parser.parse_args(arguments)
    console = wide_console()
    with tempfile.TemporaryDirectory(prefix="bench-ingest-many-") as folder:
        source = Path(folder, "dicom")
        truths: dict[str, VolumeTruth] = {}
        for number in range(chosen.series):
            shape = (chosen.size, chosen.size, chosen.slices)
            series = make_ct_series(source / f"series-{number}", shape=shape, seed=number)
            assert series.volume is not None
            truths[series.series_uid] = series.volume
        contenders, skipped = _contenders(source, truths)
        for reason in skipped:
            console.print(f"left out: {reason}", style="yellow")
        try:
            measured, failed = compare(
                contenders,
                Path(folder),
                rounds=chosen.rounds,
                memory_rounds=chosen.memory_rounds,
                console=console,
            )
        finally:
            for contender in contenders:
                contender.runner.close()
    rows = [one.row() for one in measured]
    title = f"{chosen.series} series of {chosen.slices} CT slices of {chosen.size}x{chosen.size}"
    show(f"{title}, {chosen.rounds} rounds", rows, COLUMNS, console)
    document = {
        "benchmark": "ingest of several CT series",
        "series": chosen.series,
        "shape": [chosen.size, chosen.size, chosen.slices],
        "rows": rows,
        "left_out": skipped + [reason.splitlines()[0] for reason in failed],
    }
    write_json("ingest-many", document, *([chosen.results] if chosen.results else []))
    return 1 if failed else 0


def _contenders(source: Path, truths: Mapping[str, VolumeTruth]) -> tuple[list[Contender], list[str]]:
    command = [sys.executable, "-m", "radiobject_assets.cli", "ingest", str(source), "--json", "--store"]
    store, nifti = partial(_check_store, truths), partial(_check_nifti, truths)
    call = partial(ingest_here, source, len(truths))
    contenders = [
        Contender(InProcess(OURS_IN_PROCESS, call), store),
        Contender(WholeProcess(OURS_COMMAND, lambda out: [*command, str(out / "store")]), store),
    ]
    program = dcm2niix_program()
    if program is None:
        return contenders, ["dcm2niix: the program is not installed"]
    for name, flag in ((DCM2NIIX_GZ, "y"), ("dcm2niix -z n", "n")):
        options = [program, "-z", flag, "-f", "%j"]
        runner = WholeProcess(name, lambda out, options=options: [*options, "-o", str(out), str(source)])
        contenders.append(Contender(runner, nifti))
    return contenders, []


def ingest_here(source: Path, count: int, out: Path) -> None:
    """Scan, plan and ingest, as `radiobject-assets ingest` does once its imports are done."""
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings
    from radiobject_assets.ingest import ingest_sources
    from radiobject_assets.system.compute import Compute
    from radiobject_assets.system.memory import MemoryBudget

    report = ingest_sources(
        [source], str(out / "store"), DatasetSettings(), budget=MemoryBudget(), compute=Compute()
    )
    if report.counts.get("written") != count:
        raise RuntimeError(f"expected {count} volumes: {report.counts}")


def _check_store(truths: Mapping[str, VolumeTruth], out: Path) -> float:
    from radiobject_assets.store import RadiObject

    dataset = RadiObject(str(out / "store"))
    (name,) = dataset.collection_names
    collection = dataset.collection(name)
    uids = dict(zip(collection.obs_ids, collection.obs.read()["series_uid"], strict=True))
    if sorted(uids.values()) != sorted(truths):
        raise RuntimeError("the store does not hold every series once")
    return max(truths[uids[v.obs_id]].largest_difference(v.to_numpy(), v.affine) for v in collection)


def _check_nifti(truths: Mapping[str, VolumeTruth], out: Path) -> float:
    import nibabel as nib

    found = {path.name.split(".nii")[0]: nib.load(path) for path in out.glob("*.nii*")}
    if sorted(found) != sorted(truths):
        raise RuntimeError("there is not one file for each series")
    return max(
        truths[uid].largest_difference(np.asarray(image.dataobj), image.affine, tolerance_mm=0.02)
        for uid, image in found.items()
    )


if __name__ == "__main__":
    sys.exit(main())
