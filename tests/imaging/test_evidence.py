"""Planes become volumes only where headers prove how: no part without its rest, no order that is a guess."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from dcm2niix_reference import read_all
from dicom_files import FrameSpec, enhanced_dataset, ramp, write_stack
from pydicom.dataset import FileDataset
from pydicom.uid import MRImageStorage, PositronEmissionTomographyImageStorage, generate_uid

from radiobject_assets.imaging.nifti.sidecars import to_sidecar
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

Values = Callable[[int, int], Mapping[str, Any]]


def _one(folder: Path) -> Series:
    (series,) = build_series(scan([folder]))
    return series


def _times(folder: Path, n: int, values: Values, slices: int = 4, sop_class: Any = MRImageStorage) -> None:
    """Time points of the values 1000 * t + k, whose files' names say nothing of their order."""
    for t in range(n):

        def change(ds: FileDataset, k: int, t: int = t) -> None:
            ds.Modality = "MR"
            ds.InstanceNumber = t * slices + k + 1
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            for name, value in values(t, k).items():
                if value is None:
                    ds.pop(name, None)
                else:
                    setattr(ds, name, value)

        voxels = ramp(slices) * 0 + np.arange(slices, dtype="i2")[:, None, None] + 1000 * t
        write_stack(
            folder, voxels.astype("i2"), prefix=f"{(7 * t) % 11}-", sop_class=sop_class, change=change
        )


def _order(series: Series) -> list[int]:
    voxels = read_all(open_series(series))
    assert all(
        np.array_equal(voxels[0, 0, :, t] % 1000, np.arange(voxels.shape[2])) for t in range(voxels.shape[3])
    )
    assert (voxels // 1000 == voxels[:1, :1, :1] // 1000).all(), "time points are mixed"
    return [int(value) // 1000 for value in voxels[0, 0, 0]]


@pytest.mark.parametrize(
    ("differs", "what"),
    [
        ({"EchoTime": "20"}, "EchoTime"),
        ({"PixelSpacing": [1.1, 1.1]}, "PixelSpacing"),
        ({"ImageOrientationPatient": [1, 0.03, 0, -0.03, 1, 0]}, "ImageOrientationPatient"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, "ComplexImageComponent"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "WATER"]}, "ImageType"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "PhotometricInterpretation"),
        ({"RescaleType": "US"}, "RescaleType"),
    ],
)
@pytest.mark.parametrize("which", ["the last", "every second"])
def test_slices_that_differ_take_the_rest_of_their_stack_with_them(
    tmp_path: Path, differs: dict[str, Any], what: str, which: str
) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds.EchoTime, ds.RescaleType = "10", "HU"
        if k == 7 if which == "the last" else k % 2:
            for name, value in differs.items():
                setattr(ds, name, value)

    write_stack(tmp_path, ramp(8), change=change)
    series = _one(tmp_path)
    assert series.reason is Reason.PARTS_DIFFER
    assert series.n_instances == 8
    assert what in series.detail
    assert ("7 + 1" if which == "the last" else "4 + 4") in series.detail


def test_a_slice_of_another_matrix_at_the_end_takes_the_rest_with_it(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(6))
    write_stack(tmp_path, ramp(1)[:, :4, :4], prefix="end", origin=(0, 0, 12))
    assert _one(tmp_path).reason is Reason.PARTS_DIFFER


@pytest.mark.parametrize(
    "absent", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "PixelData"]
)
def test_an_end_slice_that_lacks_something_is_not_left_out(tmp_path: Path, absent: str) -> None:
    write_stack(tmp_path, ramp(6), change=lambda ds, k: ds.pop(absent) if k == 5 else None)
    series = _one(tmp_path)
    assert series.verdict == "quarantined"
    assert series.n_instances == 6


