"""Taking in again what was taken in before, when only what is said of the images has changed."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

COLLECTIONS = {
    "ct": {"match": {"modality": "CT"}},
    "seg": {"match": {"modality": "SEG"}, "kind": "labels", "labels_of": "ct"},
    "t1w": {"match": {"files": "*_T1w.nii.gz"}},
}


def dataset(**more: object) -> DatasetSettings:
    return DatasetSettings.model_validate({"collections": COLLECTIONS, **more})


def ingest(source: Path, store: Path, config: DatasetSettings | None = None) -> IngestReport:
    return ingest_sources(
        [source], str(store), config or dataset(), budget=MemoryBudget(512), compute=Compute(workers=1)
    )


def row(store: Path, collection: str) -> dict[str, object]:
    """The first row by id; the phantom's subject has two CT series and one of everything else."""
    rows = RadiObject(str(store)).collection(collection).to_obs().reset_index()
    return {name: None if pd.isna(value) else value for name, value in rows.iloc[0].items()}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2, 2, 1])), folder / "sub-1_T1w.nii.gz")
    (folder / "sub-1_T1w.json").write_text('{"EchoTime": 0.004, "Manufacturer": "Alpha"}', encoding="utf-8")
    return folder


def test_a_changed_sidecar_changes_the_row_and_not_the_voxels(image: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    ingest(image, store)
    before = row(store, "t1w")
    (image / "sub-1_T1w.json").write_text('{"EchoTime": 0.009}', encoding="utf-8")
    report = ingest(image, store)
    after = row(store, "t1w")
    assert report.counts["updated"] == 1
    assert report.counts["bytes_written"] == 0
    assert after["echo_time_ms"] == pytest.approx(9.0)
    assert after["manufacturer"] is None
    assert (after["volume"], after["voxel_digest"]) == (before["volume"], before["voxel_digest"])
    assert ingest(image, store).counts["unchanged"] == 1


def test_a_sidecar_that_comes_later_or_goes_away_is_followed(image: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    text = (image / "sub-1_T1w.json").read_text(encoding="utf-8")
    (image / "sub-1_T1w.json").unlink()
    ingest(image, store)
    assert "echo_time_ms" not in row(store, "t1w")
    (image / "sub-1_T1w.json").write_text(text, encoding="utf-8")
    assert ingest(image, store).counts["updated"] == 1
    assert row(store, "t1w")["echo_time_ms"] == pytest.approx(4.0)
    (image / "sub-1_T1w.json").unlink()
    assert ingest(image, store).counts["updated"] == 1
    assert row(store, "t1w")["echo_time_ms"] is None


def test_columns_of_users_survive(image: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    ingest(image, store)
    rows = RadiObject(str(store)).collection("t1w").obs
    rows.add_column("rated_by_hand", str, "good")
    (image / "sub-1_T1w.json").write_text(json.dumps({"EchoTime": 0.005}), encoding="utf-8")
    ingest(image, store)
    assert row(store, "t1w")["rated_by_hand"] == "good"
    assert row(store, "t1w")["echo_time_ms"] == pytest.approx(5.0)


def test_another_allow_list_reaches_rows_that_are_there(tmp_path: Path) -> None:
    store = tmp_path / "store"
    make_subject(tmp_path / "in", 1, shape=(48, 48, 24))
    first = ingest(tmp_path / "in", store)
    tokens = row(store, "ct")["volume"], row(store, "seg")["volume"]
    wider = ingest(tmp_path / "in", store, dataset(attributes=["SeriesDescription", "StudyDate"]))
    assert wider.counts["updated"] == 3  # two CT series and the labels; NIfTI has no such attributes
    assert wider.counts["updated"] + wider.counts["unchanged"] == first.counts["written"]
    assert row(store, "ct")["series_description"]
    narrower = ingest(tmp_path / "in", store, dataset(attributes=["StudyDate"]))
    assert narrower.counts["updated"] == wider.counts["updated"]
    assert row(store, "ct")["series_description"] is None
    assert row(store, "ct")["study_date"]
    assert (row(store, "ct")["volume"], row(store, "seg")["volume"]) == tokens


def test_labels_are_drawn_anew_when_their_image_goes_to_another_collection(tmp_path: Path) -> None:
    store = tmp_path / "store"
    make_subject(tmp_path / "in", 1, shape=(48, 48, 24))
    ingest(tmp_path / "in", store)
    moved = {
        "thin": {"match": {"modality": "CT"}},
        "seg": {**COLLECTIONS["seg"], "labels_of": "thin"},
        "t1w": COLLECTIONS["t1w"],
    }
    report = ingest(tmp_path / "in", store, dataset(collections=moved))
    assert {o.collection: o.status for o in report.outcomes if o.collection in ("thin", "seg")} == {
        "thin": "written",
        "seg": "written",
    }
    labels = row(store, "seg")
    assert labels["labels_of_collection"] == "thin"
    assert labels["labels_of"] in RadiObject(str(store)).collection("thin").obs_ids
