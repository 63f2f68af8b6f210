"""What dataset.yaml says about colour, complex and irregularly spaced images decides what is stored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import SecondaryCaptureImageStorage

from radiobject_assets.store import RadiObject

SHAPE = (4, 5, 6)


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """Three images that are no plain volumes: colours, complex numbers, a stack with a missing slice."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "imaging"))
    try:
        from dicom_files import ramp, write_stack
    finally:
        sys.path.pop(0)

    folder = tmp_path / "landing"

    def coloured(ds: FileDataset, k: int) -> None:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.PixelData = np.stack([ramp(*SHAPE, "u1")[k] + c for c in range(3)], axis=-1).tobytes()

    write_stack(
        folder / "colour", ramp(*SHAPE, "u1"), change=coloured, series_uid="1.2.3.1",
        sop_class=SecondaryCaptureImageStorage,
    )  # fmt: skip
    gap = write_stack(folder / "gap", ramp(6), step=(0, 0, 1.5), series_uid="1.2.3.2")
    gap[3].unlink()
    values = (np.arange(24).reshape(2, 3, 4) * (1 + 2j)).astype(np.complex64)
    nib.save(nib.Nifti1Image(values, np.eye(4)), folder / "sub-01_phase.nii.gz")
    return folder


def _ingest(landing: Path, store: Path, policy: str) -> tuple[int, dict[str, Any]]:
    dataset = store.parent / "dataset.yaml"
    dataset.write_text(f"imaging:\n  components: {policy}\n  irregular_spacing: {policy}\n")
    run = subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", "ingest", str(landing), "--store", str(store),
         "--dataset", str(dataset), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return run.returncode, json.loads(run.stdout)


def test_they_are_quarantined_by_default(landing: Path, tmp_path: Path) -> None:
    code, report = _ingest(landing, tmp_path / "store", "quarantine")
    assert code == 1
    assert {s["reason"] for s in report["series"]} == {"colour", "missing_slice", "nifti_datatype"}


def test_they_are_kept_and_marked_where_the_data_set_says_so(landing: Path, tmp_path: Path) -> None:
    code, report = _ingest(landing, tmp_path / "store", "keep")
    assert code == 0
    assert {s["verdict"] for s in report["series"]} == {"ingestable"}
    radi = RadiObject(str(tmp_path / "store"))
    rows: dict[str, Any] = {}
    for name in radi.collection_names:
        for row in radi.collection(name).to_obs().to_dict("records"):
            rows[str(row["obs_id"])] = (radi.collection(name)[str(row["obs_id"])], row)
    found = {str(row.get("components")): volume for volume, row in rows.values()}
    assert found["rgb"].shape == (6, 5, 4, 3)
    assert np.array_equal(
        found["rgb"].to_numpy()[..., 2] - found["rgb"].to_numpy()[..., 0], np.full((6, 5, 4), 2)
    )
    assert found["complex"].shape == (2, 3, 4, 2)
    assert np.array_equal(found["complex"].to_numpy()[..., 1], 2 * np.arange(24).reshape(2, 3, 4))
    (gap,) = [row for _, row in rows.values() if isinstance(row.get("slice_positions_mm"), str)]
    assert json.loads(gap["slice_positions_mm"]) == [0, 1.5, 3, 6, 7.5]


def test_a_wrong_choice_is_named_with_its_line(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", "ingest", str(tmp_path), "--dataset",
         str(_written(tmp_path / "dataset.yaml", "imaging:\n  colour: keep\n"))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert "dataset.yaml:2: imaging.colour" in run.stderr.replace("\n", "")
    assert "components, irregular_spacing" in run.stderr.replace("\n", " ")


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
