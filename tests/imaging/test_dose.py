"""RT Dose becomes a volume in gray on its own grid, as SimpleITK and pydicom read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dcm2niix_reference import physical
from dicom_files import slice_dataset
from pydicom.uid import RTDoseStorage, generate_uid

from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

OFFSETS = [0.0, 3.0, 6.0, 9.0]


def _dose(path: Path, dtype: str = "u4", seed: int = 0, **change: Any) -> pydicom.FileDataset:
    """A dose grid of 4 planes of 5 rows and 6 columns; attributes with None are left out."""
    values = np.random.default_rng(seed).integers(0, 60_000, (4, 5, 6)).astype(dtype)
    ds = slice_dataset(values[0], position=(-10, -20, -40), pixel_spacing=(2.5, 3.5), sop_class=RTDoseStorage)
    ds.Modality, ds.ImageType = "RTDOSE", ["ORIGINAL", "PRIMARY", "DOSE"]
    ds.NumberOfFrames, ds.FrameIncrementPointer = 4, 0x3004000C
    ds.PixelData = values.tobytes()
    ds.DoseUnits, ds.DoseType, ds.DoseSummationType = "GY", "PHYSICAL", "PLAN"
    ds.GridFrameOffsetVector, ds.DoseGridScaling = OFFSETS, "0.0001"
    del ds.RescaleSlope, ds.RescaleIntercept
    for name, value in change.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.save_as(path, enforce_file_format=True)
    return ds


def _one(path: Path) -> Series:
    (series,) = build_series(scan([path]))
    return series


@pytest.mark.parametrize("dtype", ["u2", "u4"])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)])
@pytest.mark.parametrize("offsets", [OFFSETS, [0.0, -3.0, -6.0, -9.0]])
def test_values_in_gray_and_places_along_the_normal(
    tmp_path: Path, dtype: str, orientation: tuple[int, ...], offsets: list[float]
) -> None:
    path = tmp_path / "dose.dcm"
    ds = _dose(path, dtype, ImageOrientationPatient=list(orientation), GridFrameOffsetVector=offsets)
    series = _one(path)
    assert series.verdict == "ingestable", series.detail
    source = open_series(series)
    gray = physical(source)[..., 0]
    expected = (ds.pixel_array * float(ds.DoseGridScaling)).transpose(2, 1, 0)
    normal = np.cross(orientation[:3], orientation[3:])
    for k, offset in enumerate(offsets):
        plane = np.array(ds.ImagePositionPatient) + normal * offset  # LPS
        index = np.linalg.inv(source.affine) @ [-plane[0], -plane[1], plane[2], 1]
        assert np.allclose(index[:2], 0, atol=1e-6)
        assert np.allclose(gray[:, :, round(index[2])], expected[:, :, k], rtol=1e-6)
    assert series.attributes["pixel_units"] == "GY"
    assert series.attributes["dose_type"] == "PHYSICAL"
    assert series.attributes["dose_summation_type"] == "PLAN"


def test_a_transverse_dose_is_where_simpleitk_puts_it(shared_data: Path) -> None:
    path = next((shared_data / "cases").glob("d03_*")) / "input" / "dose.dcm"
    image = sitk.ReadImage(str(path))
    source = open_series(_one(path))
    stored = sitk.GetArrayFromImage(image).transpose(2, 1, 0)  # ITK leaves DoseGridScaling (0.0001) out
    assert np.allclose(physical(source)[..., 0], stored * 1e-4, rtol=1e-6)
    for index in ((0, 0, 0), (3, 5, 2), (9, 11, 5)):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        assert np.allclose(source.affine @ [*index, 1], [-x, -y, z, 1], atol=1e-4)


def test_offsets_that_are_z_coordinates_say_the_same_place(tmp_path: Path) -> None:
    _dose(tmp_path / "relative.dcm")
    _dose(tmp_path / "absolute.dcm", GridFrameOffsetVector=[-40.0, -37.0, -34.0, -31.0])
    relative, absolute = _one(tmp_path / "relative.dcm"), _one(tmp_path / "absolute.dcm")
    assert absolute.verdict == "ingestable", absolute.detail
    assert np.allclose(open_series(relative).affine, open_series(absolute).affine)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"GridFrameOffsetVector": None}, Reason.NO_GEOMETRY),
        ({"GridFrameOffsetVector": [0, 3, 6]}, Reason.NO_GEOMETRY),
        ({"GridFrameOffsetVector": [5, 8, 11, 14]}, Reason.NO_GEOMETRY),
        ({"GridFrameOffsetVector": [0, 3, 6, 12]}, Reason.MISSING_SLICE),
        ({"GridFrameOffsetVector": [0, 3, 6, 10.1]}, Reason.VARIABLE_SPACING),
        ({"ImagePositionPatient": None}, Reason.NO_GEOMETRY),
        ({"DoseGridScaling": None}, Reason.UNSUPPORTED_PIXELS),
        ({"DoseGridScaling": "0"}, Reason.UNSUPPORTED_PIXELS),
    ],
)
def test_a_dose_that_cannot_be_placed_or_has_no_unit_gets_its_reason(
    tmp_path: Path, change: dict[str, Any], reason: Reason
) -> None:
    _dose(tmp_path / "dose.dcm", **change)
    series = _one(tmp_path)
    assert series.reason is reason, series.detail
    assert "not a volume" not in series.detail


def test_relative_doses_say_that_they_are_no_gray(tmp_path: Path) -> None:
    _dose(tmp_path / "dose.dcm", DoseUnits="RELATIVE")
    assert _one(tmp_path).attributes["pixel_units"] == "RELATIVE"


def test_the_doses_of_two_beams_in_one_series_are_two_volumes(tmp_path: Path) -> None:
    expected = []
    for number in (1, 2):
        uid = generate_uid()
        ds = _dose(
            tmp_path / f"{number}.dcm", seed=number, InstanceNumber=number, DoseSummationType="BEAM",
            SOPInstanceUID=uid,
        )  # fmt: skip
        expected.append(json.dumps((ds.pixel_array * 1e-4).round(4).tolist()))
    series = build_series(scan([tmp_path]))
    assert [s.shape for s in series] == [(6, 5, 4), (6, 5, 4)]
    ours = [json.dumps(physical(open_series(s))[..., 0].transpose(2, 1, 0).round(4).tolist()) for s in series]
    assert sorted(ours) == sorted(expected)
