"""The time between volumes is what their acquisition times say, whatever RepetitionTime is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.export.nifti_files import export_store
from radiobject_assets.imaging.dicom.acquisition_times import even_step_s, on_one_line
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

sys.path.insert(0, str(Path(__file__).parent))

from dcm2niix_reference import convert
from dicom_files import ramp, write_stack
from pydicom.uid import MRImageStorage, generate_uid


def dynamic(folder: Path, manufacturer: str, times: list[str], repetition_time: str) -> Path:
    for number, time in enumerate(times):

        def change(ds: Any, k: int, number: int = number, time: str = time) -> None:
            ds.Modality, ds.Manufacturer = "MR", manufacturer
            ds.AcquisitionNumber = number + 1
            ds.AcquisitionTime, ds.RepetitionTime = time, repetition_time
            ds.AcquisitionDate = "20240102"
            ds.InstanceNumber += 4 * number
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()

        write_stack(folder, ramp() + number, prefix=f"t{number}", sop_class=MRImageStorage, change=change)
    return folder


@pytest.mark.parametrize(
    ("manufacturer", "times", "repetition_time", "step_s"),
    [
        ("SIEMENS", ["120000", "120010", "120020"], "4000", 10.0),
        ("Canon", ["120000.5", "120010.6", "120020.5"], "5.2", 10.0),
        ("SIEMENS", ["120000", "120003.2025", "120006.4"], "3200", 3.2),
        ("GE MEDICAL SYSTEMS", ["120000", "120010", "120020"], "4000", 4.0),
        ("SIEMENS", ["120000", "120000", "120000"], "4000", 4.0),
    ],
)
def test_exports_have_the_time_step_of_dcm2niix(
    tmp_path: Path, manufacturer: str, times: list[str], repetition_time: str, step_s: float
) -> None:
    source = dynamic(tmp_path / "in", manufacturer, times, repetition_time)
    store = str(tmp_path / "store")
    ingest_sources([source], store, DatasetSettings(), budget=MemoryBudget(256), compute=Compute(workers=1))
    export_store(store, tmp_path / "out")
    (exported,) = (tmp_path / "out").rglob("*.nii.gz")
    (theirs,) = convert(source)
    for path in (exported, theirs):
        assert nib.load(path).header.get_zooms()[3] == pytest.approx(step_s, rel=2e-3)


@pytest.mark.parametrize(
    "times",
    [
        ["120000", "120001", "120009"],
        ["120000", "", "120002"],
        ["120002", "120001", "120000"],
        ["", ""],
        ["xy", "1"],
    ],
)
def test_uneven_or_unknown_times_have_no_step(times: list[str]) -> None:
    moments = on_one_line(times)
    assert moments is None or even_step_s(moments, None) is None


@pytest.mark.parametrize(
    "times",
    [
        ["20240229235958.5", "20240301000000.5", "20240301000002.5+0100"],
        ["235958.5", "000000.5", "000002.5"],  # dates were taken away
        ["20240229235958.5", "20240229000000.5", "20240229000002.5"],  # all have the study's
        ["20240229235958.5", "000000.5", "20240301000002.5"],  # some were taken away
    ],
)
def test_midnight_is_passed(times: list[str]) -> None:
    moments = on_one_line(times)
    assert moments is not None
    assert even_step_s(moments, 5.0) == 2.0


def test_times_of_half_a_day_apart_are_no_order() -> None:
    assert on_one_line(["000000", "060000", "120000", "180000"]) is None
