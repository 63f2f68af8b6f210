"""obs says of a volume only what all its planes say; else a list by point of the fourth axis, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from good_series import Good, Plane, attributes_of, load_good, write
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from radiobject_assets.imaging.dicom.tags import ATTRIBUTES
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

# What decides pixels, places, identity, order or kind: other tests change these.
DECIDING = {
    "ImageType", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PhotometricInterpretation", "PixelData", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "RescaleSlope", "RescaleIntercept", "RescaleType", "Modality", "SpecificCharacterSet",
    "NumberOfFrames",
    "PlanarConfiguration", "InstanceNumber", "FrameOfReferenceUID", "IssuerOfPatientID", "Units",
    "SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue",
}  # fmt: skip


def another(value: object, vr: str) -> object:
    """A valid value of that kind which is not the given one."""
    if isinstance(value, MultiValue | list):
        return [another(item, vr) for item in value] or another(None, vr)
    if vr in ("DS", "FL", "FD"):
        return float(str(value or 0)) + 7.0
    if vr in ("IS", "US", "SS", "UL", "SL"):
        return int(str(value or 0)) + 3
    return "YES" if str(value) == "NO" else "OTHER"


def set_to(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, value)


def judged(planes: Sequence[Plane], folder: Path) -> tuple[Series, ...]:
    write(planes, folder)
    return build_series(scan([folder]))


def false_statements(
    good: Good, planes: Sequence[Plane], folder: Path, column: str, keyword: str
) -> list[str]:
    """What a volume says in `column` that is not so of all its planes."""
    by_name = {plane.name: plane for plane in planes}
    wrong = []
    for series in judged(planes, folder):
        if series.verdict != "ingestable" or column not in series.attributes:
            continue
        said = series.attributes[column]
        own = [by_name[path.name] for path in series.files if path.name in by_name]
        points = sorted({plane.t for plane in own})
        values = [{str(plane.header().get(keyword)) for plane in own if plane.t == t} for t in points]
        if len(set.union(*values)) == 1:
            continue
        listed = json.loads(said) if isinstance(said, str) and said.startswith("[") else None
        by_point = (
            isinstance(listed, list)
            and len(listed) == len(points)
            and all(len(of_point) == 1 for of_point in values)
            and [str(item) for item in listed] == [min(of_point) for of_point in values]
        )
        if not by_point:
            wrong.append(f"{good.name}: {column} is {said!r} of planes with {sorted(set.union(*values))}")
    return wrong


@pytest.mark.parametrize("column", ATTRIBUTES)
def test_a_volume_says_nothing_that_one_of_its_planes_denies(
    shared_data: Path, tmp_path: Path, column: str
) -> None:
    """One plane, one place, or one point says something else; the first, and the last."""
    keyword = keyword_for_tag(ATTRIBUTES[column][0])
    vr = dictionary_VR(keyword)
    wrong = []
    for name in ("mr_hitachi_anat", "mr_ge_fmri4d"):
        if not (shared_data / "series" / name).is_dir():
            continue
        good = load_good(shared_data, name)
        last_z, last_t = max(p.z for p in good.planes), max(p.t for p in good.planes)
        usual = good.planes[0].header().get(keyword)
        usual = another(usual, vr) if usual in (None, "") else usual
        stated = [plane.edited(set_to(keyword, usual)) for plane in good.planes]
        differs: dict[str, Callable[[Plane], bool]] = {
            "first plane": lambda p: (p.z, p.t) == (0, 0),
            "last plane": lambda p, z=last_z, t=last_t: (p.z, p.t) == (z, t),
            "last point": lambda p, t=last_t: p.t == t and t > 0,
        }
        for where, chosen in differs.items():
            planes = [
                plane.edited(set_to(keyword, another(usual, vr))) if chosen(plane) else plane
                for plane in stated
            ]
            folder = tmp_path / f"{name}-{where}"
            wrong += [f"{where}: {text}" for text in false_statements(good, planes, folder, column, keyword)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("column", ATTRIBUTES)
def test_a_volume_says_nothing_that_only_its_first_planes_say(
    shared_data: Path, tmp_path: Path, column: str
) -> None:
    """The element is absent from the last plane: what is said of all must be said by all."""
    keyword = keyword_for_tag(ATTRIBUTES[column][0])
    wrong = []
    for name in ("ct_philips_tilt", "mr_siemens_phase"):
        if not (shared_data / "series" / name).is_dir():
            continue
        good = load_good(shared_data, name)
        last = max(plane.z for plane in good.planes)
        if keyword in DECIDING or good.planes[0].header().get(keyword) in (None, ""):
            continue
        planes = [
            plane.edited(lambda ds: delattr(ds, keyword)) if plane.z == last else plane
            for plane in good.planes
        ]
        wrong += false_statements(good, planes, tmp_path / name, column, keyword)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["ct_philips_tilt", "ct_ibsi_sphere", "mr_siemens_phase", "mr_ge_fmri4d"])
def test_what_is_said_of_a_volume_does_not_depend_on_which_plane_differs(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    """For every element of the header: a change in the first plane is told like one in the last."""
    if not (shared_data / "series" / name).is_dir():
        pytest.skip(f"{name} is not on this machine")
    good = load_good(shared_data, name)
    keep = {plane.z for plane in good.planes} if len(good.planes) < 12 else {0, 1, 2, 3}
    stack = [plane for plane in good.planes if plane.z in keep]
    ends = {end: next(p for p in stack if (p.z, p.t) == (end, 0)) for end in (min(keep), max(keep))}
    header = stack[0].header()
    wrong, tried = [], 0
    for element in header:
        keyword = element.keyword
        if not keyword or keyword in DECIDING or element.VR not in _CHANGED or element.tag.is_private:
            continue
        said = []
        for end, plane in ends.items():
            value = another(element.value, element.VR)
            if element.VR == "TM":
                value = "010203"
            changed = plane.edited(set_to(keyword, value))
            planes = [changed if p is plane else p for p in stack]
            series = judged(planes, tmp_path / f"{keyword}-{end}")
            said.append((sorted(str(one.reason) for one in series), _comparable(attributes_of(series))))
        tried += 1
        if said[0] != said[1]:
            left = set(map(str, said[0][1])) ^ set(map(str, said[1][1]))
            wrong.append(f"{keyword}: {said[0][0]} {said[1][0]} {sorted(left)[:2]}")
    assert tried > 10
    assert not wrong, "\n".join(wrong)


_CHANGED = {"DS", "IS", "CS", "LO", "SH", "ST", "LT", "US", "SS", "FL", "FD", "UL", "SL", "TM"}


def _comparable(attributes: list[dict[str, object]]) -> list[list[tuple[str, object]]]:
    """Without what times of single slices give (they do depend on the slice)."""
    return [
        sorted((k, v) for k, v in one.items() if k not in ("slice_timing_s", "volume_interval_s"))
        for one in attributes
    ]


def test_values_that_differ_by_point_are_listed_by_point_or_not_said(
    shared_data: Path, tmp_path: Path
) -> None:
    """Flip angles of a series of several: apart, or a list; never the first one's for all."""
    for name in ("mr_ge_fmri4d", "mr_philips_fmri4d"):
        if not (shared_data / "series" / name).is_dir():
            pytest.skip(f"{name} is not on this machine")
        good = load_good(shared_data, name)
        planes = [plane.edited(set_to("FlipAngle", f"{10 + 5 * plane.t}")) for plane in good.planes]
        for series in judged(planes, tmp_path / name):
            if series.verdict != "ingestable":
                continue
            by_name = {plane.name: plane for plane in planes}
            angles = {10 + 5 * by_name[path.name].t for path in series.files}
            said = series.attributes.get("flip_angle_deg")
            if len(angles) > 1 and said is not None:
                assert json.loads(str(said)) == sorted(angles)
            elif said is not None:
                assert said == next(iter(angles))


def test_the_values_of_the_fourth_axis_are_one_for_each_point(shared_data: Path, tmp_path: Path) -> None:
    import changed_evidence as evidence

    for name in ("mr_ge_fmri4d", "mr_philips_fmri4d"):
        if not (shared_data / "series" / name).is_dir():
            pytest.skip(f"{name} is not on this machine")
        good = load_good(shared_data, name)
        planes = evidence.times_in_order(list(good.planes), np.random.default_rng(1))
        (series,) = judged(planes, tmp_path / name)
        assert series.attributes.get("fourth_axis") == "time"
        assert json.loads(str(series.attributes["fourth_axis_values"])) == [
            2.0 * t for t in range(good.n_points)
        ]
