"""Series of every kind, made here in small, are divided, ordered and placed as dcm2niix does it.

What dcm2niix does in another way on purpose is not here: it stacks water and fat of a Dixon series, and two
kernels of a CT, in time, takes slices of one position that nothing but numbers tells apart for time points,
takes the first slice's slope for all but of Philips, gives Philips' trigger times a file each, and loses the
geometry of series that are numbered slice by slice where no vendor element helps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dcm2niix_reference import convert, gradients, read_all, unlike
from dicom_files import slice_dataset
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage

from radiobject_assets.imaging.nifti.sidecars import read_sidecars
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.policy import SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series

SIEMENS, GE, PHILIPS = "SIEMENS", "GE MEDICAL SYSTEMS", "Philips Medical Systems"
VENDORS = (SIEMENS, GE, PHILIPS, "TOSHIBA", "UIH", "CANON_MEC", "Hitachi Medical Corporation", "ACME")
OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, -0.6)

Values = Callable[[int, int], Mapping[str, Any]]
"""Elements of the slice k at time t."""


@dataclass(frozen=True)
class Case:
    """A series: its times and slices, and what the elements of each slice are."""

    times: int
    values: Values = lambda t, k: {}
    slices: int = 3
    sop_class: UID = MRImageStorage
    modality: str = "MR"
    by_slice: bool = False
    """True where instances are numbered slice by slice, not time by time."""
    step_mm: float = 2.0
    orientation: tuple[float, ...] = OBLIQUE
    vendors: tuple[str, ...] = (SIEMENS, GE, PHILIPS)
    dtype: str = "i2"


def _image_type(*names: str) -> Values:
    return lambda t, k: {"ImageType": ["ORIGINAL", "PRIMARY", names[t], "ND"]}


def _pet(t: int, k: int) -> dict[str, Any]:
    return {"RescaleSlope": str(0.5 + k), "FrameReferenceTime": str(60000 * t), "Units": "BQML"}


def _timed(t: int, k: int) -> dict[str, Any]:
    return {"AcquisitionTime": f"1000{10 + t}.5"}


CT: dict[str, Any] = {"sop_class": CTImageStorage, "modality": "CT"}
PET: dict[str, Any] = {"sop_class": PositronEmissionTomographyImageStorage, "modality": "PT", "dtype": "u2"}
CASES = {
    "a time series": Case(3, vendors=VENDORS),
    "acquisitions": Case(3, lambda t, k: {"AcquisitionNumber": t + 1}, vendors=VENDORS),
    "slice by slice": Case(3, by_slice=True, vendors=(PHILIPS,)),
    "descending": Case(2, step_mm=-2.0, vendors=VENDORS),
    "sagittal": Case(2, orientation=(0, 1, 0, 0, 0, -1), vendors=VENDORS),
    "coronal": Case(2, orientation=(1, 0, 0, 0, 0, -1)),
    "acquisition times": Case(3, lambda t, k: {"AcquisitionTime": f"1000{10 + t * 3 + k}.5"}),
    "temporal positions": Case(3, lambda t, k: {"TemporalPositionIdentifier": t + 1}),
    "trigger times": Case(3, lambda t, k: {"TriggerTime": str(40 * t)}, vendors=(SIEMENS, GE)),
    "echoes": Case(2, lambda t, k: {"EchoTime": str(10 + 9 * t), "EchoNumbers": t + 1}, vendors=VENDORS),
    "echo times alone": Case(2, lambda t, k: {"EchoTime": str(10 + 9 * t)}),
    "echo numbers alone": Case(2, lambda t, k: {"EchoNumbers": t + 1}, vendors=VENDORS),
    "echoes in time": Case(4, lambda t, k: {"EchoTime": str(10 + 9 * (t % 2)), "EchoNumbers": t % 2 + 1}),
    "magnitude and phase": Case(2, _image_type("M", "P"), vendors=VENDORS),
    "four components": Case(4, _image_type("M", "P", "R", "I"), vendors=VENDORS),
    "components by their own element": Case(
        2, lambda t, k: {"ComplexImageComponent": ("MAGNITUDE", "PHASE")[t]}, vendors=VENDORS
    ),
    "prone": Case(2, orientation=(-1, 0, 0, 0, -1, 0), vendors=VENDORS),
    "on the left side": Case(2, orientation=(0, -1, 0, 1, 0, 0)),
    "original and derived": Case(2, lambda t, k: {"ImageType": [("ORIGINAL", "DERIVED")[t], "PRIMARY", "M"]}),
    "flip angles": Case(3, lambda t, k: {"FlipAngle": str(5 + 10 * t)}, vendors=VENDORS),
    "inversion times": Case(3, lambda t, k: {"InversionTime": str(100 + 400 * t)}),
    "series numbers": Case(3, lambda t, k: {"SeriesNumber": 4 + t}, vendors=VENDORS),
    "coils": Case(2, lambda t, k: {"ReceiveCoilName": f"coil{t}"}),
    "one slice in time": Case(3, _timed, slices=1, vendors=VENDORS),
    "one thick slice": Case(
        3, lambda t, k: {**_timed(t, k), "SpacingBetweenSlices": None, "SliceThickness": "9"}, slices=1
    ),
    "slopes of slices": Case(2, lambda t, k: {"RescaleSlope": str(1.5 + k)}, vendors=(PHILIPS,)),
    "CT in acquisitions": Case(2, lambda t, k: {"AcquisitionNumber": 1 + t}, **CT),
    "exposures": Case(1, lambda t, k: {"Exposure": str(k)}, slices=5, **CT),
    "dynamic PET": Case(3, _pet, vendors=(PHILIPS,), **PET),
}  # fmt: skip


def _write(folder: Path, case: Case, vendor: str) -> None:
    folder.mkdir()
    normal = np.cross(case.orientation[:3], case.orientation[3:])
    rng = np.random.default_rng(5)
    order = [(t, k) for t in range(case.times) for k in range(case.slices)]
    if case.by_slice:
        order = [(t, k) for k in range(case.slices) for t in range(case.times)]
    for number, (t, k) in enumerate(order, start=1):
        ds = slice_dataset(
            rng.integers(0, 1000, (7, 8)).astype(case.dtype),
            position=case.step_mm * k * normal + [3, 4, 5],
            orientation=case.orientation,
            pixel_spacing=(1.5, 1.25),
            number=number,
            sop_class=case.sop_class,
        )
        _describe(ds, vendor, case.modality)
        for name, value in case.values(t, k).items():
            setattr(ds, name, value)
        ds.save_as(folder / f"{number:03d}", enforce_file_format=True)


def _describe(ds: FileDataset, vendor: str, modality: str) -> None:
    ds.Modality, ds.Manufacturer, ds.SeriesNumber, ds.AcquisitionNumber = modality, vendor, 4, 1
    ds.StudyDate, ds.StudyTime, ds.ProtocolName, ds.PatientPosition = "20200101", "100000", "p", "HFS"
    ds.SpacingBetweenSlices = ds.SliceThickness = "2"
    if modality == "MR":
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        ds.EchoTime, ds.EchoNumbers, ds.RepetitionTime, ds.FlipAngle = "20", 1, "2000", "30"


@pytest.mark.parametrize("name", CASES)
def test_series_are_divided_ordered_and_placed_as_by_dcm2niix(tmp_path: Path, name: str) -> None:
    for vendor in CASES[name].vendors:
        folder = tmp_path / vendor.split()[0]
        _write(folder, CASES[name], vendor)
        assert unlike(build_series(scan([folder])), convert(folder)) == [], vendor


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("spacing_mm", ["3.3", None])
def test_a_slice_alone_is_the_volume_that_dcm2niix_makes_of_it_where_it_is_kept(
    tmp_path: Path, vendor: str, spacing_mm: str | None
) -> None:
    folder = tmp_path / "one"
    _write(folder, Case(1, lambda t, k: {"SpacingBetweenSlices": spacing_mm}, slices=1), vendor)
    assert build_series(scan([folder]))[0].reason is Reason.SINGLE_SLICE
    found = build_series(scan([folder]), policy=SeriesPolicy(single_slices="keep"))
    assert unlike(found, convert(folder)) == []


@pytest.mark.parametrize("orientation", [OBLIQUE, (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)])
@pytest.mark.parametrize("step_mm", [3.0, -3.0])
@pytest.mark.parametrize("tiles", [5, 9])
def test_all_slices_of_a_uih_volume_in_one_image(
    tmp_path: Path, orientation: tuple[float, ...], step_mm: float, tiles: int
) -> None:
    folder = tmp_path / "grid"
    folder.mkdir()
    across, down = 3, -(-tiles // 3)
    normal = np.cross(orientation[:3], orientation[3:])
    for t in range(3):
        pixels = np.random.default_rng(t).integers(0, 900, (6 * down, 8 * across)).astype("u2")
        ds = slice_dataset(
            pixels,
            position=(-30, -20, 11),
            orientation=orientation,
            pixel_spacing=(1.5, 1.25),
            number=t + 1,
            sop_class=MRImageStorage,
        )
        _describe(ds, "UIH", "MR")
        ds.ImageType, ds.SpacingBetweenSlices = ["ORIGINAL", "PRIMARY", "M", "VFRAME"], "3"
        block = ds.private_block(0x0065, "Image Private Header", create=True)
        block.add_new(0x50, "DS", str(tiles))
        order = np.random.default_rng(0).permutation(tiles)
        block.add_new(
            0x51,
            "SQ",
            [_tile(normal * step_mm * k + [-30, -20, 11], t + order[k] / 10) for k in range(tiles)],
        )
        block.add_new(0x09, "FD", 800.0 if t else 0.0)
        block.add_new(0x37, "FD", [0.6, 0.0, 0.8] if t else [0.0, 0.0, 0.0])
        ds.save_as(folder / str(t), enforce_file_format=True)
    (series,) = found = build_series(scan([folder]))
    (reference,) = convert(folder)
    assert unlike(found, [reference]) == []
    b_values, vectors = gradients(reference)
    assert json.loads(str(series.attributes["b_values_s_per_mm2"])) == b_values
    assert np.allclose(json.loads(str(series.attributes["b_vectors_ras"])), vectors, atol=2e-3)
    theirs = read_sidecars([reference.with_suffix(".json")], nib.load(reference).affine)
    ours = {name: np.array(json.loads(str(series.attributes[name]))) for name in _TIMING}
    same_way = ours["slice_encoding_ras"] @ json.loads(str(theirs["slice_encoding_ras"]))
    times = json.loads(str(theirs["slice_timing_s"]))
    # dcm2niix keeps the time of day in single precision, in steps of 1/128 s
    assert np.allclose(ours["slice_timing_s"], times[:: 1 if same_way > 0 else -1], atol=8e-3)


_TIMING = ("slice_encoding_ras", "slice_timing_s")


def _tile(position: Any, second: float) -> Dataset:
    item = Dataset()
    item.AcquisitionDate, item.AcquisitionTime = "20200101", f"1001{second:06.3f}"
    item.ImagePositionPatient = [round(float(v), 6) for v in position]
    return item


PHILIPS_VOLUMES: dict[str, list[dict[str, Any]]] = {
    "dynamics": [{"dynamic": t} for t in (1, 2, 3, 4)],
    "labels": [{"dynamic": t, "label": n} for t in (1, 2, 3) for n in ("CONTROL", "LABEL")],
    "phases of labels": [
        {"dynamic": t, "phase": p, "label": n} for t in (1, 2) for p in (1, 2) for n in ("CONTROL", "LABEL")
    ],
    "phases": [{"dynamic": 1, "phase": p} for p in (1, 2, 3)],
    "directions": [
        {"b_number": 1, "direction": 1, "b_value": 0.0, "gradient": (0, 0, 0)},
        {"b_number": 2, "direction": 1, "b_value": 500.0, "gradient": (0.6, 0.8, 0)},
        {"b_number": 3, "direction": 1, "b_value": 1000.0, "gradient": (0.6, 0.8, 0)},
        {"b_number": 2, "direction": 2, "b_value": 500.0, "gradient": (0, 0.6, 0.8)},
        {"b_number": 3, "direction": 2, "b_value": 1000.0, "gradient": (0, 0.6, 0.8)},
    ],
}


@pytest.mark.parametrize("name", PHILIPS_VOLUMES)
def test_philips_volumes_are_ordered_by_their_numbers_not_by_the_instances(tmp_path: Path, name: str) -> None:
    """Philips' instance numbers follow no order: here they are random."""
    folder = tmp_path / "philips"
    folder.mkdir()
    volumes = PHILIPS_VOLUMES[name]
    rng = np.random.default_rng(1)
    numbers = iter((rng.permutation(3 * len(volumes)) + 1).tolist())
    for volume in volumes:
        for k in range(3):
            ds = slice_dataset(
                rng.integers(1, 900, (8, 8)).astype("i2"),
                position=(3, 4, 5 + 2 * k),
                number=next(numbers),
                sop_class=MRImageStorage,
            )
            _describe(ds, PHILIPS, "MR")
            _number_philips(ds, k, volume, volumes)
            ds.save_as(folder / str(ds.InstanceNumber), enforce_file_format=True)
    found = build_series(scan([folder]))
    references = convert(folder)
    assert unlike(found, references) == []
    if name == "directions":
        b_values, vectors = gradients(references[0])
        assert json.loads(str(found[0].attributes["b_values_s_per_mm2"])) == b_values
        assert np.allclose(json.loads(str(found[0].attributes["b_vectors_ras"])), vectors, atol=2e-3)


