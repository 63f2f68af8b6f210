"""Near twins: how many are found of twelve changes, which pairs are told that are none, and what it costs.

`python -m benchmarks.near_twins [--data FOLDER] [--images 20] [--phantoms 4] [--signatures 100000]`

Images are real series below `--data` (DICOM or NIfTI) and phantoms. Each is changed in every way
(`perturbations`) and comes in as a NIfTI file of another subject; unless it was resampled, its spacing is
lost. For each change the originals are compared with their changed forms, as the check `near_twins` does
it. Pairs of different images are listed apart: real series may hold the same image twice.

The time for many signatures is that of simulated ones: normal, with the means and spreads of those that were
measured. They cost what real ones cost; who is near whom is not like among real ones.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.measure import show, wide_console, write_json
from benchmarks.perturbations import PERTURBATIONS
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.diagnostics.twin_rules import near_twins
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.profiling.kept_profiles import Thumbnails, keep_profiles, profiles_of
from radiobject_assets.profiling.twin_fit import best_fit
from radiobject_assets.profiling.twin_search import candidate_pairs
from radiobject_assets.store import RadiObject, open_storage
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

_SMALLEST, _LARGEST = 12, 12_000_000
"""Least side, and most voxels, of an image that is taken."""


def originals(sources: list[Path], work: Path, most: int) -> list[tuple[NDArray[np.float32], list[float]]]:
    """Voxels and spacing of images below some folders, evenly chosen."""
    ingest_sources(
        sources, str(work), DatasetSettings(), budget=MemoryBudget(1024), compute=Compute(workers=1)
    )
    rows = read_inventory(str(work))
    rows = rows[rows["kind"] != "labels"].drop_duplicates("voxel_digest").sort_values("obs_id")
    found, store = [], RadiObject(str(work))
    for row in rows.itertuples(index=False):
        volume = store.collection(str(row.collection)).loc[row.obs_id]
        if len(volume.shape) != 3 or min(volume.shape) < _SMALLEST or np.prod(volume.shape) > _LARGEST:
            continue
        found.append((str(row.collection), str(row.obs_id)))
    chosen = [store.collection(name).loc[one] for name, one in found[:: -(-len(found) // most) or 1]]
    return [(np.asarray(one.to_numpy(), np.float32), list(one.spacing_mm)) for one in chosen]


def write(folder: Path, subject: str, voxels: NDArray[np.float32], spacing: list[float]) -> None:
    """A NIfTI file of a subject."""
    (folder / f"sub-{subject}").mkdir(parents=True)
    image = nib.Nifti1Image(voxels, np.diag([*spacing, 1.0]))
    image.to_filename(folder / f"sub-{subject}" / f"sub-{subject}_T1w.nii")


def write_forms(folder: Path, images: list[tuple[NDArray[np.float32], list[float]]]) -> None:
    """Each image as it is, and changed in every way, under a subject of its own."""
    for number, (voxels, spacing) in enumerate(images):
        write(folder, f"{number:03d}o", voxels, spacing)
        for way, change in enumerate(PERTURBATIONS):
            changed = np.asarray(change(voxels.copy(), np.random.default_rng(number)), np.float32)
            resampled = change.__name__.startswith("resampled")
            sizes = zip(spacing, voxels.shape, changed.shape, strict=True)
            told = [one * old / new for one, old, new in sizes] if resampled else [1.0, 1.0, 1.0]
            write(folder, f"{number:03d}p{way:02d}", changed, told)


def found_pairs(uri: str, rows: pd.DataFrame, tables: Any) -> set[tuple[str, str]]:
    """Subjects of the pairs that the check tells."""
    whose = {str(row.volume)[:10]: str(row.obs_subject_id) for row in rows.itertuples()}
    report = near_twins(uri, rows, tables, None, seconds=3600)
    about = [f.about.removeprefix("twins ") for f in report.findings if f.about.startswith("twins ")]
    found = (sorted(whose[token] for token in pair.split("-")) for pair in about)
    return {(first, second) for first, second in found}


def recall(uri: str, tables: Any) -> tuple[list[dict[str, Any]], set[tuple[str, str]]]:
    """For each change how many are found, and all pairs of different images."""
    rows = read_inventory(uri)
    form = rows["obs_subject_id"].str.extract(r"(\d{3})(o|p\d\d)$")
    others: set[tuple[str, str]] = set()
    told = []
    for way, change in enumerate(PERTURBATIONS):
        of_way = rows[form[1].isin(["o", f"p{way:02d}"])]
        n = int((form[1] == f"p{way:02d}").sum())
        pairs = found_pairs(uri, of_way, tables)
        same = {pair for pair in pairs if _image(pair[0]) == _image(pair[1])}
        others |= pairs - same
        told.append(
            {"name": change.__name__, "images": n, "found": len(same), "false": len(pairs) - len(same)}
        )
    return told, others


def _image(subject: str) -> str:
    return subject.rpartition("-")[2][:3]


def seconds(uri: str, tables: Any, count: int) -> list[dict[str, Any]]:
    """What the two steps of a search cost."""
    rows = read_inventory(uri)
    profiles = profiles_of(tables, rows)
    profiles = profiles[profiles["descriptor"].notna()]
    real = np.stack(profiles["descriptor"].tolist()).astype(np.float32)
    random = np.random.default_rng(0)
    simulated = real.mean(0) + random.normal(size=(count, real.shape[1])) * real.std(0)
    started = time.perf_counter()
    pairs = candidate_pairs(simulated.astype(np.float32), [str(number) for number in range(count)])
    searched = time.perf_counter() - started
    thumbnails = Thumbnails(tables)
    cubes = [cube for state in profiles["state"][:8] if (cube := thumbnails.get(state)) is not None]
    started = time.perf_counter()
    for cube in cubes[1:]:
        best_fit(cubes[0], cube)
    fit = (time.perf_counter() - started) / max(1, len(cubes) - 1)
    return [
        {"name": f"candidates among {count:,} simulated signatures", "s": round(searched, 1)},
        {"name": "their number", "s": len(pairs)},
        {"name": "one pair of thumbnails", "s": round(fit, 3)},
    ]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with real series")
    parser.add_argument("--images", type=int, default=20, help="of them at most so many")
    parser.add_argument("--phantoms", type=int, default=4)
    parser.add_argument("--signatures", type=int, default=100_000)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        images = originals([wanted.data], home / "real", wanted.images) if wanted.data else []
        n_real = len(images)
        if wanted.phantoms:
            make_cohort(home / "phantoms", subjects=wanted.phantoms, seed=11, shape=(64, 64, 32))
            images += originals([home / "phantoms"], home / "phantom", wanted.phantoms)
        write_forms(home / "forms", images)
        uri, tables = str(home / "store"), open_storage(str(home / "tables"), None)
        ingest_sources(
            [home / "forms"], uri, DatasetSettings(), budget=MemoryBudget(1024), compute=Compute(workers=1)
        )
        keep_profiles(tables, uri, read_inventory(uri))
        told, others = recall(uri, tables)
        spent = seconds(uri, tables, wanted.signatures)
    console = wide_console()
    title = f"Near twins of {n_real} real images and {len(images) - n_real} phantoms"
    columns = {"name": "change", "images": "images", "found": "found", "false": "pairs of different images"}
    show(title, told, columns, console)
    show("Cost", spent, {"name": "what", "s": "seconds, or number"}, console)
    pairs = sorted({(_image(a), _image(b)) for a, b in others})
    console.print("pairs of different images, by number (the first are the real ones):", pairs)
    write_json("near_twins", {"title": title, "recall": told, "different": pairs, "cost": spent})


if __name__ == "__main__":
    main()
