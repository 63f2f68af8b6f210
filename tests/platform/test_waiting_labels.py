"""Labels that arrive before their image wait for it, and are taken in when it is there: the real sensors."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pydicom
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.headless import Pass, open_instance, run_pass
from radiobject_assets.store import RadiObject

SHAPE = (48, 48, 24)


def dataset(home: Path) -> DatasetSettings:
    return DatasetSettings.model_validate(
        {
            "folder": home,
            "collections": {
                "ct": {"match": {"modality": "CT"}},
                "seg": {"match": {"modality": "SEG"}, "kind": "labels", "labels_of": "ct"},
            },
            "arrivals": {"quiet_period_s": 0, "trusted_names": "[a-z]+"},
        }
    )


def one_pass(config: DatasetSettings) -> Pass:
    with open_instance(config.folder / "dagster") as instance:
        return run_pass(build_definitions(config), instance)


def taken_in(done: Pass) -> list[str]:
    assert done.failed == ()
    return [run.what for run in done.arrivals]


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path]:
    """Folders outside the landing zone: the images of a subject, and the labels drawn on one of them."""
    (tmp_path / "landing").mkdir()
    make_subject(tmp_path / "made", 1, arrival="images", shape=SHAPE)
    labels = tmp_path / "made" / "labels"
    labels.mkdir()
    for path in sorted((tmp_path / "made" / "images").rglob("*")):
        is_dicom = path.is_file() and pydicom.misc.is_dicom(path)
        if is_dicom and pydicom.dcmread(path, stop_before_pixels=True).get("Modality") == "SEG":
            path.rename(labels / path.name)
    return tmp_path / "made" / "images", labels


@pytest.mark.slow
def test_labels_are_taken_in_when_their_image_has_come(parts: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = parts
    config = dataset(tmp_path)
    shutil.move(labels, tmp_path / "landing" / "labels")
    assert taken_in(one_pass(config)) == ["labels"]
    table = pd.read_parquet(tmp_path / "work" / "waiting" / "labels" / "seg.parquet")
    assert list(table["image_collection"]) == ["ct"]
    assert len(table["image_series_uids"][0]) == 1

    shutil.move(images, tmp_path / "landing" / "images")
    assert taken_in(one_pass(config)) == ["images", "labels"]
    rows = RadiObject(str(tmp_path / "store")).collection("seg").to_obs().reset_index()
    assert list(rows["arrival"]) == ["labels"]
    assert not list((tmp_path / "work" / "waiting").rglob("*.parquet"))
    assert one_pass(config).runs == ()
