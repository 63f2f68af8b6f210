"""What a user needs for SUV is in obs: tracer, activity, half life, time since injection, and the factor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dicom_files import ramp, write_stack
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import PositronEmissionTomographyImageStorage

from radiobject_assets.imaging.release.deidentification import Release
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.series_building import build_series

HALF_LIFE_S, DOSE_BQ, WEIGHT_KG = 6586.2, 3.5e8, 72.5


def _pet(folder: Path, **changes: Any) -> dict[str, Any]:
    def change(ds: FileDataset, k: int) -> None:
        ds.Modality = "PT"
        ds.Units, ds.DecayCorrection, ds.CorrectedImage = "BQML", "START", ["DECY", "ATTN", "SCAT"]
        ds.SeriesDate = ds.AcquisitionDate = "20200102"
        ds.SeriesTime, ds.AcquisitionTime = "101500", "101500.0"
        ds.PatientWeight, ds.PatientName = str(WEIGHT_KG), "Doe^Jane"
        item, code = Dataset(), Dataset()
        item.Radiopharmaceutical = "Fluorodeoxyglucose"
        item.RadiopharmaceuticalStartTime = "091500.00"
        item.RadionuclideTotalDose, item.RadionuclideHalfLife = str(DOSE_BQ), str(HALF_LIFE_S)
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-111A1", "SRT", "^18^Fluorine"
        item.RadionuclideCodeSequence = [code]
        ds.RadiopharmaceuticalInformationSequence = [item]
        for name, value in changes.items():
            setattr(item if name.startswith("Radio") else ds, name, value)

    write_stack(folder, ramp(dtype="u2"), change=change, sop_class=PositronEmissionTomographyImageStorage)
    (series,) = build_series(ScanResult.from_table(Release().scan(scan([folder])).to_table()))
    assert series.verdict == "ingestable", series.detail
    return dict(series.attributes)


def test_the_tracer_its_activity_and_the_time_since_its_injection_are_told(tmp_path: Path) -> None:
    found = _pet(tmp_path)
    assert found["radiopharmaceutical"] == "Fluorodeoxyglucose"
    assert found["radionuclide"] == "^18^Fluorine"
    assert (found["injected_activity_bq"], found["radionuclide_half_life_s"]) == (DOSE_BQ, HALF_LIFE_S)
    assert found["injection_to_series_s"] == 3600
    assert found["suv_bw_factor"] == pytest.approx(WEIGHT_KG * 1000 / (DOSE_BQ * 0.5 ** (3600 / HALF_LIFE_S)))
    assert found["corrected_image"] == "DECY\\ATTN\\SCAT"
    assert "patient_weight_kg" not in found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"RadiopharmaceuticalStartDateTime": "20200102081500.0"}, (7200, 0.5 ** (7200 / HALF_LIFE_S))),
        ({"RadiopharmaceuticalStartTime": "234500"}, (37800, 0.5 ** (37800 / HALF_LIFE_S))),
        ({"DecayCorrection": "ADMIN"}, (3600, 1.0)),
    ],
)
def test_the_factor_follows_the_reference_of_the_decay_correction(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[float, float]
) -> None:
    found = _pet(tmp_path, **changes)
    assert found["injection_to_series_s"] == expected[0]
    assert found["suv_bw_factor"] == pytest.approx(WEIGHT_KG * 1000 / (DOSE_BQ * expected[1]))


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientWeight": None},
        {"RadionuclideTotalDose": None},
        {"CorrectedImage": ["ATTN"]},
        {"DecayCorrection": "NONE"},
        {"Units": "CNTS"},
        {"Units": "PROPCNTS"},
        {"SeriesTime": "120000"},
        {"RadiopharmaceuticalStartTime": "9 o'clock"},
    ],
)
def test_there_is_no_factor_where_it_would_be_a_guess(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "suv_bw_factor" not in _pet(tmp_path, **changes)


def test_a_dose_in_megabecquerel_gives_no_factor_that_is_a_million_times_too_large(tmp_path: Path) -> None:
    found = _pet(tmp_path, RadionuclideTotalDose="350")
    assert not {"suv_bw_factor", "injected_activity_bq"} & found.keys()


def test_philips_tells_the_factor_for_counts(tmp_path: Path) -> None:
    assert "suv_bw_factor" not in _pet(tmp_path / "a", Units="CNTS", Manufacturer="Philips")
    for path in (tmp_path / "a").iterdir():
        ds = dcmread(path)
        ds.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0, "DS", "0.000551")
        ds.save_as(path)
    (series,) = build_series(scan([tmp_path / "a"]))
    assert series.attributes["suv_bw_factor"] == pytest.approx(0.000551)


def test_images_in_suv_need_no_factor(tmp_path: Path) -> None:
    assert _pet(tmp_path, Units="GML")["suv_bw_factor"] == 1.0


def test_a_tracer_named_after_the_patient_is_withheld(tmp_path: Path) -> None:
    assert "radiopharmaceutical" not in _pet(tmp_path, Radiopharmaceutical="FDG for Doe")


@pytest.mark.parametrize(
    ("age", "kept"), [("045Y", "045Y"), ("092Y", "090Y"), ("018M", "018M"), ("090Y", "090Y")]
)
def test_ages_above_ninety_are_ninety(tmp_path: Path, age: str, kept: str) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds.PatientAge, ds.Laterality = age, "L"

    write_stack(tmp_path, ramp(), change=change)
    found = Release(frozenset({"PatientAge"})).scan(scan([tmp_path]))
    assert found.instances[0].attributes["patient_age"] == kept
    assert found.instances[0].attributes["laterality"] == "L"


def test_an_enhanced_ct_tells_dose_and_kernel_from_the_macros_of_its_frames(tmp_path: Path) -> None:
    (path,) = write_stack(tmp_path, ramp(1, 12, 6, "u2"))
    ds = dcmread(path)
    shared, exposure, x_ray, reconstruction = Dataset(), Dataset(), Dataset(), Dataset()
    exposure.ExposureInmAs, exposure.XRayTubeCurrentInmA = 120.5, 240.0
    x_ray.KVP, reconstruction.ConvolutionKernel = "120", "B30f"
    shared.CTExposureSequence, shared.CTXRayDetailsSequence = [exposure], [x_ray]
    shared.CTReconstructionSequence = [reconstruction]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.save_as(path)
    (found,) = scan([tmp_path]).instances
    expected = {"exposure_mas": 120.5, "tube_current_ma": 240.0, "tube_voltage_kv": 120.0}
    assert {name: found.attributes[name] for name in expected} == expected
    assert found.attributes["convolution_kernel"] == "B30f"
    ds.PatientName, reconstruction.ConvolutionKernel = "Doe^Jane", "B30f DOE"
    ds.save_as(path)
    (found,) = scan([tmp_path]).instances
    assert "convolution_kernel" not in found.attributes
