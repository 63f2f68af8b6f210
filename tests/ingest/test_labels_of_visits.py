"""Labels of one visit never go with the image of another that has the same grid, however the files arrive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.compute import Compute
from radiobject_assets.dataset import DatasetConfig
from radiobject_assets.imaging.visits import visit_of
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.memory import MemoryBudget
from radiobject_assets.store import RadiObject


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(sum(map(ord, name))).integers(0, 2, (6, 5, 4)).astype(np.uint8)
        nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return folder


def ingest(source: Path, tmp_path: Path, layout: str) -> IngestReport:
    dataset = DatasetConfig.model_validate({"layout": layout})
    store = str(tmp_path / "store")
    return ingest_sources([source], store, dataset, budget=MemoryBudget(256), compute=Compute(workers=1))


def reasons(report: IngestReport) -> list[Any]:
    return [outcome.reason for outcome in report.outcomes if outcome.reason is not None]


@pytest.mark.parametrize(
    ("layout", "image", "labels"),
    [
        ("brats", "B-100/BraTS-GLI-00005-100-t1c.nii.gz", "B-101/BraTS-GLI-00005-101-seg.nii.gz"),
        ("folders", "p1/ses-1/ct.nii.gz", "p1/ses-2/seg.nii.gz"),
        ("folders", "p1/v1_ct.nii.gz", "p1/v2_seg.nii.gz"),
        ("folders", "p1/20200101/ct.nii.gz", "p1/20210305/seg.nii.gz"),
        ("bids", "sub-01_ses-1_T1w.nii.gz", "sub-01_ses-2_dseg.nii.gz"),
    ],
)
def test_labels_of_a_visit_without_an_image_wait_for_it(
    layout: str, image: str, labels: str, tmp_path: Path
) -> None:
    report = ingest(make(tmp_path / "in", image, labels), tmp_path, layout)
    assert reasons(report) == ["reference_missing"]
    assert report.counts["written"] == 1


def test_visits_that_arrive_in_runs_of_their_own_are_told_apart(tmp_path: Path) -> None:
    for visit in ("100", "101"):
        names = [f"BraTS-GLI-00005-{visit}-{what}.nii.gz" for what in ("t1c", "seg")]
        assert reasons(ingest(make(tmp_path / visit, *names), tmp_path, "brats")) == []
    radi = RadiObject(str(tmp_path / "store"))
    images = radi.collection("t1c").to_obs().set_index("obs_id")
    labels = radi.collection("labels").to_obs()
    assert list(labels["session"]) == [images.loc[name, "session"] for name in labels["labels_of"]]
    assert set(labels["session"]) == {"100", "101"}


@pytest.mark.parametrize(
    ("path", "visit"),
    [
        ("p1/visit02/ct.nii.gz", "2"),
        ("p1/ses-M06/ct.nii.gz", "m06"),
        ("p1_baseline_ct.nii.gz", "baseline"),
        ("ses-1/seg_v2.nii.gz", "1"),
        ("ses-JohnDoe/ct.nii.gz", None),
        ("p1/5_T1.nii.gz", None),
        ("BraTS2021_00000_seg.nii.gz", None),
        ("case_0001_0000.nii.gz", None),
    ],
)
def test_only_plain_marks_of_a_visit_count(path: str, visit: str | None) -> None:
    assert visit_of(path) == visit
