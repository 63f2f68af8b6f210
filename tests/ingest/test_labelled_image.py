"""NIfTI labels go with the image that they were drawn on, also where several images have one grid."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

sys.path.insert(0, str(Path(__file__).parent.parent / "imaging"))

from dicom_files import ramp, write_stack
from structure_sets import write_rtstruct

DATASET = DatasetSettings.model_validate(
    {
        "collections": {
            "t1w": {"match": {"files": "*_T1w.nii.gz"}},
            "t2w": {"match": {"files": "*_T2w.nii.gz"}},
            "lesion": {"match": {"files": "*_mask.nii.gz"}, "kind": "labels"},
        }
    }
)
AFFINE = np.array([[-0.8, 0.1, 0, 10], [0.1, 0.8, 0.05, -20], [0, -0.05, 2.5, 30], [0, 0, 0, 1]])


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def study(folder: Path, *names: str, affine: Any = AFFINE) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), affine), path)
    return folder


def ingest(source: Path, tmp_path: Path) -> IngestReport:
    store = str(tmp_path / "store")
    return ingest_sources([source], store, DATASET, budget=MemoryBudget(256), compute=Compute(workers=1))


def pairs(tmp_path: Path) -> dict[tuple[Any, Any], tuple[Any, Any, str]]:
    """By session and run of labels: those of their image, and its collection."""
    radi = RadiObject(str(tmp_path / "store"))
    found = {}
    for row in radi.collection("lesion").to_obs().to_dict("records"):
        images = radi.collection(row["labels_of_collection"]).to_obs().set_index("obs_id")
        image = images.loc[row["labels_of"]]
        found[row.get("session"), row.get("run")] = (
            image.get("session"),
            image.get("run"),
            str(row["labels_of_collection"]),
        )
    return found


def test_labels_of_a_session_and_run_go_with_its_image(tmp_path: Path) -> None:
    names = [
        f"sub-1/ses-{session}/anat/sub-1_ses-{session}_run-{run}_{kind}.nii.gz"
        for session in ("a", "b")
        for run in (1, 2)
        for kind in ("T1w", "T2w", "mask")
    ]
    report = ingest(study(tmp_path / "in", *names), tmp_path)
    assert not report.quarantined_by_reason
    assert pairs(tmp_path) == {(s, r): (s, r, "t1w") for s in ("a", "b") for r in (1, 2)}
    again = ingest(tmp_path / "in", tmp_path)
    assert {outcome.status for outcome in again.outcomes} == {"unchanged"}


def test_labels_do_not_go_with_the_image_of_another_session_but_wait_for_their_own(tmp_path: Path) -> None:
    first = study(tmp_path / "first", "sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz")
    study(first, "sub-1/ses-b/anat/sub-1_ses-b_mask.nii.gz")
    report = ingest(first, tmp_path)
    assert report.quarantined_by_reason == {"reference_missing": 1}
    report = ingest(study(tmp_path / "second", "sub-1/ses-b/anat/sub-1_ses-b_T1w.nii.gz"), tmp_path)
    assert [outcome.collection for outcome in report.resolved] == ["lesion"]
    ((image, _, _),) = pairs(tmp_path).values()
    assert image == "b"


def test_labels_that_could_be_those_of_several_images_are_a_reason(tmp_path: Path) -> None:
    names = [f"sub-1/ses-{session}/anat/sub-1_ses-{session}_T1w.nii.gz" for session in ("a", "b")]
    report = ingest(study(tmp_path / "in", *names, "sub-1/sub-1_mask.nii.gz"), tmp_path)
    assert report.quarantined_by_reason == {"reference_ambiguous": 1}


def test_the_grid_decides_where_names_say_nothing(tmp_path: Path) -> None:
    other = AFFINE + np.array([[0, 0, 0, 3.0]] + [[0] * 4] * 3)
    folder = study(tmp_path / "in", "sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz", affine=other)
    study(folder, "sub-1/ses-b/anat/sub-1_ses-b_T1w.nii.gz")
    noise = np.vstack([np.random.default_rng(0).normal(0, 1e-4, (3, 4)), np.zeros(4)])
    study(folder, "sub-1/sub-1_mask.nii.gz", affine=AFFINE + noise)
    assert not ingest(folder, tmp_path).quarantined_by_reason
    ((image, _, _),) = pairs(tmp_path).values()
    assert image == "b"


@pytest.mark.parametrize("drawn_on", [0, 1])
def test_contours_go_with_the_stack_that_they_are_drawn_on_in_a_series_of_two(
    tmp_path: Path, drawn_on: int
) -> None:
    stacks = [tmp_path / "in" / name for name in ("axial", "coronal")]
    planes = [((1, 0, 0, 0, 1, 0), (0, 0, 2)), ((1, 0, 0, 0, 0, -1), (0, 2, 0))]
    for number, (folder, (orientation, step)) in enumerate(zip(stacks, planes, strict=True)):

        def change(ds: Any, k: int, number: int = number) -> None:
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number + 1}.{k + 1}"

        write_stack(folder, ramp(6, 12, 10), orientation=orientation, step=step, change=change)
    axes = np.array(planes[drawn_on][0], float).reshape(2, 3)
    square = np.array([(2, 2), (6, 2), (6, 6), (2, 6)], float) @ axes + np.array(planes[drawn_on][1]) * 3
    write_rtstruct(stacks[drawn_on], {"Organ": [square]})
    store = str(tmp_path / "store")
    report = ingest_sources(
        [tmp_path / "in"], store, DatasetSettings(), budget=MemoryBudget(256), compute=Compute(workers=1)
    )
    assert not report.quarantined_by_reason
    radi = RadiObject(store)
    (labels,) = radi.collection("rtstruct").to_obs().to_dict("records")
    images = radi.collection("ct").to_obs().set_index("obs_id")
    assert len(images) == 2
    image = images.loc[labels["labels_of"]]
    for column in ("affine_02", "affine_12", "affine_22"):
        assert image[column] == labels[column]
    assert np.count_nonzero(radi.collection("rtstruct")[str(labels["obs_id"])].to_numpy()) == 16


PLAIN = {
    "subjects": {"file_name": "^(?P<subject>[^/]+)/"},
    "collections": {
        "mr": {
            "match": {
                "files": ["*t1*.nii.gz", "*t2*.nii.gz", "*flair.nii.gz", "*_T1w.nii.gz", "*_000?.nii.gz"]
            }
        },
        "lesion": {"match": {"files": ["*seg.nii.gz", "labelsTr/*"]}, "kind": "labels"},
    },
}


def plain(source: Path, tmp_path: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Reasons, and by file of labels: that of their image."""
    data = {**PLAIN, "collections": dict(reversed(PLAIN["collections"].items()))}
    report = ingest_sources(
        [source], str(tmp_path / "store"), DatasetSettings.model_validate(data),
        budget=MemoryBudget(256), compute=Compute(workers=1),
    )  # fmt: skip
    files = {
        outcome.obs_id: Path(outcome.source).relative_to(source).as_posix() for outcome in report.outcomes
    }
    found = {}
    if "lesion" in (radi := RadiObject(str(tmp_path / "store"))).collection_names:
        for row in radi.collection("lesion").to_obs().to_dict("records"):
            found[files[row["obs_id"]]] = files[row["labels_of"]]
    return report.quarantined_by_reason, found


