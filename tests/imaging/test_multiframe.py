"""Enhanced multi-frame objects: frames in any order, several files a series, several volumes a file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from dcm2niix_reference import convert, gradients, read_all, unlike
from dicom_files import FrameSpec, enhanced_dataset, ramp, slice_dataset
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import NuclearMedicineImageStorage

from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series


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


def _item(**values: object) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _echo(t: int) -> dict[str, Dataset]:
    return {"MREchoSequence": _item(EffectiveEchoTime=5.0 + 3 * t)}


def _weight(t: int) -> dict[str, Dataset]:
    if t == 0:
        return {"MRDiffusionSequence": _item(DiffusionBValue=0.0, DiffusionDirectionality="NONE")}
    direction = _item(DiffusionGradientOrientation=[[0.6, 0.8, 0.0], [0.36, 0.48, 0.8]][t - 1])
    weight = _item(DiffusionBValue=500.0 * t, DiffusionDirectionality="DIRECTIONAL")
    weight.DiffusionGradientDirectionSequence = [direction]
    return {"MRDiffusionSequence": weight}


def _component(t: int) -> dict[str, Dataset]:
    kind = _item(
        ComplexImageComponent=("MAGNITUDE", "PHASE")[t], FrameType=["ORIGINAL", "PRIMARY", "T1", "NONE"]
    )
    return {"MRImageFrameTypeSequence": kind}


@pytest.mark.parametrize(("macros", "n"), [(_echo, 2), (_weight, 3), (_component, 2)])
def test_a_scanner_that_writes_a_file_for_each_volume_is_read_as_by_dcm2niix(
    shared_data: Path, tmp_path: Path, macros: Callable[[int], dict[str, Dataset]], n: int
) -> None:
    """As Siemens' XA does; the rest of the headers is of a real one."""
    folder = tmp_path / "xa"
    folder.mkdir()
    ds = dcmread(_original(shared_data))
    groups = list(ds.PerFrameFunctionalGroupsSequence)[:4]
    for t in range(n):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{t + 1}"
        ds.InstanceNumber = ds.AcquisitionNumber = t + 1
        ds.PerFrameFunctionalGroupsSequence, ds.NumberOfFrames = groups, len(groups)
        pixels = np.random.default_rng(t).integers(1, 4000, (len(groups), ds.Rows, ds.Columns))
        ds.PixelData = pixels.astype("<u2").tobytes()
        for group in groups:
            content = group.FrameContentSequence[0]
            content.TemporalPositionIndex = t + 1
            content.DimensionIndexValues = [1, content.InStackPositionNumber, t + 1]
            for name, item in macros(t).items():
                ds.SharedFunctionalGroupsSequence[0].pop(name, None)
                setattr(group, name, [item])
        if macros is _component:
            ds.ComplexImageComponent = ("MAGNITUDE", "PHASE")[t]
            ds.ImageType = ["ORIGINAL", "PRIMARY", "MP"[t], "NONE"]
        ds.save_as(folder / str(t))
    found = build_series(scan([folder]))
    references = convert(folder)
    assert unlike(found, references) == []
    if macros is _weight:
        assert json.loads(str(found[0].attributes["b_values_s_per_mm2"])) == gradients(references[0])[0]
        vectors = json.loads(str(found[0].attributes["b_vectors_ras"]))
        assert np.allclose(vectors, gradients(references[0])[1], atol=2e-3)


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


def _tomogram(folder: Path, kind: str, gap_mm: float) -> np.ndarray:
    volume = ramp(5, 6, 7, "u2")
    ds = slice_dataset(volume[0], position=(0, 0, 0), sop_class=NuclearMedicineImageStorage)
    place = Dataset()
    place.ImagePositionPatient, place.ImageOrientationPatient = [-10, -20, 30], [1, 0, 0, 0, 1, 0]
    del ds.ImagePositionPatient, ds.ImageOrientationPatient
    ds.Modality, ds.ImageType = "NM", ["ORIGINAL", "PRIMARY", kind, "EMISSION"]
    ds.DetectorInformationSequence, ds.SpacingBetweenSlices = [place], str(gap_mm)
    ds.NumberOfFrames, ds.SliceVector = 5, [1, 2, 3, 4, 5]
    ds.PixelData = volume.tobytes()
    folder.mkdir()
    ds.save_as(folder / "nm", enforce_file_format=True)
    return volume


@pytest.mark.parametrize("kind", ["RECON TOMO", "RECON GATED TOMO"])
def test_a_tomogram_of_nuclear_medicine_is_a_volume(tmp_path: Path, kind: str) -> None:
    volume = _tomogram(tmp_path / "up", kind, 4.0)
    assert unlike(build_series(scan([tmp_path / "up"])), convert(tmp_path / "up")) == []
    _tomogram(tmp_path / "down", kind, -4.0)  # against the normal; dcm2niix takes no notice of the sign
    voxels, affine = _volume(tmp_path / "down")
    for k in range(5):
        index = (np.linalg.inv(affine) @ [10, 20, 30 - 4 * k, 1])[:3]
        assert voxels[(*np.round(index).astype(int), 0)] == volume[k, 0, 0]


