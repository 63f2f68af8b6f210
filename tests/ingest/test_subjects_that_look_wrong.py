"""Subjects that look wrong are told, with settings that make one subject of each case; sound ones are not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from hypothesis import given, strategies as st

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.dataset.subject_section import SubjectsConfig
from radiobject_assets.ingest.dataset_release import subject_in_file_name
from radiobject_assets.ingest.naming.doubtful_subjects import doubtful_subjects
from radiobject_assets.store import RadiObject


def numbered(pattern: str, numbers: int = 3) -> list[str]:
    return [pattern.format(n) for n in range(1, numbers + 1)]


WRONG: dict[str, tuple[list[str], str | None, int]] = {
    "Decathlon": (
        [*numbered("imagesTr/hippocampus_{:03}.nii.gz"), *numbered("labelsTr/hippocampus_{:03}.nii.gz")],
        "decathlon",
        3,
    ),
    "Decathlon, one folder above": (
        [
            *numbered("T4/imagesTr/la_{:03}.nii.gz"),
            *numbered("T4/labelsTr/la_{:03}.nii.gz"),
        ],
        "decathlon",
        3,
    ),
    "ids of four digits, which are no channels": (
        [*numbered("imagesTr/amos_{:04}.nii.gz"), *numbered("labelsTr/amos_{:04}.nii.gz")],
        "decathlon",
        3,
    ),
    "nnU-Net": (
        [
            *numbered("imagesTr/la_{:03}_0000.nii.gz"),
            *numbered("imagesTr/la_{:03}_0001.nii.gz"),
            *numbered("labelsTr/la_{:03}.nii.gz"),
        ],
        "nnunet",
        3,
    ),
    "TotalSegmentator": (
        [
            *numbered("s{:04}/ct.nii.gz"),
            *numbered("s{:04}/segmentations/liver.nii.gz"),
            *numbered("s{:04}/segmentations/gluteus_maximus_left.nii.gz"),
        ],
        "totalsegmentator",
        3,
    ),
    "BraTS": (
        [
            *numbered("BraTS2021_{0:05}/BraTS2021_{0:05}_t1.nii.gz"),
            *numbered("BraTS2021_{0:05}/BraTS2021_{0:05}_seg.nii.gz"),
        ],
        "brats",
        3,
    ),
    "BraTS since 2023": (
        [
            f"BraTS-GLI-00005-10{visit}/BraTS-GLI-00005-10{visit}-{shown}.nii.gz"
            for visit in (0, 1)
            for shown in ("t1n", "t2f", "seg")
        ],
        "brats",
        1,
    ),
    "LiTS": ([*numbered("volume-{}.nii"), *numbered("segmentation-{}.nii")], "flat", 3),
    "BTCV": ([*numbered("img/img{:04}.nii.gz"), *numbered("label/label{:04}.nii.gz")], "flat", 3),
    "KiTS": ([*numbered("case_{:05}/imaging.nii.gz"), *numbered("case_{:05}/segmentation.nii.gz")], None, 3),
    "many cases": (numbered("case_{:03}.nii.gz", 30), None, 30),
    "two cases": (["liver_1.nii", "liver_2.nii"], None, 2),
    "cases of two contrasts": ([*numbered("study_{:03}_t1.nii"), *numbered("study_{:03}_t2.nii")], None, 3),
    "cases of two visits": (
        [*numbered("study_{:03}_visit1.nii"), *numbered("study_{:03}_visit2.nii")],
        None,
        3,
    ),
    "a name with a digit for all": (numbered("OAS1_{:04}_mpr.nii"), None, 3),
    "contrasts after hyphens": (["IXI002-Guys-T1.nii.gz", "IXI002-Guys-T2.nii.gz"], None, 1),
    "scans in folders of people": (
        [f"{person}/scan{n}.nii.gz" for person in ("sub-001", "sub-002") for n in (1, 2)],
        None,
        2,
    ),
    "images in folders called after people": (
        [f"{person}/img{n}.nii.gz" for person in ("anna", "bert") for n in (1, 2)],
        None,
        2,
    ),
    "contrasts in folders of people": (
        [f"{person}/{shown}.nii.gz" for person in ("p01", "p02") for shown in ("t1", "t2")],
        None,
        2,
    ),
    "FLARE: channels and labels in folders": (
        [*numbered("images/FLARE22_Tr_{:04}_0000.nii.gz"), *numbered("labels/FLARE22_Tr_{:04}.nii.gz")],
        None,
        3,
    ),
    "Pancreas-CT: image and labels have the number alone in common": (
        [*numbered("PANCREAS_{:04}.nii.gz"), *numbered("label{:04}.nii.gz")],
        None,
        3,
    ),
    "HaN-Seg: names of images are longer than the case": (
        [
            *numbered("case_{0:02}/case_{0:02}_IMG_CT.nrrd"),
            *numbered("case_{0:02}/case_{0:02}_IMG_MR_T1.nrrd"),
            *numbered("case_{0:02}/case_{0:02}_OAR_Brain.seg.nrrd"),
        ],
        None,
        3,
    ),
    "BraTS with the one file of another name": (
        [
            *numbered("BraTS20_Training_35{0}/BraTS20_Training_35{0}_t1.nii", 5),
            *numbered("BraTS20_Training_35{0}/BraTS20_Training_35{0}_seg.nii", 4),
            "BraTS20_Training_355/W39_1998.09.19_Segm.nii",
        ],
        "brats",
        5,
    ),
    "numbers of series in folders of people": (["001_x/1_t1.nii.gz", "002_y/1_t1.nii.gz"], None, 2),
}

SOUND: dict[str, list[str]] = {
    "BIDS with sessions and runs": [
        f"sub-01/ses-{session}/func/sub-01_ses-{session}_run-{run}_bold.nii.gz"
        for session in (1, 2)
        for run in (1, 2, 3)
    ],
    "BIDS called without digits": [f"sub-anna/anat/sub-anna_run-{n}_T1w.nii.gz" for n in (1, 2, 3)],
    "three contrasts of one subject": ["p1_T1w.nii.gz", "p1_T2w.nii.gz", "p1_FLAIR.nii.gz", "p1_seg.nii.gz"],
    "visits": ["p1_v1_t1.nii.gz", "p1_v2_t1.nii.gz", "p1_v3_t1.nii.gz", "p2_v1_t1.nii.gz"],
    "dates": ["p1_20200101.nii.gz", "p1_20210101.nii.gz", "p1_2022-03-01.nii.gz"],
    "runs called without digits": ["anna_run1.nii.gz", "anna_run2.nii.gz"],
    "one file of each": ["a.nii.gz", "b.nii.gz", "subject7.nii.gz"],
    "visits in folders": ["visit1/p1_t1.nii.gz", "visit2/p1_t1.nii.gz"],
    "batches": ["batch1/p1_t1.nii.gz", "batch2/p1_t1.nii.gz"],
    "a folder called after the subject": ["p1/2020/p1_t1.nii.gz", "p1/2021/p1_t1.nii.gz"],
    "phases of a heart": ["patient001/patient001_frame01.nii.gz", "patient001/patient001_frame12.nii.gz"],
    "letters before ids that are no months": numbered("m{:03}_brain.nii.gz"),
    "letters before ids that are no times": numbered("T{:02}_lung.nii.gz"),
    "letters before ids that are no days": numbered("D{}_Kidney_Left.nii.gz"),
    "DICOM alone": [],
}


@pytest.mark.parametrize(("names", "layout", "n_subjects"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_subject_is_told_with_settings_that_make_one_of_each_case(
    names: list[str], layout: str | None, n_subjects: int
) -> None:
    doubts = doubtful_subjects(names, SubjectsConfig())
    assert doubts
    for doubt in doubts:
        assert (doubt.layout, doubt.n_fitting) == (layout, n_subjects)
        # as a person would do it: the setting is copied out of the text
        (setting,) = re.findall(r"`(subjects: \{file_name: '.*?'\})`", doubt.text)
        told = DatasetSettings.model_validate(yaml.safe_load(setting))
        assert len({subject_in_file_name(name, told.subjects) for name in names}) == n_subjects
        assert doubtful_subjects(names, told.subjects) == ()
        if layout is not None:
            laid_out = DatasetSettings.model_validate({"layout": layout})
            assert len({subject_in_file_name(name, laid_out.subjects) for name in names}) == n_subjects


@pytest.mark.parametrize("names", SOUND.values(), ids=SOUND.keys())
def test_a_sound_layout_is_not_doubted(names: list[str]) -> None:
    assert doubtful_subjects(names, SubjectsConfig()) == ()


def test_scans_of_one_person_in_a_folder_of_their_own_are_not_doubted() -> None:
    subjects = SubjectsConfig(file_name="^(?P<subject>[^/]+)/")
    names = [f"{person}/scan{n}.nii.gz" for person in ("sub-001", "sub-002") for n in (1, 2)]
    assert doubtful_subjects(names, subjects) == ()


@pytest.mark.parametrize("name", ["image", "volume", "mr", "ct", "liver", "case", "img", "BRATS_001", "T1"])
def test_a_file_called_after_what_it_shows_is_told_alone_too(name: str) -> None:
    (doubt,) = doubtful_subjects([f"{name}.nii.gz"], SubjectsConfig())
    assert "would be taken for the same subject" in doubt.text


def test_a_pattern_that_finds_no_subject_is_told() -> None:
    subjects = SubjectsConfig(file_name="(?P<subject>sub-[0-9]+)")
    (doubt,) = doubtful_subjects(["p1_t1.nii.gz", "p2_t1.nii.gz", "sub-1_t1.nii.gz"], subjects)
    assert (doubt.kind, doubt.n_files) == ("unnamed", 2)


def test_where_no_pattern_fits_none_is_named() -> None:
    (doubt,) = doubtful_subjects(["image.nii.gz"], SubjectsConfig())
    assert doubt.file_name is None
    assert "give each subject a folder of its own" in doubt.text


@pytest.mark.parametrize(
    "names",
    [
        [f"{site}/p{n}.nii.gz" for site in ("siteA", "siteB") for n in range(19)],
        [f"{site}/case{n}.nii.gz" for site in ("siteA", "siteB") for n in range(3)],
        [f"{site}/p{n}{kind}.nii.gz" for site in ("a", "b") for n in (1, 2) for kind in ("", "_seg")],
        # the number is of one person at each of two sites
        [*numbered("north_{:03}.nii.gz"), *numbered("south_{:03}.nii.gz"), *numbered("label{:03}.nii.gz")],
    ],
)
def test_no_pattern_is_told_that_joins_cases_or_parts_labels_from_their_image(names: list[str]) -> None:
    doubts = doubtful_subjects(names, SubjectsConfig())
    assert doubts
    for doubt in doubts:
        assert doubt.file_name is None
        assert "None of the patterns that were tried makes one subject of each case" in doubt.text


def test_with_pseudonyms_no_name_of_a_file_is_told() -> None:
    names = numbered("mueller_{:03}.nii.gz")
    (doubt,) = doubtful_subjects(names, SubjectsConfig(key="pseudonym"))
    assert "mueller" not in json.dumps(doubt.to_json())
    assert doubt.n_fitting == 3
    (open_doubt,) = doubtful_subjects(names, SubjectsConfig())
    assert "mueller" in open_doubt.text
    assert "mueller" not in open_doubt.public.text


@given(st.lists(st.text(st.sampled_from("ab01_-./ T"), min_size=1, max_size=12), max_size=8))
def test_any_names_are_judged_without_an_error(names: list[str]) -> None:
    for doubt in doubtful_subjects([f"{name}.nii.gz" for name in names], SubjectsConfig()):
        assert doubt.text.endswith(".")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", "ingest", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_warning_is_on_stderr_and_in_json_and_following_it_gives_a_subject_of_each_case(
    tmp_path: Path,
) -> None:
    for number in (1, 2, 3):
        path = tmp_path / "in" / "imagesTr" / f"hippocampus_{number:03}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.full((5, 4, 3), number, np.int16), np.eye(4)), path)
    store = tmp_path / "store"
    first = run(tmp_path / "in", "--store", store, "--json")
    (warning,) = json.loads(first.stdout)["warnings"]
    assert first.returncode == 0  # all volumes are in, and the names may be right
    assert first.stderr.splitlines() == [f"warning: {warning['text']}"]
    assert warning["kind"] == "subjects_merged"
    assert (warning["subjects"], warning["layout"]) == (["hippocampus"], "decathlon")
    summary = run(tmp_path / "in", "--store", store)
    assert "subjects.file_name" in summary.stdout
    assert "a split can't divide them" in summary.stdout
    settings = tmp_path / "dataset.yaml"
    settings.write_text(yaml.safe_dump({"store": "other", "subjects": {"file_name": warning["file_name"]}}))
    again = run(tmp_path / "in", "--dataset", settings, "--json")
    assert (again.returncode, again.stderr) == (0, "")
    assert sorted(RadiObject(str(tmp_path / "other")).obs_subject_ids) == [
        "hippocampus_001",
        "hippocampus_002",
        "hippocampus_003",
    ]


@pytest.mark.parametrize("with_settings", [True, False])
def test_the_decathlon_case_is_told_and_its_layout_gives_three_subjects(
    shared_data: Path, tmp_path: Path, with_settings: bool
) -> None:
    case = shared_data / "cases" / "l15_layout_decathlon"
    given_settings = ["--dataset", case / "dataset.yaml"] if with_settings else []
    told = run(case / "input", "--store", tmp_path / "store", "--json", *given_settings)
    assert "`layout: decathlon`" in told.stderr
    report = json.loads(told.stdout)
    assert {item["reason"] for item in report["unreadable"] if "/._" in item["path"]} == {"system_file"}
    done = run(case / "input", "--store", tmp_path / "other", "--json", "--layout", "decathlon")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["counts"]["subjects"] == 3
