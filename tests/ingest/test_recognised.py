"""Images in files of their own that come again: in a renamed delivery, under another path, as a copy."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.ingest import IngestReport, ingest_sources, plan_ingest, run_ingest
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

DATASET = DatasetSettings.model_validate(
    {
        "collections": {
            "image": {"match": {"files": ["*_T1w.*"]}},
            "seg": {"match": {"files": ["*_seg.*"]}, "kind": "labels", "labels_of": "image"},
            "ct": {"match": {"modality": "CT"}},
        }
    }
)
SMALL = {"budget": MemoryBudget(512), "compute": Compute(workers=1)}
ENDINGS = [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"]


def write(folder: Path, name: str, seed: int, ending: str = ".nii.gz", high: int = 1000) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, high, (6, 7, 8)).astype("i2")
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / f"{name}{ending}"))


def delivery(folder: Path, ending: str = ".nii.gz", subject: str = "sub-01") -> Path:
    """An image and its labels."""
    write(folder / subject, f"{subject}_T1w", 1, ending)
    write(folder / subject, f"{subject}_seg", 2, ending, high=3)
    return folder


def take_in(
    folder: Path, store: Path, arrival: str, present: Collection[str] | None, collection: str | None = None
) -> IngestReport:
    plan = plan_ingest(scan([folder]), DATASET, arrival=arrival)
    chosen = None if collection is None else [collection]
    return run_ingest(plan, str(store), collections=chosen, present=present, **SMALL)


def rows(store: Path, name: str) -> pd.DataFrame:
    return RadiObject(str(store)).collection(name).to_obs().reset_index()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_renamed_delivery_keeps_its_volumes(tmp_path: Path, ending: str) -> None:
    store = tmp_path / "store"
    folder = delivery(tmp_path / "march", ending)
    take_in(folder, store, "march", {"march"})
    before = {name: rows(store, name) for name in ("image", "seg")}
    report = take_in(folder.rename(tmp_path / "april"), store, "april", {"april"})
    assert {o.status for o in report.outcomes} == {"updated"}
    for name, row in before.items():
        after = rows(store, name)
        assert after[["obs_id", "volume", "labels_of"]].equals(row[["obs_id", "volume", "labels_of"]])
        assert list(after["arrival"]) == ["april"]
    again = take_in(tmp_path / "april", store, "april", {"april"})
    assert {o.status for o in again.outcomes} == {"unchanged"}
    assert {o.obs_id for o in again.outcomes} == {*before["image"]["obs_id"], *before["seg"]["obs_id"]}


def test_so_does_one_whose_collections_are_taken_in_one_by_one(tmp_path: Path) -> None:
    store = tmp_path / "store"
    folder = delivery(tmp_path / "march")
    take_in(folder, store, "march", {"march"})
    folder = folder.rename(tmp_path / "april")
    for name in ("image", "seg"):
        take_in(folder, store, "april", {"april"}, collection=name)
        assert list(rows(store, name)["arrival"]) == ["april"]


def test_a_file_that_moves_within_its_arrival_is_no_second_volume(tmp_path: Path) -> None:
    store = tmp_path / "store"
    folder = delivery(tmp_path / "march")
    take_in(folder, store, "march", {"march"})
    (folder / "sub-01").rename(folder / "corrected")
    report = take_in(folder, store, "march", {"march"})
    assert "written" not in {o.status for o in report.outcomes}
    assert (len(rows(store, "image")), len(rows(store, "seg"))) == (1, 1)


def test_a_session_that_is_corrected_is_followed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write(tmp_path / "march", "sub-01_ses-1_T1w", 1)
    take_in(tmp_path / "march", store, "march", {"march"})
    write(tmp_path / "april", "sub-01_ses-2_T1w", 1)
    take_in(tmp_path / "april", store, "april", {"april"})
    assert list(rows(store, "image")["session"]) == ["2"]


def test_a_copy_beside_its_original_is_told_and_not_taken_in(tmp_path: Path) -> None:
    store = tmp_path / "store"
    take_in(delivery(tmp_path / "march"), store, "march", {"march"})
    report = take_in(delivery(tmp_path / "april"), store, "april", {"march", "april"})
    assert {o.status for o in report.outcomes} == {"unchanged"}
    assert all("copy of what the store has" in o.detail for o in report.outcomes)
    assert list(rows(store, "image")["arrival"]) == ["march"]


def test_what_is_named_as_another_session_is_taken_in_while_the_first_is_there(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write(tmp_path / "march", "sub-01_ses-1_T1w", 1)
    write(tmp_path / "april", "sub-01_ses-2_T1w", 1)
    take_in(tmp_path / "march", store, "march", {"march"})
    take_in(tmp_path / "april", store, "april", {"march", "april"})
    assert sorted(rows(store, "image")["session"]) == ["1", "2"]


def test_two_subjects_are_never_merged(tmp_path: Path) -> None:
    store = tmp_path / "store"
    take_in(delivery(tmp_path / "march"), store, "march", {"march"})
    take_in(delivery(tmp_path / "april", subject="sub-02"), store, "april", {"april"})
    assert sorted(rows(store, "image")["obs_subject_id"]) == ["sub-01", "sub-02"]
    assert len(rows(store, "seg")) == 2


def test_empty_labels_of_a_new_image_are_not_those_of_the_one_that_is_gone(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for number, arrival in enumerate(("march", "april")):
        write(tmp_path / arrival, "sub-01_T1w", number)
        write(tmp_path / arrival, "sub-01_seg", 9, high=1)
        take_in(tmp_path / arrival, store, arrival, {arrival})
    labels = rows(store, "seg").set_index("arrival")["labels_of"]
    images = rows(store, "image").set_index("arrival")["obs_id"]
    assert labels.to_dict() == images.to_dict()
    assert len(labels) == 2


def test_labels_that_come_alone_are_known_by_their_path(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write(tmp_path / "images", "sub-01_T1w", 1)
    write(tmp_path / "march", "sub-01_seg", 2, high=3)
    take_in(tmp_path / "images", store, "images", {"images"})
    take_in(tmp_path / "march", store, "march", {"images", "march"})
    before = rows(store, "seg")
    take_in((tmp_path / "march").rename(tmp_path / "april"), store, "april", {"images", "april"})
    after = rows(store, "seg")
    assert list(after["arrival"]) == ["april"]
    assert list(after["volume"]) == list(before["volume"])


def test_another_image_under_the_same_path_is_another_volume(tmp_path: Path) -> None:
    store = tmp_path / "store"
    take_in(delivery(tmp_path / "march"), store, "march", {"march"})
    write(tmp_path / "april" / "sub-01", "sub-01_T1w", 77)
    take_in(tmp_path / "april", store, "april", {"april"})
    assert sorted(rows(store, "image")["arrival"]) == ["april", "march"]


def test_a_dicom_series_follows_its_delivery_too(tmp_path: Path) -> None:
    store = tmp_path / "store"
    make_subject(tmp_path / "in", 1, arrival="march", shape=(48, 48, 24))
    take_in(tmp_path / "in" / "march", store, "march", {"march"}, collection="ct")
    before = rows(store, "ct")
    (tmp_path / "in" / "march").rename(tmp_path / "in" / "april")
    take_in(tmp_path / "in" / "april", store, "april", {"april"}, collection="ct")
    after = rows(store, "ct")
    assert set(after["arrival"]) == {"april"}
    assert list(after["volume"]) == list(before["volume"])
    # the first comes back as well: the volumes stay with the one that they are with
    make_subject(tmp_path / "in", 1, arrival="march", shape=(48, 48, 24))
    take_in(tmp_path / "in" / "march", store, "march", {"march", "april"}, collection="ct")
    assert set(rows(store, "ct")["arrival"]) == {"april"}


def test_the_command_line_knows_a_renamed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    store = tmp_path / "store"
    folder = delivery(tmp_path / "march")
    ingest_sources([folder], str(store), DATASET, **SMALL)
    report = ingest_sources([folder.rename(tmp_path / "april")], str(store), DATASET, **SMALL)
    assert {o.status for o in report.outcomes} == {"unchanged"}
    assert (len(rows(store, "image")), len(rows(store, "seg"))) == (1, 1)


def test_a_name_that_is_used_again_and_again_holds_one_volume(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "march"
    present: set[str] = set()
    for number, later in enumerate(("april", "may")):
        for seed in (10 * number + 1, 10 * number + 2):
            write(folder / "sub-01", "sub-01_T1w", seed)
            take_in(folder, store, "march", {"march", *present})
        assert sorted(rows(store, "image")["arrival"]) == sorted([*present, "march"])
        present.add(later)
        take_in(folder.rename(tmp_path / later), store, later, present)
        assert sorted(rows(store, "image")["arrival"]) == sorted(present)
    digests = list(rows(store, "image")["voxel_digest"])
    write(folder / "sub-01", "sub-01_T1w", 30)
    take_in(folder, store, "march", {"march", *present})
    after = rows(store, "image")
    assert sorted(after["arrival"]) == ["april", "march", "may"]
    assert set(digests) < set(after["voxel_digest"])