def test_labels_of_registered_contrasts_in_one_collection_and_folder_are_taken(tmp_path: Path) -> None:
    folder = study(
        tmp_path / "in", *(f"p{n}/{k}.nii.gz" for n in (1, 2) for k in ("t1", "t2", "flair", "seg"))
    )
    for _ in range(2):  # the second time they are there, and stay
        assert plain(folder, tmp_path) == (
            {}, {"p1/seg.nii.gz": "p1/flair.nii.gz", "p2/seg.nii.gz": "p2/flair.nii.gz"}
        )  # fmt: skip


def test_labels_whose_name_tells_the_contrast_go_with_it(tmp_path: Path) -> None:
    names = ("p_t1", "p_t2", "p_flair", "p_t2_seg")
    folder = study(tmp_path / "in", *(f"p/{name}.nii.gz" for name in names))
    assert plain(folder, tmp_path) == ({}, {"p/p_t2_seg.nii.gz": "p/p_t2.nii.gz"})


def test_folders_or_names_of_visits_keep_labels_apart(tmp_path: Path) -> None:
    visits = [f"p/{visit}/{kind}.nii.gz" for visit in ("a", "b") for kind in ("t1", "t2", "seg")]
    named = [f"q/q_{visit}_{kind}.nii.gz" for visit in ("a", "b") for kind in ("t1", "t2", "seg")]
    reasons, found = plain(study(tmp_path / "in", *visits, *named), tmp_path)
    assert not reasons
    assert found == {path.replace("t1", "seg"): path for path in visits + named if "t1" in path}


def test_labels_that_do_not_tell_their_visit_are_a_reason(tmp_path: Path) -> None:
    names = ["p/a_t1", "p/b_t1", "p/seg", "q/a/t1", "q/b/t1", "q/seg"]
    reasons, found = plain(study(tmp_path / "in", *(f"{name}.nii.gz" for name in names)), tmp_path)
    assert (reasons, found) == ({"reference_ambiguous": 2}, {})


def test_labels_go_with_the_channels_of_their_case(tmp_path: Path) -> None:
    names = [f"d/imagesTr/c{case}_000{channel}" for case in (1, 2) for channel in (0, 1)]
    folder = study(
        tmp_path / "in", *(f"{name}.nii.gz" for name in [*names, "d/labelsTr/c1", "d/labelsTr/c2"])
    )
    reasons, found = plain(folder, tmp_path)
    assert not reasons
    assert found == {f"d/labelsTr/c{n}.nii.gz": f"d/imagesTr/c{n}_0000.nii.gz" for n in (1, 2)}
