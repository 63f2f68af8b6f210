"""Files that are there for the ingest itself are told as what they are, and nothing makes no store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np


def ingest(source: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "radiobject_assets.cli",
            "ingest",
            source,
            *map(str, arguments),
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_marker_and_the_table_in_use_are_told_as_what_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "s0001").mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones((6, 5, 4), np.int16), np.eye(4)), folder / "s0001" / "ct.nii.gz")
    (folder / "meta.csv").write_text("image_id;age\ns0001;54\n")
    (folder / "_COMPLETE").touch()
    (folder / "other.csv").write_text("a;b\n1;2\n")
    done = ingest(folder, "--store", tmp_path / "store", "--layout", "totalsegmentator")
    assert done.returncode == 0
    told = {Path(item["path"]).name: item["reason"] for item in json.loads(done.stdout)["unreadable"]}
    assert told == {"meta.csv": "subjects_table", "_COMPLETE": "complete_marker", "other.csv": "not_an_image"}


def test_an_empty_folder_leaves_no_store(tmp_path: Path) -> None:
    (tmp_path / "in" / "below").mkdir(parents=True)
    done = ingest(tmp_path / "in", "--store", tmp_path / "store")
    assert done.returncode == 2
    assert "holds no files" in done.stderr
    assert not (tmp_path / "store").exists()
