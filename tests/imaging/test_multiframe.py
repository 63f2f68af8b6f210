"""Enhanced multi-frame objects: frames in any order, several files a series, several volumes a file."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from dcm2niix_reference import read_all
from pydicom import dcmread
from pydicom.dataset import Dataset

from radiobject_assets.imaging.scan import scan
from radiobject_assets.imaging.series import build_series, open_series


def _original(shared_data: Path) -> Path:
    return next((shared_data / "series" / "mr_siemens_xa30_enh_t1").iterdir())


def _volume(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    (series,) = build_series(scan([folder]))
    source = open_series(series)
    return read_all(source), source.affine


def _frames(ds: Dataset) -> np.ndarray:
    return np.frombuffer(ds.PixelData, "<u2").reshape(ds.NumberOfFrames, ds.Rows, ds.Columns)


def test_the_order_of_frames_in_the_file_does_not_matter(shared_data: Path, tmp_path: Path) -> None:
    expected, affine = _volume(_original(shared_data).parent)
    ds = dcmread(_original(shared_data))
    order = np.random.default_rng(8).permutation(ds.NumberOfFrames)
    groups = list(ds.PerFrameFunctionalGroupsSequence)
    ds.PixelData = _frames(ds)[order].tobytes()
    ds.PerFrameFunctionalGroupsSequence = [groups[k] for k in order]
    ds.save_as(tmp_path / "shuffled")
    voxels, shuffled_affine = _volume(tmp_path)
    assert np.array_equal(voxels, expected)
    assert np.allclose(affine, shuffled_affine)


def test_a_volume_may_be_split_over_files(shared_data: Path, tmp_path: Path) -> None:
    expected, affine = _volume(_original(shared_data).parent)
    ds = dcmread(_original(shared_data))
    groups, frames = list(ds.PerFrameFunctionalGroupsSequence), _frames(ds)
    for part, chosen in enumerate((range(1, 96, 2), range(0, 96, 2))):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{part + 1}"
        ds.InstanceNumber, ds.NumberOfFrames = part + 1, len(chosen)
        ds.PerFrameFunctionalGroupsSequence = [groups[k] for k in chosen]
        ds.PixelData = frames[list(chosen)].tobytes()
        ds.save_as(tmp_path / f"part{part}")
    voxels, split_affine = _volume(tmp_path)
    assert np.array_equal(voxels, expected)
    assert np.allclose(affine, split_affine)


def test_several_files_are_the_time_points_of_one_series(shared_data: Path, tmp_path: Path) -> None:
    ds = dcmread(_original(shared_data))
    frames = _frames(ds)
    for name, number in (("c", 1), ("a", 2), ("b", 3)):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        ds.InstanceNumber = number
        ds.PixelData = (frames // 4 + 1000 * number).astype("<u2").tobytes()
        ds.save_as(tmp_path / name)
    voxels, _ = _volume(tmp_path)
    assert voxels.shape == (128, 128, 96, 3)
    assert [int(voxels[..., t].min()) for t in range(3)] == [1000, 2000, 3000]


def test_magnitude_and_phase_in_one_file_are_two_volumes(shared_data: Path, tmp_path: Path) -> None:
    ds = dcmread(_original(shared_data))
    groups, frames = list(ds.PerFrameFunctionalGroupsSequence), _frames(ds)
    phase = copy.deepcopy(groups)
    for group in phase:
        group.MRImageFrameTypeSequence[0].ComplexImageComponent = "PHASE"
    ds.PerFrameFunctionalGroupsSequence = groups + phase
    ds.NumberOfFrames = 2 * len(groups)
    ds.PixelData = frames.tobytes() + (frames // 3).astype("<u2").tobytes()
    ds.save_as(tmp_path / "both")
    found = {series.component: series for series in build_series(scan([tmp_path]))}
    assert set(found) == {"", "phase"}
    assert sorted(series.n_instances for series in found.values()) == [0, 1]
    magnitude, angle = (read_all(open_series(found[name])) for name in ("", "phase"))
    assert np.array_equal(angle, magnitude // 3)