def test_projections_of_nuclear_medicine_are_no_volume(tmp_path: Path) -> None:
    _tomogram(tmp_path / "raw", "TOMO", 4.0)
    (series,) = build_series(scan([tmp_path / "raw"]))
    assert series.reason is Reason.NO_GEOMETRY


def _frames_of(volumes: np.ndarray, echoes: Sequence[float] = (30.0,)) -> list[FrameSpec]:
    """Frames of (echo, time, slice, row, column), time by time."""
    return [
        FrameSpec(volumes[e, t, k], (0, 0, 2 * k), (1, k + 1, e + 1, t + 1), t + 1, echo_time_ms=echo)
        for e, echo in enumerate(echoes)
        for t in range(volumes.shape[1])
        for k in range(volumes.shape[2])
    ]


@pytest.mark.parametrize("maker", ["Canon", "UIH", "GE MEDICAL SYSTEMS", "Siemens Healthineers", "Philips"])
def test_echoes_and_times_of_one_enhanced_object_of_any_maker(tmp_path: Path, maker: str) -> None:
    volumes = np.random.default_rng(2).integers(0, 900, (2, 3, 4, 5, 6)).astype("u2")
    frames = _frames_of(volumes, (10.0, 20.0))
    order = np.random.default_rng(3).permutation(len(frames))
    ds = enhanced_dataset([frames[n] for n in order], manufacturer=maker)
    ds.save_as(tmp_path / "one", enforce_file_format=True)
    found = {series.component: series for series in build_series(scan([tmp_path]))}
    assert set(found) == {"e1", "e2"}
    for e, name in enumerate(("e1", "e2")):
        assert np.array_equal(read_all(open_series(found[name])), volumes[e].transpose(3, 2, 1, 0))
        assert found[name].attributes["echo_time_ms"] == 10.0 * (e + 1)


@pytest.mark.parametrize("phase", ["ROW", "COLUMN"])
@pytest.mark.parametrize(
    "maker", ["GE MEDICAL SYSTEMS", "CANON_MEC", "UIH", "Philips", "Siemens Healthineers"]
)
def test_diffusion_of_enhanced_objects_is_in_patient_coordinates(
    tmp_path: Path, maker: str, phase: str
) -> None:
    orientation, normal = (0.96, 0.28, 0.0, -0.224, 0.768, -0.6), np.array([-0.168, 0.576, 0.8])
    weights = [(0.0, None), (700.0, (0.6, 0.8, 0.0)), (1000.0, (0.36, 0.48, 0.8))]
    frames = [
        FrameSpec(
            ramp()[k] + 300 * t, 2 * k * normal, (1, k + 1, 1 + bool(t), t + 1), b_value=b, gradient=direction
        )
        for t, (b, direction) in enumerate(weights)
        for k in range(4)
    ]
    (tmp_path / "dwi").mkdir()
    ds = enhanced_dataset(frames, orientation=orientation, manufacturer=maker)
    geometry = Dataset()
    geometry.InPlanePhaseEncodingDirection = phase  # changes nothing: the directions are the patient's
    ds.SharedFunctionalGroupsSequence[0].MRFOVGeometrySequence = [geometry]
    ds.save_as(tmp_path / "dwi" / "one", enforce_file_format=True)
    (series,) = found = build_series(scan([tmp_path / "dwi"]))
    b_values = json.loads(str(series.attributes["b_values_s_per_mm2"]))
    vectors = json.loads(str(series.attributes["b_vectors_ras"]))
    assert b_values == [b for b, _ in weights]
    assert np.allclose(vectors, [[-x, -y, z] for x, y, z in ((0, 0, 0), *(d for _, d in weights[1:] if d))])
    if maker == "UIH":
        return  # dcm2niix stacks its slices only with private elements
    (reference,) = convert(tmp_path / "dwi")
    if maker in ("CANON_MEC", "Philips"):  # of others it stacks all frames
        assert unlike(found, [reference]) == []
    assert gradients(reference)[0] == b_values
    assert np.allclose(gradients(reference)[1], vectors, atol=2e-3)


def test_water_and_fat_in_one_enhanced_object_are_two_volumes(tmp_path: Path) -> None:
    volumes = np.random.default_rng(4).integers(0, 900, (2, 4, 5, 6)).astype("u2")
    frames = [
        FrameSpec(
            volumes[n, k], (0, 0, 2 * k), (1, k + 1, n + 1), frame_type=("ORIGINAL", "PRIMARY", kind, kind)
        )
        for k in range(4)
        for n, kind in enumerate("WF")
    ]
    enhanced_dataset(frames).save_as(tmp_path / "dixon", enforce_file_format=True)
    found = {series.component: series for series in build_series(scan([tmp_path]))}
    assert set(found) == {"w-w", "f-f"}
    for n, name in enumerate(("w-w", "f-f")):
        assert np.array_equal(read_all(open_series(found[name]))[..., 0], volumes[n].transpose(2, 1, 0))