def test_a_slice_without_rescale_among_rescaled_ones_is_no_hounsfield_unit(tmp_path: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds.RescaleIntercept = "-1024"
        if k == 2:
            del ds.RescaleIntercept, ds.RescaleSlope

    write_stack(tmp_path, ramp(6), change=change)
    series = _one(tmp_path)
    assert series.reason is Reason.PARTS_DIFFER
    assert "1 of 6" in series.detail


@pytest.mark.parametrize(
    ("low", "high"), [("u1", "u2"), ("u1", "i2"), ("u2", "i2"), ("i1", "u2"), ("u2", "i4")]
)
def test_slices_of_several_number_types_are_one_volume_of_the_widest(
    tmp_path: Path, low: str, high: str
) -> None:
    rng = np.random.default_rng(3)
    volume = [
        rng.integers(*_limits(low if k % 3 == 0 else high), (5, 6), endpoint=True).astype(
            low if k % 3 == 0 else high
        )
        for k in range(7)
    ]
    for k, plane in enumerate(volume):
        write_stack(tmp_path, plane[None], prefix=f"{k}-", origin=(0, 0, 2 * k), change=_numbered(k))
    series = _one(tmp_path)
    voxels = read_all(open_series(series))[..., 0]
    assert np.array_equal(voxels, np.stack([plane.astype("i8") for plane in volume]).transpose(2, 1, 0))


def _limits(dtype: str) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _numbered(k: int) -> Callable[[FileDataset, int], None]:
    return lambda ds, _: setattr(ds, "InstanceNumber", k + 1)


def test_two_energies_are_two_volumes_that_say_which(tmp_path: Path) -> None:
    _times(tmp_path, 2, lambda t, k: {"KVP": ("80", "140")[t], "AcquisitionNumber": t + 1})
    found = {
        series.component: series.attributes["tube_voltage_kv"] for series in build_series(scan([tmp_path]))
    }
    assert found == {"80kv": 80, "140kv": 140}


def test_kinds_whose_positions_differ_in_the_last_digit_are_two_volumes(tmp_path: Path) -> None:
    for n, kind in enumerate(("FIELD_MAP", "M")):
        write_stack(
            tmp_path,
            ramp(),
            prefix=kind,
            origin=(0, 0, n * 2e-4),
            change=_kind(["ORIGINAL", "PRIMARY", kind]),
        )
    assert [series.shape for series in build_series(scan([tmp_path]))] == [(6, 5, 4)] * 2


def _kind(image_type: list[str]) -> Callable[[FileDataset, int], None]:
    return lambda ds, k: setattr(ds, "ImageType", image_type)


def _clock(second: float) -> str:
    second %= 86400
    return f"{int(second // 3600):02d}{int(second // 60 % 60):02d}{second % 60:09.6f}"


ORDERS: dict[str, tuple[Values, str, list[float] | None]] = {
    "acquisition times": (lambda t, k: {"AcquisitionTime": _clock(9e3 + 3 * t + k / 9)}, "time", [0, 3, 6]),
    "times over midnight": (lambda t, k: {"AcquisitionTime": _clock(86396 + 2 * t)}, "time", [0, 2, 4]),
    "times over midnight, one date": (
        lambda t, k: {"AcquisitionTime": _clock(86396 + 2 * t), "AcquisitionDate": "20240101"},
        "time",
        [0, 2, 4],
    ),
    "slice by slice": (lambda t, k: {"AcquisitionTime": _clock(1000 + 30 * k + 2 * t)}, "time", [0, 2, 4]),
    "temporal positions": (lambda t, k: {"TemporalPositionIdentifier": t + 1}, "time", None),
    "frame reference times": (
        lambda t, k: {"FrameReferenceTime": str(60000 * t + 20000), "ActualFrameDuration": "40000"},
        "time",
        [0, 60, 120],
    ),
    "middles of frames": (lambda t, k: {"FrameReferenceTime": str(60000 * t)}, "time", None),
    "dates far apart": (
        lambda t, k: {"AcquisitionDate": f"2024010{1 + 2 * t}", "AcquisitionTime": _clock(36000 - 3600 * t)},
        "time",
        [0, 169200, 338400],
    ),
    "times within a beat that jitter": (
        lambda t, k: {"TriggerTime": str((635, 632.5, 637.5)[t]), "AcquisitionTime": _clock(36000 + t)},
        "time",
        [0, 1, 2],
    ),
    "trigger times": (lambda t, k: {"TriggerTime": str(40 * t)}, "phase", [0, 40, 80]),
    "trigger times of a scan": (lambda t, k: {"TriggerTime": str(9000 * t + 50 * k)}, "time", [0, 9, 18]),
    "inversion times": (lambda t, k: {"InversionTime": str(40 * t + 9)}, "inversion_time", [9, 49, 89]),
    "acquisition numbers": (lambda t, k: {"AcquisitionNumber": t + 1}, "unknown", None),
    "numbers alone": (lambda t, k: {}, "unknown", None),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_points_is_proved_and_the_axis_named(tmp_path: Path, name: str) -> None:
    values, axis, points = ORDERS[name]
    _times(tmp_path, 3, values)
    series = _one(tmp_path)
    assert series.verdict == "ingestable", series.detail
    assert _order(series) == [0, 1, 2]
    assert series.attributes["fourth_axis"] == axis
    assert json.loads(str(series.attributes.get("fourth_axis_values", "null"))) == points


SHUFFLED = (8, 3, 11, 1, 6, 12, 2, 9, 4, 10, 7, 5)
REFUSED: dict[str, Values] = {
    "content times against numbers": lambda t, k: {"ContentTime": _clock(36000 - 2 * t)},
    "acquisition numbers against instance numbers": lambda t, k: {"AcquisitionNumber": 9 - t},
    "nothing": lambda t, k: {"InstanceNumber": SHUFFLED[4 * t + k]},
    "times against temporal positions": lambda t, k: {
        "AcquisitionTime": _clock(36000 - 2 * t), "TemporalPositionIdentifier": t + 1
    },
    "times against numbers": lambda t, k: {"AcquisitionTime": _clock(36000 - 2 * t)},
    "slice locations that differ": lambda t, k: {
        "SliceLocation": str(12 * t + 2 * k), "AcquisitionTime": _clock(36000 + t)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_order_that_is_contradicted_or_unproved_is_no_order(tmp_path: Path, name: str) -> None:
    _times(tmp_path, 3, REFUSED[name])
    series = _one(tmp_path)
    assert series.reason in (Reason.UNPROVED_ORDER, Reason.BAD_GEOMETRY)
    assert series.n_instances == 12
    assert any(letter.isdigit() for letter in series.detail)


def test_shuffled_numbers_do_not_matter_where_times_are_there(tmp_path: Path) -> None:
    _times(
        tmp_path,
        3,
        lambda t, k: {"InstanceNumber": SHUFFLED[4 * t + k], "AcquisitionTime": _clock(36000 + 2 * t)},
    )
    assert _order(_one(tmp_path)) == [0, 1, 2]


def test_numbers_prove_no_time_series_of_one_position(tmp_path: Path) -> None:
    _times(tmp_path, 6, lambda t, k: {"SliceThickness": "3", "ContentTime": _clock(t)}, slices=1)
    assert _one(tmp_path).reason is Reason.UNPROVED_ORDER


def test_frames_of_pet_say_when_they_start_and_how_long_they_last(tmp_path: Path) -> None:
    starts, lengths = (0, 10, 40), (10000, 30000, 60000)

    def values(t: int, k: int) -> dict[str, Any]:
        return {
            "Modality": "PT",
            "AcquisitionTime": _clock(36000 + starts[t]),
            "FrameReferenceTime": str(starts[t] * 1000 + lengths[t] // 3),
            "ActualFrameDuration": str(lengths[t]),
            "RescaleSlope": str(1 + t),
        }

    _times(tmp_path, 3, values, sop_class=PositronEmissionTomographyImageStorage)
    series = _one(tmp_path)
    sidecar = to_sidecar(series.attributes)
    assert sidecar["FrameTimesStart"] == [0, 10, 40]
    assert sidecar["FrameDuration"] == [10, 30, 60]


def test_obs_says_what_all_planes_say_or_lists_it_by_point_or_nothing(tmp_path: Path) -> None:
    def values(t: int, k: int) -> dict[str, Any]:
        return {
            "AcquisitionTime": _clock(36000 + t),
            "RepetitionTime": "2000",
            "MagneticFieldStrength": ("1.5", "3", "7")[t],
            "ManufacturerModelName": "A" if k else "B",
            "ReceiveCoilName": "x",
        }

    _times(tmp_path, 3, values)
    attributes = _one(tmp_path).attributes
    assert attributes["repetition_time_ms"] == 2000
    assert "magnetic_field_strength_t" not in attributes
    assert json.loads(str(attributes["magnetic_field_strength_t_by_point"])) == [1.5, 3, 7]
    assert not {"model_name", "model_name_by_point"} & attributes.keys()


def test_blocks_that_overlap_are_told_as_such(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(8), change=lambda ds, k: setattr(ds, "AcquisitionNumber", 1))
    write_stack(
        tmp_path,
        ramp(8) + 5,
        prefix="b",
        origin=(0, 0, 12),
        change=lambda ds, k: setattr(ds, "InstanceNumber", 50 + k),
    )
    series = _one(tmp_path)
    assert series.reason is Reason.DUPLICATE_POSITIONS
    assert "2 of 14 positions" in series.detail


def test_two_things_that_are_wrong_are_both_told(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, ramp(8))
    paths[3].unlink()
    with paths[5].open("r+b") as file:
        file.truncate(paths[5].stat().st_size - 20)
    series = _one(tmp_path)
    assert series.reason is Reason.TRUNCATED
    assert [problem.reason for problem in series.also] == [Reason.MISSING_SLICE]


def test_thin_and_thick_reconstructions_of_one_scan_are_two_volumes(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(9), step=(0, 0, 1), change=lambda ds, k: setattr(ds, "SliceThickness", "1"))

    def thick(ds: FileDataset, k: int) -> None:
        ds.SliceThickness, ds.InstanceNumber = "4", 100 + k

    write_stack(tmp_path, ramp(3), prefix="b", step=(0, 0, 4), change=thick)
    found = {series.component: series.shape for series in build_series(scan([tmp_path]))}
    assert found == {"1mm": (6, 5, 9), "4mm": (6, 5, 3)}


def test_two_phases_half_a_spacing_apart_are_no_volume_of_twice_the_slices(tmp_path: Path) -> None:
    for n in (1, 2):

        def change(ds: FileDataset, k: int, n: int = n) -> None:
            ds.AcquisitionNumber, ds.InstanceNumber = n, 8 * n + k

        write_stack(tmp_path, ramp(8) + n, prefix=f"{n}-", origin=(0, 0, n), change=change)
    series = _one(tmp_path)
    assert series.reason is Reason.PARTS_DIFFER
    assert "AcquisitionNumber" in series.detail


def test_blocks_of_acquisitions_one_after_the_other_are_one_volume(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(9), change=lambda ds, k: setattr(ds, "AcquisitionNumber", 1 + k // 3))
    assert _one(tmp_path).shape == (6, 5, 9)


def test_averages_between_the_slices_that_they_were_made_of_are_no_slices_of_theirs(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(8), change=lambda ds, k: setattr(ds, "SliceThickness", "2"))

    def average(ds: FileDataset, k: int) -> None:
        ds.SliceThickness, ds.InstanceNumber = "4", 50 + k
        ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "AVERAGE"]

    write_stack(tmp_path, ramp(7), prefix="a", origin=(0, 0, 1), change=average)
    assert _one(tmp_path).reason is Reason.PARTS_DIFFER


def test_three_parts_of_every_third_slice_are_one_stack(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(9), change=lambda ds, k: setattr(ds, "EchoTime", str(30 + 0.016 * (k % 3))))
    series = _one(tmp_path)
    assert series.reason is Reason.PARTS_DIFFER
    assert "3 + 3 + 3" in series.detail


def test_a_gap_beside_a_slice_of_another_kind_does_not_make_a_shorter_volume(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, ramp(6))
    write_stack(tmp_path, ramp(1)[:, :4, :4], prefix="other", origin=(0, 0, 0))
    paths[0].unlink()
    paths[1].unlink()
    assert _one(tmp_path).reason is Reason.PARTS_DIFFER


def test_phases_of_a_cardiac_ct_are_told_by_their_percentage(tmp_path: Path) -> None:
    _times(
        tmp_path,
        3,
        lambda t, k: {"NominalPercentageOfCardiacPhase": 30.0 * t, "InstanceNumber": SHUFFLED[4 * t + k]},
    )
    series = _one(tmp_path)
    assert _order(series) == [0, 1, 2]
    assert (series.attributes["fourth_axis"], series.attributes["fourth_axis_unit"]) == ("phase", "%")


@pytest.mark.parametrize("maker", ["SIEMENS", "GE MEDICAL SYSTEMS"])
def test_numbers_that_count_position_by_position_prove_nothing_but_of_philips(
    tmp_path: Path, maker: str
) -> None:
    for name in (maker, "Philips Medical Systems"):
        _times(
            tmp_path / name,
            3,
            lambda t, k, name=name: {"InstanceNumber": 3 * k + t + 1, "Manufacturer": name},
        )
    assert _one(tmp_path / maker).reason is Reason.UNPROVED_ORDER
    assert _order(_one(tmp_path / "Philips Medical Systems")) == [0, 1, 2]


def test_interleaved_numbers_prove_an_order_volume_by_volume(tmp_path: Path) -> None:
    _times(tmp_path, 3, lambda t, k: {"InstanceNumber": 4 * t + (1, 3, 2, 4)[k]})
    assert _order(_one(tmp_path)) == [0, 1, 2]


def test_a_file_of_a_concatenation_that_is_missing_is_missed(tmp_path: Path) -> None:
    frames = [FrameSpec(ramp(4)[k], (0, 0, 2 * k), (1, k + 1)) for k in range(4)]
    ds = enhanced_dataset(frames)
    ds.ConcatenationUID, ds.InConcatenationNumber, ds.InConcatenationTotalNumber = "1.2.3.4", 1, 2
    ds.save_as(tmp_path / "first", enforce_file_format=True)
    series = _one(tmp_path)
    assert series.reason is Reason.MISSING_SLICE
    assert "file 2" in series.detail
