"""What an archive holds has the subjects and collections of the same files in folders."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

KITS = [f"case_{case}/{name}.nii.gz" for case in range(6) for name in ("imaging", "segmentation")]
DECATHLON = [f"{kind}Tr/la_{case}.nii.gz" for case in range(3) for kind in ("images", "labels")]
BIDS = ["sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz", "sub-02/anat/sub-02_dseg.nii.gz"]


def make(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = any(word in name for word in ("segmentation", "labels", "dseg"))
        voxels = np.full((6, 5, 4), number % 2 if labels else number + 1, np.int16)
        voxels.flat[0] = 0
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def ingest(source: Path, store: Path, *arguments: object) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "radiobject_assets.cli",
            "ingest",
            source,
            "--store",
            store,
            *arguments,
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def places(report: dict[str, Any]) -> list[tuple[str, str, str, str | None]]:
    return sorted(
        (Path(item["source"]).name, item["subject_id"], item["collection"], item["reason"])
        for item in report["series"]
    )


@pytest.mark.parametrize("kind", ["zip", pytest.param("tar", marks=pytest.mark.slow), "gztar"])
@pytest.mark.parametrize(
    ("layout", "names", "subjects"), [("folders", KITS, 6), ("decathlon", DECATHLON, 3), ("bids", BIDS, 2)]
)
def test_an_archive_has_the_subjects_and_collections_of_its_folder(
    tmp_path: Path, kind: str, layout: str, names: list[str], subjects: int
) -> None:
    make(tmp_path / "in", names)
    archive = shutil.make_archive(str(tmp_path / "parcel"), kind, tmp_path / "in")
    plain = ingest(tmp_path / "in", tmp_path / "plain", "--layout", layout)
    packed = ingest(Path(archive), tmp_path / "packed", "--layout", layout)
    assert packed[0] == plain[0] == 0
    assert packed[1]["warnings"] == plain[1]["warnings"] == []
    assert packed[1]["counts"]["subjects"] == subjects
    assert places(packed[1]) == places(plain[1])


def test_archives_of_one_person_each_are_folders_of_their_names(tmp_path: Path) -> None:
    for person in ("anna", "bert"):
        make(
            tmp_path / person,
            ["t1.nii.gz", "seg/liver.nii.gz"] if person == "anna" else ["t1.nii.gz", "t2.nii"],
        )
        shutil.make_archive(str(tmp_path / "in" / person), "gztar", tmp_path / person)
    code, report = ingest(tmp_path / "in", tmp_path / "store", "--layout", "folders")
    assert code == 0
    assert {item["subject_id"] for item in report["series"]} == {"anna", "bert"}


def test_an_archive_called_after_a_bids_subject_is_its_folder(tmp_path: Path) -> None:
    make(tmp_path / "one", ["anat/sub-01_T1w.nii.gz", "anat/sub-01_FLAIR.nii.gz"])
    archive = shutil.make_archive(str(tmp_path / "sub-01"), "zip", tmp_path / "one")
    code, report = ingest(Path(archive), tmp_path / "store")
    assert code == 0
    assert {(item["subject_id"], item["collection"]) for item in report["series"]} == {
        ("sub-01", "t1w"),
        ("sub-01", "flair"),
    }


def test_a_folder_around_all_people_in_an_archive_is_told_with_the_pattern_that_fits(tmp_path: Path) -> None:
    make(tmp_path / "in", [f"study/{name}" for name in KITS])
    archive = shutil.make_archive(str(tmp_path / "parcel"), "zip", tmp_path / "in")
    _, report = ingest(Path(archive), tmp_path / "store", "--layout", "folders")
    (warning,) = report["warnings"]
    assert warning["kind"] == "subjects_merged"
    assert warning["file_name"] == "^[^/]+/(?P<subject>[^/]+)/"
    settings = tmp_path / "dataset.yaml"
    settings.write_text(f"layout: folders\nsubjects: {{file_name: '{warning['file_name']}'}}\nstore: other\n")
    done = subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", "ingest", archive, "--dataset", settings, "--json"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    again = json.loads(done.stdout)
    assert (done.returncode, again["warnings"], again["counts"]["subjects"]) == (0, [], 6)
