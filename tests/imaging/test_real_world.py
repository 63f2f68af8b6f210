"""A real-world mapping is told in obs, but in Philips' files without a rescale, where it stands for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dcm2niix_reference import convert, unlike
from dicom_files import FrameSpec, enhanced_dataset, ramp, write_stack
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import MRImageStorage

from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series


def _mapping(slope: float, intercept: float) -> Dataset:
    item = Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 0, 4095
    item.LUTLabel = "x"
    return item


def _series(folder: Path, slopes: list[float], items: int = 1) -> Series:
    def change(ds: FileDataset, k: int) -> None:
        for name in ("RescaleSlope", "RescaleIntercept"):
            if name in ds:
                delattr(ds, name)
        found = [_mapping(slopes[k % len(slopes)] + n, 2.5) for n in range(items)]
        ds.RealWorldValueMappingSequence = found

    write_stack(folder, ramp(dtype="u2"), change=change)
    (series,) = build_series(ScanResult.from_table(scan([folder]).to_table()))
    assert series.verdict == "ingestable", series.detail
    return series


def test_one_linear_mapping_is_told_and_not_applied(tmp_path: Path) -> None:
    series = _series(tmp_path, [4.0075702])
    assert series.attributes["real_world_slope"] == 4.0075702
    assert series.attributes["real_world_intercept"] == 2.5
    assert (series.slope, series.intercept) == (1.0, 0.0)


def test_no_mapping_is_told_where_there_are_two_or_slices_differ(tmp_path: Path) -> None:
    assert "real_world_slope" not in _series(tmp_path / "two", [4.0], items=2).attributes
    assert "real_world_slope" not in _series(tmp_path / "differ", [4.0, 5.0]).attributes


@pytest.mark.parametrize("rescale", [None, (1.0, 0.0), (2.0, -7.0)])
@pytest.mark.parametrize("varying", [False, True])
def test_values_of_philips_are_those_of_dcm2niix_with_and_without_a_rescale(
    tmp_path: Path, rescale: tuple[float, float] | None, varying: bool
) -> None:
    folder = tmp_path / "philips"

    def change(ds: FileDataset, k: int) -> None:
        del ds.RescaleSlope, ds.RescaleIntercept
        if rescale is not None:
            ds.RescaleSlope, ds.RescaleIntercept = rescale
        ds.Modality, ds.Manufacturer = "MR", "Philips Healthcare"
        ds.RealWorldValueMappingSequence = [_mapping(0.5 + k * varying, -3.0)]

    write_stack(folder, ramp(dtype="u2"), change=change, sop_class=MRImageStorage)
    (series,) = found = build_series(scan([folder]))
    assert unlike(found, convert(folder)) == []
    if rescale == (2.0, -7.0) and not varying:
        assert series.attributes["real_world_slope"] == 0.5  # told, since the rescale says something else
    else:
        assert "real_world_slope" not in series.attributes


@pytest.mark.parametrize("shared", [False, True])
def test_so_are_those_of_its_enhanced_objects(tmp_path: Path, shared: bool) -> None:
    folder = tmp_path / "philips"
    folder.mkdir()
    volume = ramp(dtype="u2")
    ds = enhanced_dataset([FrameSpec(volume[k], (0, 0, 2 * k), (1, k + 1)) for k in range(4)])
    ds.Manufacturer = "Philips"
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.PixelValueTransformationSequence
        if not shared:
            group.RealWorldValueMappingSequence = [_mapping(0.5, -3.0)]
    if shared:
        ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = [_mapping(0.5, -3.0)]
    ds.save_as(folder / "one")
    (series,) = found = build_series(scan([folder]))
    assert (series.slope, series.intercept) == (0.5, -3.0)
    assert unlike(found, convert(folder)) == []


@pytest.mark.parametrize("shared", [False, True])
def test_the_mapping_of_an_enhanced_object_is_told_where_its_frames_have_one(
    tmp_path: Path, shared: bool
) -> None:
    ds = enhanced_dataset([FrameSpec(ramp()[k], (0, 0, 2 * k), (1, k + 1)) for k in range(4)])
    ds.Manufacturer = "ACME"
    groups = ds.SharedFunctionalGroupsSequence if shared else ds.PerFrameFunctionalGroupsSequence
    for group in groups:
        group.RealWorldValueMappingSequence = [_mapping(2.0, 3.0)]
    ds.save_as(tmp_path / "one")
    (series,) = build_series(scan([tmp_path]))
    assert (series.slope, series.attributes["real_world_slope"]) == (1.0, 2.0)
    if not shared:
        ds.PerFrameFunctionalGroupsSequence[2].RealWorldValueMappingSequence = [_mapping(4.0, 3.0)]
        ds.save_as(tmp_path / "one")
        (series,) = build_series(scan([tmp_path]))
        assert "real_world_slope" not in series.attributes


def test_a_real_philips_series_without_rescale_has_the_values_of_dcm2niix(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "philips"
    shutil.copytree(shared_data / "series" / "mr_philips_fmri4d_7t", folder)
    (series,) = found = build_series(scan([folder]))
    assert unlike(found, convert(folder)) == []
    assert series.slope == pytest.approx(4.0075702, rel=1e-6)
    assert np.dtype(series.dtype) == np.dtype("uint16")
