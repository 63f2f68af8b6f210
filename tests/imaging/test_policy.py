"""Colour, complex and irregularly spaced images are refused unless the data set's policy keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dcm2niix_reference import read_all
from dicom_files import ramp, write_stack
from pydicom.dataset import FileDataset

from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.policy import SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

KEEP = SeriesPolicy(components="keep", irregular_spacing="keep")


def _one(path: Path, policy: SeriesPolicy = KEEP) -> Series:
    (series,) = build_series(scan([path]), policy=policy)
    return series


def test_compressed_colour_equals_the_reference_when_it_is_kept(shared_data: Path) -> None:
    folder = shared_data / "series" / "sc_rgb_j2k"
    assert _one(folder, SeriesPolicy()).reason is Reason.COLOUR
    series = _one(folder)
    assert series.shape == (52, 77, 4, 3)
    assert series.attributes["components"] == "rgb"
    reference = nib.load(shared_data / "ref" / "sc_rgb_j2k" / "sc_rgb_j2k.nii.gz")
    stored = np.asarray(reference.dataobj)
    theirs = np.stack([stored[name] for name in ("R", "G", "B")], axis=-1)
    assert np.array_equal(read_all(open_series(series)), theirs[:, ::-1])  # dcm2niix flips rows


@pytest.mark.parametrize("planar", [0, 1])
def test_uncompressed_colour_is_kept(tmp_path: Path, planar: int) -> None:
    colours = np.random.default_rng(4).integers(0, 255, (4, 5, 6, 3), dtype=np.uint8)

    def change(ds: FileDataset, k: int) -> None:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", planar
        ds.PixelData = (np.moveaxis(colours[k], 2, 0) if planar else colours[k]).tobytes()

    write_stack(tmp_path, ramp(4, 5, 6, "u1"), change=change)
    assert np.array_equal(read_all(open_series(_one(tmp_path))), colours.transpose(2, 1, 0, 3))


def test_complex_numbers_are_kept_as_real_and_imaginary_part(shared_data: Path) -> None:
    path = shared_data / "nifti" / "complex.nii.gz"
    series = _one(path)
    values = np.asarray(nib.load(path).dataobj)
    ours = read_all(open_series(series))
    assert ours.dtype == np.float32
    assert np.array_equal(ours[..., 0], values.real)
    assert np.array_equal(ours[..., 1], values.imag)
    source = open_series(series)
    read_all(source)
    assert len(source.source_digest()) == 64


def test_missing_slices_are_kept_with_their_positions(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, ramp(6), step=(0, 0, 1.5))
    paths[3].unlink()
    assert _one(tmp_path, SeriesPolicy()).reason is Reason.MISSING_SLICE
    series = _one(tmp_path)
    assert series.shape == (6, 5, 5)
    assert json.loads(str(series.attributes["slice_positions_mm"])) == [0, 1.5, 3, 6, 7.5]
    assert series.affine is not None
    assert series.affine[2, 2] == pytest.approx(7.5 / 4)
    assert np.array_equal(read_all(open_series(series))[..., 0], ramp(6)[[0, 1, 2, 4, 5]].transpose(2, 1, 0))
