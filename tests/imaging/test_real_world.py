"""A real-world mapping beside no rescale is told in obs, and the values stay those of the modality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_files import ramp, write_stack
from pydicom.dataset import Dataset, FileDataset

from radiobject_assets.imaging.scan import ScanResult, scan
from radiobject_assets.imaging.series import Series, build_series


def _series(folder: Path, slopes: list[float], items: int = 1) -> Series:
    def change(ds: FileDataset, k: int) -> None:
        for name in ("RescaleSlope", "RescaleIntercept"):
            if name in ds:
                delattr(ds, name)
        found = []
        for _ in range(items):
            item = Dataset()
            item.RealWorldValueSlope, item.RealWorldValueIntercept = slopes[k % len(slopes)], 2.5
            found.append(item)
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


def test_a_philips_series_without_rescale_has_its_mapping_in_obs(shared_data: Path) -> None:
    (series,) = build_series(scan([shared_data / "series" / "mr_philips_fmri4d_7t"]))
    assert series.attributes["real_world_slope"] == pytest.approx(4.0075702, rel=1e-6)
    assert (series.slope, series.intercept) == (1.0, 0.0)
    assert np.dtype(series.dtype) == np.dtype("uint16")
