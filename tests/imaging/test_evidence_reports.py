"""Circumstances of slice order, lost slices and merged series that users reported of other tools.

Each test names the public report. The truth is that of a good series; headers are changed as reported.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from changed_evidence import TEMPORAL, timed
from changed_series import setting, without
from dcm2niix_reference import physical
from good_series import Good, Plane, Planes, doubled, load_good, outcome
from pydicom.dataset import Dataset
from test_evidence_properties import tried

from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

Load = Callable[[str], Good]
EITHER = ("exact", "refused")
APART = ("divided", "refused")


@pytest.fixture
def good(shared_data: Path) -> Load:
    def load(name: str) -> Good:
        if not (shared_data / "series" / name).is_dir():
            pytest.skip(f"{name} is not on this machine")
        return load_good(shared_data, name)

    return load


def stripped(planes: Planes) -> Planes:
    """Nothing speaks of time or order any more."""
    gone = without(*TEMPORAL)
    return [plane.edited(lambda ds: (gone(ds), ds.remove_private_tags())) for plane in planes]


def said(planes: Planes, change: Callable[[Plane], dict[str, object]]) -> Planes:
    """Planes with elements that depend on their place and point."""
    return [plane.edited(setting(**change(plane))) for plane in planes]


def only(folder: Path) -> Series:
    (series,) = [one for one in build_series(scan([folder])) if one.kind == "image"]
    return series


def shuffled_numbers(planes: Planes) -> Planes:
    order = np.random.default_rng(3).permutation(len(planes))
    return [plane.edited(setting(InstanceNumber=int(n) + 1)) for plane, n in zip(planes, order, strict=True)]


def test_numbers_that_count_against_the_times_never_turn_a_series_round(good: Load, tmp_path: Path) -> None:
    """rordenlab/dcm2niix issue 184: dynamic PET whose InstanceNumber runs against AcquisitionTime."""
    for name in ("mr_ge_fmri4d", "mr_philips_fmri4d"):
        planes = timed(stripped(list(good(name).planes)), 36000, 15)
        planes = said(planes, lambda p: {"InstanceNumber": 900 - 100 * p.t + p.z})
        assert outcome(good(name), planes, tmp_path / name) in EITHER


def as_pet(planes: Planes, durations_s: list[float]) -> Planes:
    """Dynamic PET: frames of different length, reference times in the middle of each."""
    starts = np.concatenate([[0.0], np.cumsum(durations_s)])

    def frame(plane: Plane) -> dict[str, object]:
        start, length = float(starts[plane.t]), durations_s[plane.t]
        return {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "Modality": "PT", "Units": "BQML",
            "SeriesType": ["DYNAMIC", "IMAGE"], "ActualFrameDuration": str(int(length * 1000)),
            "FrameReferenceTime": str(1000 * (start + length / 2)), "CorrectedImage": ["DECY", "ATTN"],
            "AcquisitionDate": "20200110", "AcquisitionTime": f"1000{start:09.6f}" if start < 60 else
            f"10{int(start // 60):02d}{start % 60:09.6f}", "SeriesTime": "100000", "SeriesDate": "20200110",
            "DecayCorrection": "START", "RescaleType": "BQML", "NumberOfTimeSlices": len(durations_s),
        }  # fmt: skip

    def change(plane: Plane) -> Plane:
        values = frame(plane)

        def edit(ds: Dataset) -> None:
            setting(**values)(ds)
            ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.128"
            without("EchoTime", "RepetitionTime", "ScanningSequence", "SequenceVariant")(ds)

        return plane.edited(edit)

    return [change(plane) for plane in planes]


DURATIONS = [15.0, 15.0, 30.0, 60.0]


def test_frames_of_dynamic_pet_are_in_time_and_say_start_and_duration(good: Load, tmp_path: Path) -> None:
    """rordenlab/dcm2niix issues 577 (numbers in no order) and 521 (starts that do not fit durations)."""
    base = good("mr_philips_fmri4d")
    planes = shuffled_numbers(as_pet(stripped(list(base.planes)), DURATIONS))
    assert outcome(base, planes, tmp_path / "pet") == "exact"
    attributes = only(tmp_path / "pet").attributes
    assert attributes["fourth_axis"] == "time"
    assert json.loads(str(attributes["fourth_axis_values"])) == [0, 15, 30, 60]
    listed = [json.loads(v) for v in attributes.values() if isinstance(v, str) and v.startswith("[")]
    assert DURATIONS in listed, "nothing tells how long each frame took"


def test_reference_times_order_frames_where_trigger_times_are_all_zero(good: Load, tmp_path: Path) -> None:
    """BIC-MNI/minc-tools issue 84."""
    base = good("mr_philips_fmri4d")
    planes = said(as_pet(stripped(list(base.planes)), DURATIONS), lambda p: {"TriggerTime": "0"})
    assert outcome(base, shuffled_numbers(planes), tmp_path / "pet") == "exact"


def test_inversion_times_order_a_series_and_name_its_axis(good: Load, tmp_path: Path) -> None:
    """rordenlab/dcm2niix issue 845: inversion times in no order, only the first in the sidecar."""
    base = good("mr_philips_fmri4d")
    planes = shuffled_numbers(stripped(list(base.planes)))
    planes = said(planes, lambda p: {"InversionTime": f"{100 + 250 * p.t}"})
    found = outcome(base, planes, tmp_path / "ti")
    assert found in ("exact", "divided", "refused")
    if found == "exact":
        attributes = only(tmp_path / "ti").attributes
        assert attributes["fourth_axis"] == "inversion_time"
        assert json.loads(str(attributes["fourth_axis_values"])) == [100, 350, 600, 850]
        assert attributes.get("inversion_time_ms") != 100


def test_trigger_times_that_are_time_stamps_divide_no_series(good: Load, tmp_path: Path) -> None:
    """rordenlab/dcm2niix issue 395: a TriggerTime that rises with each volume of a functional series."""
    for name in ("mr_ge_fmri4d", "mr_philips_fmri4d"):
        base = good(name)
        planes = said(list(base.planes), lambda p: {"TriggerTime": f"{2000 * p.t}"})
        assert outcome(base, planes, tmp_path / name) == "exact"


def test_trigger_times_against_numbers_are_phases_with_their_delays_or_refused(
    good: Load, tmp_path: Path
) -> None:
    """Slicer/Slicer forum and issue 273: cine whose numbers run otherwise than its trigger times."""
    base = good("mr_philips_fmri4d")
    # truth in the order of trigger times
    planes = said(
        stripped(list(base.planes)),
        lambda p: {"TriggerTime": f"{40 * p.t}", "InstanceNumber": (3 - p.t) * 1000 + p.z + 1},
    )
    found = outcome(base, planes, tmp_path / "cine")
    assert found in EITHER
    if found == "exact":
        attributes = only(tmp_path / "cine").attributes
        assert attributes["fourth_axis"] == "phase"
        assert json.loads(str(attributes["fourth_axis_values"])) == [0, 40, 80, 120]


def test_exposure_that_varies_from_slice_to_slice_divides_no_stack(good: Load, tmp_path: Path) -> None:
    """rordenlab/dcm2niix issues 302 and 396: tube current modulation."""
    for name in ("ct_philips_tilt", "ct_ibsi_sphere"):
        base = good(name)
        planes = said(
            list(base.planes),
            lambda p: {"Exposure": 100 + p.z, "XRayTubeCurrent": 200 + 3 * p.z, "ExposureTime": 500 + p.z},
        )
        assert outcome(base, planes, tmp_path / name) == "exact"
        attributes = only(tmp_path / name).attributes
        assert "exposure_mas" not in attributes
        assert "tube_current_ma" not in attributes


def test_two_echoes_of_which_an_archive_dropped_half_the_slices_are_no_two_volumes(
    good: Load, tmp_path: Path
) -> None:
    """rordenlab/dcm2niix issue 349: echoes share their numbers, and every second image was dropped."""
    for name in ("mr_siemens_phase", "mr_ge_anat_implicit", "mr_philips_anat"):
        base = good(name)
        planes = [
            plane.edited(setting(EchoTime="12.5", EchoNumbers="2"), kind="second echo", damaged=True)
            if plane.z % 2
            else plane
            for plane in base.planes
        ]
        assert outcome(base, planes, tmp_path / name) == "refused"


def test_times_of_two_beds_divide_no_stack(good: Load, tmp_path: Path) -> None:
    """rordenlab/dcm2niix issue 698, UCL/STIR pull request 336: static PET of several beds."""
    for name in ("ct_ibsi_sphere", "mr_siemens_phase"):
        base = good(name)
        half = max(p.z for p in base.planes) // 2
        planes = said(
            list(base.planes),
            lambda p, half=half: {
                "AcquisitionTime": "101500" if p.z > half else "101200",
                "FrameReferenceTime": "90000" if p.z > half else "0",
                "AcquisitionNumber": 1 + int(p.z > half),
                "InstanceNumber": 500 - p.z,
            },
        )
        assert outcome(base, planes, tmp_path / name) == "exact"


def test_study_times_that_differ_from_file_to_file_divide_no_series(good: Load, tmp_path: Path) -> None:
    """rordenlab/dcm2niix issue 667."""
    for name in ("mr_hitachi_anat", "mr_ge_fmri4d", "mr_ge_dti4d"):
        base = good(name)
        planes = said(list(base.planes), lambda p: {"StudyTime": f"102946.{445 + 3 * p.z + 17 * p.t}000"})
        assert outcome(base, planes, tmp_path / name) == "exact"


@pytest.mark.parametrize(
    ("element", "values"),
    [
        ("ConvolutionKernel", ("B30f", "B70f")),
        ("FilterType", ("HEAD FILTER", "BODY FILTER")),
        ("ContrastBolusAgent", ("", "Iomeprol")),
        ("FlipAngle", ("5", "15")),
        ("ImageType", (["DERIVED", "PRIMARY", "MONO_E_40"], ["DERIVED", "PRIMARY", "MONO_E_70"])),
        ("ImageType", (["DERIVED", "SECONDARY", "WATER"], ["DERIVED", "SECONDARY", "FAT"])),
        ("KVP", ("80", "140")),
    ],
)
def test_two_reconstructions_or_contrasts_under_one_uid_are_no_two_points_in_time(
    good: Load, tmp_path: Path, element: str, values: tuple[object, object]
) -> None:
    """rordenlab/dcm2niix issues 295 and 590, SimpleITK/SimpleITK issue 1185, and many of mixed series."""
    for name in ("ct_philips_tilt", "mr_hitachi_anat"):
        base = doubled(good(name))
        planes = [
            plane.edited(setting(**{element: values[plane.t]}), kind=str(values[plane.t]))
            for plane in base.planes
        ]
        found = outcome(base, planes, tmp_path / name)
        if found == "exact":  # one 4D volume: it says what the axis is, or that it is not known
            assert only(tmp_path / name).attributes["fourth_axis"] in ("energy", "unknown", "echo")
        else:
            assert found in APART


def test_acquisitions_that_only_their_numbers_tell_apart_are_in_that_order(
    good: Load, tmp_path: Path
) -> None:
    """cornerstonejs/cornerstone3D issue 555: CT perfusion with several scans in one series."""
    base = doubled(good("ct_philips_tilt"))
    planes = said(
        stripped(list(base.planes)),
        lambda p: {"AcquisitionNumber": p.t + 1, "InstanceNumber": p.t * 5 + p.z + 1},
    )
    assert outcome(base, planes, tmp_path / "perfusion") in EITHER


@pytest.mark.parametrize(
    "element", ["NominalPercentageOfCardiacPhase", "NominalPercentageOfRespiratoryPhase"]
)
def test_phases_of_the_heart_or_of_breathing_are_an_axis_of_phases(
    good: Load, tmp_path: Path, element: str
) -> None:
    """imageio/imageio pull request 349, nroduit/Weasis issue 701: gated CT in one series."""
    base = doubled(good("ct_philips_tilt"))
    planes = said(shuffled_numbers(stripped(list(base.planes))), lambda p: {element: 30.0 + 40 * p.t})
    found = outcome(base, planes, tmp_path / "gated")
    assert found in ("exact", "divided", "refused")
    if found == "exact":
        assert only(tmp_path / "gated").attributes["fourth_axis"] == "phase"


def test_a_scout_in_the_series_of_a_stack_spoils_nothing_and_joins_nothing(
    good: Load, tmp_path: Path
) -> None:
    """ivmartel/dwv issue 462, Slicer/Slicer issue 1007: other orientations under one UID."""
    for name in ("ct_philips_tilt", "mr_siemens_phase"):
        base = good(name)

        def scout(ds: Dataset) -> None:
            ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.10.1.5"
            ds.InstanceNumber = 900

        extra = base.planes[0].edited(scout, kind="scout", damaged=True)
        planes = [*base.planes, replace(extra, name="scout.dcm")]
        assert outcome(base, planes, tmp_path / name) in APART


def test_empty_files_between_others_are_lost_slices(good: Load, tmp_path: Path) -> None:
    """rordenlab/dcm2niix issue 156: files of a transfer that broke off."""
    for name in ("mr_ge_anat_implicit", "mr_siemens_phase"):
        base = good(name)
        planes = [replace(p, data=b"", damaged=True) if p.z == 2 else p for p in base.planes]
        assert outcome(base, planes, tmp_path / name) == "refused"


@pytest.mark.parametrize("text", ["", "24:00:00", "10.00.00", "noon", "246060", "1000"])
def test_times_that_are_no_times_are_no_evidence(good: Load, tmp_path: Path, text: str) -> None:
    base = good("mr_philips_fmri4d")
    planes = said(
        list(base.planes), lambda p: {"AcquisitionTime": text} if p.t % 2 else {"AcquisitionTime": "100000"}
    )
    assert outcome(base, planes, tmp_path / "times") in EITHER
    stack = good("mr_hitachi_anat")
    planes = said(list(stack.planes), lambda p: {"AcquisitionTime": text} if p.z % 2 else {})
    assert outcome(stack, planes, tmp_path / "stack") == "exact"


@pytest.mark.parametrize("name", ["mr_ge_fmri4d", "mr_philips_fmri4d", "mr_philips_dti4d", "mr_ge_dti4d"])
@pytest.mark.parametrize("bare", [False, True], ids=["as it is", "without times"])
def test_names_of_files_decide_nothing(good: Load, tmp_path: Path, name: str, bare: bool) -> None:
    """Slicer/Slicer issue 7730, imageio/imageio pull request 349: order by file name."""
    planes = list(good(name).planes)
    planes = stripped(planes) if bare else planes
    results = []
    for seed in (1, 2, 3):
        order = np.random.default_rng(seed).permutation(len(planes))
        folder = tmp_path / str(seed)
        folder.mkdir()
        for number, index in enumerate(order):
            (folder / f"{number:04d}").write_bytes(planes[index].data)
        series = build_series(scan([folder]))
        results.append(
            [
                (one.verdict, str(one.reason), one.shape, sorted(map(str, one.attributes.items())),
                 physical(open_series(one)).tobytes() if one.verdict == "ingestable" else b"")
                for one in series
            ]
        )  # fmt: skip
    assert results[0] == results[1] == results[2]


def test_a_series_whose_times_and_positions_were_all_made_alike_is_ordered_by_its_numbers_or_refused(
    good: Load, tmp_path: Path
) -> None:
    """rordenlab/dcm2niix issue 948: de-identified, one temporal position and one content time left."""
    from changed_evidence import one_time_for_all

    for name in ("mr_ge_fmri4d", "mr_philips_fmri4d"):
        assert tried(good(name), (one_time_for_all,), 1, tmp_path / name) in EITHER
