"""`radiobject-assets snapshot` and `import-radiobject`, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject_assets.store import RadiObject
from tests.store.conftest import put


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "radiobject_assets.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def run_json(*arguments: str, code: int = 0) -> Any:
    done = run(*arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_a_snapshot_is_created_once_and_listed(store: str) -> None:
    put(store, "ct", "s1", 1)
    assert run_json("snapshot", "list", store) == {"snapshots": []}
    made = run_json("snapshot", "create", store, "study")
    assert made["counts"] == {"subjects": 1, "ct": 1}
    assert run_json("snapshot", "create", store, "study") == made  # the same data: nothing new
    assert run_json("snapshot", "list", store) == {"snapshots": [made]}
    put(store, "ct", "s2", 2)
    assert len(RadiObject(store, timestamp="study").ct) == 1
    shown = run("snapshot", "list", store).stdout
    assert "study" in shown
    assert "ct 1" in shown


def test_a_snapshot_name_of_other_data_is_refused_in_one_line(store: str) -> None:
    put(store, "ct", "s1", 1)
    run_json("snapshot", "create", store, "study")
    put(store, "ct", "s2", 2)
    done = run("snapshot", "create", store, "study")
    assert done.returncode == 2
    assert "already has a snapshot 'study'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("snapshot", "list"), ("snapshot", "create"), ("import-radiobject",)])
def test_commands_say_how_they_are_used(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout


def test_a_folder_that_is_no_store_is_one_clear_line(tmp_path: Path) -> None:
    for arguments in (("snapshot", "list", str(tmp_path)), ("import-radiobject", str(tmp_path), "new")):
        done = run(*arguments)
        assert done.returncode == 2
        assert str(tmp_path) in done.stderr
        assert done.stderr.count("\n") == 1


def test_an_old_store_is_copied_by_id_and_what_was_mixed_up_is_said(tmp_path: Path) -> None:
    radiobject = pytest.importorskip("radiobject", reason="the RadiObject package makes the old store")
    nib = pytest.importorskip("nibabel")
    files = []
    for number, subject in enumerate(("s-b", "s-a")):  # ids that don't arrive sorted
        path = tmp_path / f"{subject}_CT.nii.gz"
        nib.save(nib.Nifti1Image(np.full((6, 5, 4), number + 1, np.int16), np.eye(4)), path)
        files.append((str(path), subject))
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    radiobject.RadiObject.from_niftis(old, niftis=files, collection_name="ct")

    report = run_json("import-radiobject", old, new)
    assert report["volumes"] == {"ct": 2}
    assert report["subjects"] == 2
    assert sorted(report["mixed_up"]["ct"]) == ["s-a_CT", "s-b_CT"]
    assert report["without_array"] == {"ct": []}
    assert report["without_row"] == {"ct": 0}
    copied = RadiObject(new).ct
    assert copied["s-b_CT"].to_numpy().max() == 1
    assert copied["s-a_CT"].to_numpy().min() == 2

    again = run("import-radiobject", old, str(tmp_path / "other"))
    assert again.returncode == 0
    assert "another volume for s-a_CT, s-b_CT" in again.stdout
    refused = run("import-radiobject", old, new)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
