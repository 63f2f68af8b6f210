"""What is exported as BIDS can be taken in again: sessions and runs stay, and labels find their image."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.export.nifti_files import export_store
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.ingest.report import IngestReport
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

BIDS = DatasetSettings(layout="bids")


def make(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = np.full((6, 5, 4), 0 if "_dseg" in name else number + 10, np.int16)
        voxels.flat[number] = 1
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def take_in(source: Path, store: Path) -> IngestReport:
    return ingest_sources([source], str(store), BIDS, budget=MemoryBudget(256), compute=Compute(workers=1))


def pairs(store: Path) -> dict[str, str]:
    """Voxels of labels to those of their image."""
    radi = RadiObject(str(store))
    digests = {
        row["obs_id"]: row["voxel_digest"]
        for name in radi.collection_names
        for row in radi.collection(name).to_obs().to_dict("records")
    }
    labels = radi.collection("dseg").to_obs().to_dict("records")
    return {row["voxel_digest"]: digests[row["labels_of"]] for row in labels}


@pytest.mark.parametrize(
    "cases",
    [
        ["ses-1/anat/sub-01_ses-1", "ses-2/anat/sub-01_ses-2"],
        ["anat/sub-01_run-1", "anat/sub-01_run-2", "anat/sub-01"],
        ["anat/sub-01_acq-fast", "anat/sub-01_acq-slow"],
    ],
)
def test_labels_find_their_image_in_a_store_of_the_export(tmp_path: Path, cases: list[str]) -> None:
    make(tmp_path / "in", [f"sub-01/{case}_{kind}.nii.gz" for case in cases for kind in ("T1w", "dseg")])
    first = take_in(tmp_path / "in", tmp_path / "store")
    assert {outcome.status for outcome in first.outcomes} == {"written"}
    out = tmp_path / "out"
    names = [
        path.relative_to(out).as_posix() for path in export_store(str(tmp_path / "store"), out, layout="bids")
    ]
    for told in ("ses-1/", "_ses-1_", "_run-2_"):
        assert sum(told in name for name in names) == 2 * any(told.strip("_/") in case for case in cases)
    again = take_in(out, tmp_path / "again")
    assert {outcome.status for outcome in again.outcomes} == {"written"}
    assert {outcome.reason for outcome in again.outcomes} == {None}
    assert pairs(tmp_path / "again") == pairs(tmp_path / "store")
    assert len(pairs(tmp_path / "again")) == len(cases)
