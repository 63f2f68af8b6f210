"""Labels of one visit never go with the image of another that has the same grid, however the files arrive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.nifti.visits import visit_of
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget


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
    dataset = DatasetSettings.model_validate({"layout": layout})
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


def test_labels_ingested_again_choose_among_images_as_they_did_the_first_time(tmp_path: Path) -> None:
    stored = nib.Nifti1Image(np.ones((6, 5, 4), np.uint8), np.diag([-1.0, 1.0, 2.0, 1.0]))
    turned = nib.as_closest_canonical(stored)
    for folder, name, image in (
        ("one", "sub-1_T1w.nii.gz", stored),
        ("labels", "sub-1_dseg.nii.gz", turned),
        ("two", "sub-1_T2w.nii.gz", turned),
    ):
        (tmp_path / folder).mkdir()
        nib.save(image, tmp_path / folder / name)
    for folder in ("one", "labels", "two", "labels"):
        report = ingest(tmp_path / folder, tmp_path, "bids")
        assert report.counts["written"] == 1
    assert ingest(tmp_path / "labels", tmp_path, "bids").counts["unchanged"] == 1
    radi = RadiObject(str(tmp_path / "store"))
    (row,) = radi.collection("dseg").to_obs().to_dict("records")
    image = radi.collection(row["labels_of_collection"])[row["labels_of"]]
    assert image.affine[0, 0] == 1.0


def test_an_image_that_moves_away_from_its_stored_labels_says_so(tmp_path: Path) -> None:
    make(tmp_path / "in" / "image", "p1/ct.nii.gz")
    make(tmp_path / "in" / "labels", "p1/seg.nii.gz")
    for folder in ("image", "labels"):
        assert not ingest(tmp_path / "in" / folder, tmp_path, "folders").problems
    moved = np.eye(4)
    moved[0, 3] = 4
    nib.save(
        nib.Nifti1Image(np.ones((6, 5, 4), np.uint8), moved), tmp_path / "in" / "image" / "p1" / "ct.nii.gz"
    )
    report = ingest(tmp_path / "in" / "image", tmp_path, "folders")
    (problem,) = report.problems
    assert "1 label volumes in the store do not lie on their image any more" in problem
    assert report.needs_attention
    nib.save(
        nib.Nifti1Image(np.eye(6, 5, dtype=np.uint8)[..., None].repeat(4, 2), moved),
        tmp_path / "in" / "labels" / "p1" / "seg.nii.gz",
    )
    assert not ingest(tmp_path / "in", tmp_path / "elsewhere", "folders").problems
    assert not ingest(tmp_path / "in" / "labels", tmp_path, "folders").problems
