"""Labels handed to `ingest` before their image: a later call with the image takes them in as well."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.ingest.labels_on_images.waiting_list import WaitingList
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

DATASET = DatasetSettings.model_validate(
    {
        "collections": {
            "ct": {"match": {"modality": "CT"}},
            "seg": {"match": {"modality": "SEG"}, "kind": "labels", "labels_of": "ct"},
            "t1w": {"match": {"files": "*_T1w.nii.gz"}},
            "lesion": {"match": {"files": "*_mask.nii.gz"}, "kind": "labels", "labels_of": "t1w"},
        }
    }
)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def ingest(source: Path, tmp_path: Path, dataset: DatasetSettings = DATASET) -> IngestReport:
    store = str(tmp_path / "store")
    return ingest_sources([source], store, dataset, budget=MemoryBudget(512), compute=Compute(workers=1))


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of images, and one of the DICOM labels that are drawn on one of them."""
    make_subject(tmp_path / "in", 1, arrival="images", shape=(48, 48, 24))
    labels = tmp_path / "in" / "labels"
    labels.mkdir()
    for path in sorted((tmp_path / "in" / "images").rglob("*")):
        is_dicom = path.is_file() and pydicom.misc.is_dicom(path)
        if is_dicom and pydicom.dcmread(path, stop_before_pixels=True).get("Modality") == "SEG":
            path.rename(labels / path.name)
    return tmp_path / "in" / "images", labels


def nifti(path: Path, value: int, size: int = 4) -> Path:
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(np.full((size, 5, 6), value, np.uint8), np.eye(4)), path)
    return path.parent


def kept(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "state").rglob("*.json"))


def test_labels_of_the_first_call_are_in_after_the_second(drawn: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = drawn
    first = ingest(labels, tmp_path)
    assert [o.reason for o in first.outcomes] == ["reference_missing"]
    (listed,) = kept(tmp_path)
    assert stat.S_IMODE(listed.stat().st_mode) == 0o600
    second = ingest(images, tmp_path)
    assert [(o.collection, o.status) for o in second.resolved] == [("seg", "written")]
    # what is accounted for is what was handed in
    assert second.counts["files"] == sum(path.is_file() for path in images.rglob("*"))
    assert json.loads(json.dumps(second.to_json()))["resolved"][0]["obs_id"]
    (row,) = RadiObject(str(tmp_path / "store")).collection("seg").to_obs().to_dict("records")
    assert row["labels_of"] in RadiObject(str(tmp_path / "store")).collection("ct").obs_ids
    assert not kept(tmp_path)
    assert ingest(images, tmp_path).resolved == ()


def test_nothing_of_the_list_is_in_the_store(drawn: tuple[Path, Path], tmp_path: Path) -> None:
    _, labels = drawn
    ingest(labels, tmp_path)
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            assert str(labels).encode() not in path.read_bytes()


def test_labels_whose_files_are_gone_are_left_alone(drawn: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = drawn
    ingest(labels, tmp_path)
    for path in labels.iterdir():
        path.unlink()
    assert ingest(images, tmp_path).resolved == ()


def test_nifti_labels_wait_for_an_image_of_their_subject_and_grid(tmp_path: Path) -> None:
    ingest(nifti(tmp_path / "labels" / "sub-1_mask.nii.gz", 1), tmp_path)
    other = ingest(nifti(tmp_path / "other" / "sub-2_T1w.nii.gz", 9), tmp_path)
    small = ingest(nifti(tmp_path / "small" / "sub-1_T1w.nii.gz", 9, size=3), tmp_path)
    assert other.resolved == small.resolved == ()
    # tried with the small image, and not again until there is another one
    assert WaitingList(str(tmp_path / "store"), DATASET).ready() == ()
    right = ingest(nifti(tmp_path / "right" / "sub-1_T1w.nii.gz", 9), tmp_path)
    assert [o.collection for o in right.resolved] == ["lesion"]


def test_the_list_lies_beside_dataset_yaml_where_there_is_one(
    drawn: tuple[Path, Path], tmp_path: Path
) -> None:
    own = DATASET.model_copy(update={"folder": tmp_path / "study"})
    ingest(drawn[1], tmp_path, own)
    assert not kept(tmp_path)
    assert len(list((tmp_path / "study" / "work" / "waiting").iterdir())) == 1


def test_a_damaged_list_is_no_list(drawn: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = drawn
    ingest(labels, tmp_path)
    kept(tmp_path)[0].write_text("{ damaged", encoding="utf-8")
    assert ingest(images, tmp_path).resolved == ()