def _number_philips(ds: FileDataset, k: int, volume: dict[str, Any], volumes: list[dict[str, Any]]) -> None:
    ds.AcquisitionContrast, ds.AcquisitionDate, ds.AcquisitionTime = "PERFUSION", "20200101", "100100"
    imaging = ds.private_block(0x2001, "Philips Imaging DD 001", create=True)
    imaging.add_new(0x0A, "IS", k + 1)
    imaging.add_new(0x18, "SL", 3)
    if "dynamic" in volume:
        ds.TemporalPositionIdentifier = volume["dynamic"]
        ds.NumberOfTemporalPositions = max(v["dynamic"] for v in volumes)
        imaging.add_new(0x81, "IS", ds.NumberOfTemporalPositions)
    if "phase" in volume:
        imaging.add_new(0x08, "IS", volume["phase"])
    if "b_number" in volume:
        del ds.AcquisitionContrast
        imaging.add_new(0x03, "FL", volume["b_value"])
        first = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        for n, part in enumerate(volume["gradient"]):
            first.add_new(0xB0 + n, "FL", float(part))
    ds.add_new(0x20050014, "LO", "Philips MR Imaging DD 005")  # the block that scanners give it
    for tag, vr, key in (
        (0x20051412, "IS", "b_number"), (0x20051413, "IS", "direction"), (0x20051429, "CS", "label"),
    ):  # fmt: skip
        if key in volume:
            ds.add_new(tag, vr, volume[key])


