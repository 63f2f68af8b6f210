"""What is a volume by its positions is one, whatever its storage class; what is none is said to be none."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dcm2niix_reference import physical, read_all
from dicom_files import ramp, write_stack
from pydicom.dataset import FileDataset

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

STORAGE = "1.2.840.10008.5.1.4.1.1."


def _one(path: Path) -> Series:
    (series,) = build_series(scan([path]))
    return series


def _written(tmp_path: Path, uid: str, *, placed: bool = True) -> Series:
    def change(ds: FileDataset, k: int) -> None:
        ds.SOPClassUID = uid
        if not placed:
            del ds.ImagePositionPatient

    write_stack(tmp_path, ramp(), change=change)
    return _one(tmp_path)


@pytest.mark.parametrize("case", ["s08", "s20"])
def test_cases_are_exact(shared_data: Path, case: str) -> None:
    folder = next((shared_data / "cases").glob(f"{case}_*"))
    expected = nib.load(folder / "expected.nii.gz")
    source = open_series(_one(folder / "input"))
    ours = nib.Nifti1Image(physical(source)[..., 0], source.affine)
    turned, wanted = nib.as_closest_canonical(ours), nib.as_closest_canonical(expected)
    assert np.allclose(turned.affine, wanted.affine, atol=1e-4)
    assert np.allclose(turned.get_fdata(), wanted.get_fdata(), atol=1e-4)


@pytest.mark.parametrize(
    "uid", [STORAGE + "6.1", STORAGE + "77.1.5.4", STORAGE + "601.1", "1.3.46.670589.2.3.1.1"]
)
def test_slices_with_places_are_a_volume_whatever_their_class(tmp_path: Path, uid: str) -> None:
    series = _written(tmp_path, uid)
    assert series.verdict == "ingestable", series.detail
    assert np.array_equal(read_all(open_series(series))[..., 0], ramp().transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("uid", "words"),
    [
        (STORAGE + "1", "Computed Radiography Image: a projection"),
        (STORAGE + "13.1.4", "a projection"),
        (STORAGE + "12.1", "a projection"),
        (STORAGE + "481.1", "a projection"),
        (STORAGE + "77.1.6", "pictures taken with light"),
    ],
)
def test_projections_and_photographs_are_none_whatever_they_say_of_places(
    tmp_path: Path, uid: str, words: str
) -> None:
    series = _written(tmp_path, uid)
    assert series.reason is Reason.UNSUPPORTED_OBJECT
    assert words in series.detail


def test_a_volume_that_cannot_be_placed_is_not_called_none(tmp_path: Path) -> None:
    series = _written(tmp_path / "a", STORAGE + "77.1.5.4", placed=False)
    assert series.reason is Reason.NO_GEOMETRY
    series = _written(tmp_path / "b", STORAGE + "6.2", placed=False)
    assert series.reason is Reason.NO_GEOMETRY
    assert "transducer" in series.detail


def test_an_ultrasound_clip_is_no_volume(tmp_path: Path) -> None:
    series = _written(tmp_path, STORAGE + "6.1", placed=False)
    assert series.reason is Reason.UNSUPPORTED_OBJECT
    assert "without a position" in series.detail


# HighBit


def _with_bits(tmp_path: Path, volume: np.ndarray, stored: int, high: int, signed: int = 0) -> Series:
    def change(ds: FileDataset, k: int) -> None:
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = stored, high, signed

    write_stack(tmp_path, volume.astype("u2"), change=change)
    return _one(tmp_path)


@pytest.mark.parametrize(("stored", "high"), [(16, 11), (16, 0), (16, 31), (12, 16), (12, 7), (12, 0)])
@pytest.mark.parametrize("signed", [0, 1])
def test_a_high_bit_that_cannot_be_is_read_as_the_lowest_bits(
    tmp_path: Path, stored: int, high: int, signed: int
) -> None:
    words = np.random.default_rng(1).integers(0, 1 << 16, (4, 5, 6))
    values = words & ((1 << stored) - 1)
    if signed:
        values = values - ((values >> (stored - 1)) << stored)
    series = _with_bits(tmp_path, words, stored, high, signed)
    assert series.verdict == "ingestable", series.detail
    assert np.array_equal(read_all(open_series(series))[..., 0], values.transpose(2, 1, 0))


def test_a_high_bit_that_pushes_the_values_out_is_a_contradiction(tmp_path: Path) -> None:
    series = _with_bits(tmp_path, np.random.default_rng(1).integers(0, 1 << 12, (4, 5, 6)), 12, 15)
    with pytest.raises(ImageReadError) as caught:
        read_all(open_series(series))
    assert caught.value.code == Reason.UNSUPPORTED_PIXELS
    assert "HighBit 15" in caught.value.detail
