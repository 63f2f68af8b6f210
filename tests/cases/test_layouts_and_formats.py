"""Public layouts and other tools' formats: subjects are told apart, formats are read or named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from case_run import differences, take_in

Find = Callable[[str], Path]


def test_three_images_of_a_decathlon_task_are_three_subjects_or_the_run_says_so(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("l15_layout_decathlon")
    run = take_in([case / "input"], tmp_path, case / "dataset.yaml")
    subjects = {volume.obs["obs_subject_id"] for volume in run.stored}
    if len(subjects) != 3:  # allowed where the run says it, with the setting to use
        assert "hippocampus" in run.said
        words = json.dumps(
            {key: run.report[key] for key in run.report if key not in ("series", "unreadable")}
        )
        assert "subjects.file_name" in words, "nothing tells that three images became one subject"
        assert re.search(r"\(\?P<subject>", words), "the pattern that would fit is not named"
    assert len(run.of("ct")) == len(run.of("seg")) == 3
    assert not run.refused


def test_the_pattern_that_the_run_names_gives_a_subject_to_each_image(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("l15_layout_decathlon")
    first = take_in([case / "input"], tmp_path / "first", case / "dataset.yaml")
    settings = yaml.safe_load((case / "dataset.yaml").read_text())
    if len({volume.obs["obs_subject_id"] for volume in first.stored}) != 3:
        words = "\n".join(
            _texts({k: v for k, v in first.report.items() if k not in ("series", "unreadable")})
        )
        found = re.search(r"[\"'`]?(\^?\(\?P<subject>[^\s\"'`]+)", words)
        assert found, "the run names no pattern"
        settings["subjects"] = {"file_name": found.group(1)}
    dataset = tmp_path / "dataset.yaml"
    dataset.write_text(yaml.safe_dump(settings))
    run = take_in([case / "input"], tmp_path / "second", dataset)
    images = {volume.obs["obs_subject_id"]: volume for volume in run.of("ct")}
    labels = {volume.obs["obs_subject_id"]: volume for volume in run.of("seg")}
    assert len(images) == len(labels) == 3
    assert images.keys() == labels.keys()
    for number, subject in enumerate(sorted(images)):
        name = f"hippocampus_{number:03d}.nii.gz"
        assert not differences(images[subject].image, nib.load(case / "input" / "imagesTr" / name))
        assert not differences(labels[subject].image, nib.load(case / "input" / "labelsTr" / name))
        assert labels[subject].obs["labels_of"] == images[subject].obs["obs_id"]


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def test_an_image_of_four_channels_is_stored_beside_its_labels(case_folder: Find, tmp_path: Path) -> None:
    case = case_folder("l16_layout_decathlon_4d")
    run = take_in([case / "input"], tmp_path, case / "dataset.yaml")
    (image,), (labels,) = run.of("ct"), run.of("seg")
    assert not differences(image.image, nib.load(case / "input" / "imagesTr" / "BRATS_001.nii.gz"))
    assert not differences(labels.image, nib.load(case / "input" / "labelsTr" / "BRATS_001.nii.gz"))
    assert labels.obs["labels_of"] == image.obs["obs_id"]
    assert labels.obs["obs_subject_id"] == image.obs["obs_subject_id"]
    # the file does not say what its fourth axis is: never "time", which nothing proves
    assert image.obs.get("fourth_axis", "unknown") in ("channel", "unknown")
    assert run.exit_code == 0


# What is in the folder, and the words that name its format.
FORMATS = {
    "analyze.hdr": "analyze",
    "case.npz": "numpy",
    "ct.mha": "metaimage",
    "ct.npy": "numpy",
    "ct.nrrd": "nrrd",
    "ct2.mhd": "metaimage",
    "label.nrrd": "nrrd",
    "minc2_1_scale.mnc": "minc",
    "phantom_EPI_asc_CLEAR_2_1.PAR": "par/rec",
    "scaled+tlrc.HEAD": "afni",
    "small.mnc": "minc",
    "test.mgz": "mgh|mgz|freesurfer",
    "tinypet.v": "ecat",
}


def test_a_volume_in_another_tools_format_is_read_or_refused_by_its_name(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("l17_foreign_formats")
    run = take_in([case / "input"], tmp_path)
    read = {Path(series["source"]).name for series in run.report["series"] if series["obs_id"]}
    if case / "input" in {Path(series["source"]) for series in run.report["series"] if series["obs_id"]}:
        read |= {"ct2.mhd"}  # of two files; the next tests read it alone
    told = {Path(item["path"]).name: item for item in run.report["unreadable"]}
    told |= {Path(series["source"]).name: series for series in run.refused}
    unnamed = {}
    for name, words in FORMATS.items():
        if name in read:
            continue
        # the members of an archive such as .npz may stand for it
        item = told.get(name) or next(
            (i for n, i in told.items() if name == "case.npz" and n == "data.npy"), {}
        )
        if not re.search(words, str(item.get("detail", "")), re.IGNORECASE):
            unnamed[name] = item.get("detail", "not accounted for")
    assert not unnamed
    assert run.exit_code == 1, "whole volumes were not taken in"


@pytest.mark.parametrize("name", ["ct.mha", "ct2.mhd", "ct.nrrd"])
def test_images_of_itk_are_read_as_simpleitk_reads_them(case_folder: Find, tmp_path: Path, name: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    case = case_folder("l17_foreign_formats")
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in (case / "input").glob(name.replace(".mhd", ".*")):  # with its data beside it
        shutil.copy(path, alone)
    run = take_in([alone], tmp_path)
    image = sitk.ReadImage(str(case / "input" / name))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    right = nib.Nifti1Image(
        sitk.GetArrayFromImage(image).T.astype(np.float64), np.diag([-1, -1, 1, 1]) @ affine
    )
    (volume,) = run.stored
    assert not differences(volume.image, right)


def test_a_volume_of_freesurfer_is_read_as_nibabel_reads_it(case_folder: Find, tmp_path: Path) -> None:
    case = case_folder("l17_foreign_formats")
    run = take_in([case / "input" / "test.mgz"], tmp_path)
    (volume,) = run.stored
    right = nib.load(case / "input" / "test.mgz")
    assert not differences(
        volume.image, nib.Nifti1Image(np.asarray(right.dataobj).astype(np.float64), right.affine)
    )