def test_no_time_point_mixes_diffusion_weightings(tmp_path: Path) -> None:
    """Weights without numbers, in another order at each position: what belongs together is told by itself."""
    weights = [(0, [0, 0, 0]), (1000, [0.6, 0.8, 0]), (1000, [0, 0.6, 0.8])]
    for k in range(3):
        for n, which in enumerate(np.roll((0, 1, 2), k).tolist()):
            ds = slice_dataset(
                np.full((8, 8), 10 * which + k, "i2"),
                position=(0, 0, 2 * k),
                number=3 * k + n + 1,
                sop_class=MRImageStorage,
            )
            _describe(ds, "TOSHIBA", "MR")
            ds.DiffusionBValue, ds.DiffusionGradientOrientation = weights[which]
            ds.save_as(tmp_path / f"{k}{n}", enforce_file_format=True)
    (series,) = build_series(scan([tmp_path]))
    assert json.loads(str(series.attributes["b_values_s_per_mm2"])) == [0, 1000, 1000]
    voxels = read_all(open_series(series))
    # in the order of b-values and directions, since nothing tells another
    assert (voxels[0, 0] == [[10 * which + k for which in (0, 2, 1)] for k in range(3)]).all()
    vectors = json.loads(str(series.attributes["b_vectors_ras"]))
    assert np.allclose(vectors, [[0, 0, 0], [0, -0.6, 0.8], [-0.6, -0.8, 0]])
