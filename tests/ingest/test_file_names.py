"""Names on disk that are no text are taken in like others: they stop nothing and lose nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.export.nifti_files import export_store
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

LATIN_1 = os.fsdecode("Müller".encode("latin-1"))


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    folder = tmp_path / "drop" / f"d{LATIN_1}"
    try:
        folder.mkdir(parents=True)
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    (folder / f"{LATIN_1}.nii").write_bytes(image.to_bytes())
    (folder / f"{LATIN_1}.json").write_text(json.dumps({"EchoTime": 0.01}))
    (folder / f"note {LATIN_1}.txt").write_text("a note")
    return tmp_path / "drop"


def test_a_scan_of_such_names_survives_its_table(drop: Path) -> None:
    found = scan([drop])
    assert (len(found.niftis), len(found.unreadable)) == (1, 1)
    assert ScanResult.from_table(found.to_table()) == found


@pytest.mark.parametrize("key", ["patient_id", "pseudonym"])
def test_files_of_such_names_are_taken_in(
    drop: Path, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADIOBJECT_PSEUDONYM_KEY", "a secret of enough letters")
    dataset = DatasetSettings.model_validate({"subjects": {"key": key}})
    store = str(tmp_path / "store")
    report = ingest_sources([drop], store, dataset, budget=MemoryBudget(256), compute=Compute(workers=1))
    assert [outcome.status for outcome in report.outcomes] == ["written"]
    assert len(report.unreadable) == 1
    (unreadable,) = json.loads(json.dumps(report.to_json()).encode("ascii"))["unreadable"]
    assert Path(unreadable["path"]).exists()  # by the bytes of its name
    (row,) = RadiObject(store).collection("nifti").to_obs().to_dict("records")
    assert row["echo_time_ms"] == 10
    (path,) = export_store(store, tmp_path / "out")
    assert nib.load(path).shape == (3, 4, 5)
    again = ingest_sources([drop], store, dataset, budget=MemoryBudget(256), compute=Compute(workers=1))
    assert [outcome.status for outcome in again.outcomes] == ["unchanged"]
