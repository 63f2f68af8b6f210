"""Regions drawn by hand: on every second slice, with holes, in tilted images, in several frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dcm2niix_reference import read_all
from dicom_files import ramp, write_stack
from hypothesis import given, settings, strategies as st
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from structure_sets import frame_of_reference, write_rtstruct

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.labels.contours import distance_mm, mask_between
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.release.deidentification import Release
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

SHAPE = (9, 40, 44)  # slices, rows, columns
CENTRE = np.array([21.3, 19.6])


def _circle(radius: float, z: float, centre: NDArray[np.float64] = CENTRE) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    plane = np.column_stack([np.cos(angles), np.sin(angles)]) * radius + centre
    return np.column_stack([plane, np.full(60, z)])


def _labels(folder: Path) -> list[Series]:
    found = ScanResult.from_table(scan([folder]).to_table())
    return [series for series in build_series(found) if series.kind == "labels"]


def _mask(series: Series) -> NDArray[np.bool_]:
    assert series.verdict == "ingestable", series.detail
    return read_all(open_series(series))[..., 0] > 0


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 3), st.floats(0.3, 3))
@settings(max_examples=25, deadline=None)
def test_distances_are_those_of_scipy(seed: int, x_mm: float, y_mm: float) -> None:
    from scipy.ndimage import distance_transform_edt

    mask = np.random.default_rng(seed).random((13, 17)) < 0.1
    mask[3, 5] = True
    theirs = distance_transform_edt(~mask, sampling=(x_mm, y_mm))
    assert np.allclose(distance_mm(mask, (x_mm, y_mm)), theirs)


def test_halfway_between_two_circles_is_the_circle_between_them() -> None:
    grid = np.stack(np.meshgrid(np.arange(44), np.arange(40), indexing="ij"), axis=-1)
    distance = np.linalg.norm(grid - CENTRE, axis=-1)
    middle = mask_between(distance < 6, distance < 14, 0.5, (1.0, 1.0))
    assert abs(int(middle.sum()) - np.pi * 10**2) < 0.05 * np.pi * 10**2
    assert np.array_equal(mask_between(distance < 6, distance < 6, 0.3, (1.0, 1.0)), distance < 6)
    nothing = np.zeros_like(distance, bool)
    assert not mask_between(nothing, nothing, 0.5, (1.0, 1.0)).any()


def test_a_cone_drawn_on_every_second_slice_has_the_volume_of_a_cone(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(*SHAPE), step=(0, 0, 2.5))
    write_rtstruct(tmp_path, {"Cone": [_circle(4 + z / 2, z) for z in (0, 5, 10, 15, 20)]})
    (series,) = _labels(tmp_path)
    areas = _mask(series).sum(axis=(0, 1))
    exact = np.pi * (4 + np.arange(9) * 1.25) ** 2
    assert np.abs(areas - exact).max() < 0.05 * exact.max()
    assert abs(areas.sum() - exact.sum()) < 0.02 * exact.sum()


def test_pieces_far_apart_are_not_joined(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(*SHAPE), step=(0, 0, 1))
    write_rtstruct(
        tmp_path,
        {
            "Nodes": [_circle(5, z) for z in (0, 2, 7)],
            "Two lesions": [_circle(5, z) for z in (1, 7)],
            "Body": [_circle(15, z) for z in range(9)],
            "One slice forgotten": [_circle(5, z) for z in (0, 1, 3)],
        },
    )
    drawn = [np.flatnonzero(_mask(series).any(axis=(0, 1))).tolist() for series in _labels(tmp_path)]
    assert drawn == [[0, 1, 2, 7], [1, 7], list(range(9)), [0, 1, 3]]


def test_a_ring_joined_to_its_hole_by_a_keyhole_is_a_ring_with_a_hole(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(*SHAPE), step=(0, 0, 1))
    outer, inner = _circle(14, 3), _circle(6, 3)[::-1]
    keyhole = np.concatenate([outer, outer[:1], inner[-1:], inner, inner[-1:], outer[:1]])
    write_rtstruct(tmp_path, {"Keyhole": [keyhole], "XOR": [_circle(14, 3), _circle(6, 3)]})
    keyed, ringed = map(_mask, _labels(tmp_path))
    assert np.array_equal(keyed, ringed)
    assert abs(int(keyed.sum()) - np.pi * (14**2 - 6**2)) < 0.03 * np.pi * 14**2


def test_voxels_on_a_border_belong_to_one_of_two_neighbours(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(*SHAPE), step=(0, 0, 1))

    def box(left: float, right: float) -> NDArray[np.float64]:
        corners = [(left, 5), (right, 5), (right, 15), (left, 15)]
        return np.column_stack([np.array(corners, float), np.full(4, 2.0)])

    write_rtstruct(tmp_path, {"Left": [box(5, 10)], "Right": [box(10, 20)], "Both": [box(5, 20)]})
    left, right, both = map(_mask, _labels(tmp_path))
    assert not (left & right).any()
    assert np.array_equal(left | right, both)
    assert both.sum() == 15 * 10


@pytest.mark.parametrize("angle_deg", [0, 17, 50])
def test_regions_of_tilted_images_are_filled_in_their_planes(tmp_path: Path, angle_deg: float) -> None:
    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    row, column = np.array([1.0, 0, 0]), np.array([0, cosine, sine])
    normal, origin, spacing = np.cross(row, column), np.array([-30.0, 12, 5]), (0.7, 0.9)
    place = {"origin": origin, "orientation": (*row, *column), "pixel_spacing": spacing, "step": normal * 2}
    write_stack(tmp_path, ramp(*SHAPE), **place)
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    radii = np.where(np.arange(10) % 2, 8, 18)
    star = np.column_stack([np.cos(angles), np.sin(angles)]) * radii[:, None] + CENTRE
    world = origin + star[:, :1] * row * spacing[1] + star[:, 1:] * column * spacing[0] + normal * 2 * 4
    write_rtstruct(tmp_path, {"Star": [world]})
    (series,) = _labels(tmp_path)
    mask = _mask(series)
    grid = np.stack(np.meshgrid(np.arange(44), np.arange(40), indexing="ij"), axis=-1).reshape(-1, 2)
    theirs = Polygon(star).contains_points(grid).reshape(44, 40)
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [4]
    assert np.array_equal(mask[:, :, 4], theirs)


def test_points_and_open_lines_enclose_nothing(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(*SHAPE), step=(0, 0, 1))

    def change(ds: FileDataset) -> None:
        kinds = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")
        for region, kind in zip(ds.ROIContourSequence[1:], kinds, strict=False):
            region.ContourSequence[0].ContourGeometricType = kind
        del ds.ROIContourSequence[4].ContourSequence

    names = ("Organ", "Isocentre", "Line", "Curve", "Empty")
    write_rtstruct(tmp_path, {name: [_circle(5, 2)] for name in names}, change)
    (series,) = _labels(tmp_path)
    assert [segment.label for segment in series.segments] == ["Organ"]
    assert series.detail == "4 of 5 regions have no closed planar contour and are left out"
    assert len(series.files) == 1


def test_regions_of_several_frames_of_reference_go_to_their_images(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", ramp(*SHAPE), step=(0, 0, 1), series_uid="1.2.3.1")
    write_stack(tmp_path / "b", ramp(5, 30, 30), step=(0, 0, 1), origin=(5, 5, 50), series_uid="1.2.3.2")
    others = [dcmread(path) for path in sorted((tmp_path / "b").iterdir())]

    def change(ds: FileDataset) -> None:
        ds.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3.10"
        ds.ReferencedFrameOfReferenceSequence.append(frame_of_reference(others, "1.2.3.20"))
        missing = Dataset()
        missing.SeriesInstanceUID = "1.2.3.99"
        absent = frame_of_reference([_named("1.2.3.99")], "1.2.3.30")
        ds.ReferencedFrameOfReferenceSequence.append(absent)
        for roi, frame in zip(ds.StructureSetROISequence, ("10", "20", "30"), strict=True):
            roi.ReferencedFrameOfReferenceUID = f"1.2.3.{frame}"

    rings = {"First": [_circle(5, 2)], "Second": [_circle(5, 52)], "Nowhere": [_circle(5, 2)]}
    write_rtstruct(tmp_path / "a", rings, change)
    for release in (Release(), Release(key=b"0123456789abcdef")):
        found = release.scan(ScanResult.from_table(scan([tmp_path]).to_table()))
        labels = {s.component: s for s in build_series(found) if s.kind == "labels"}
        assert labels.keys() == {"roi1", "roi2", "from_roi3"}
        assert labels["roi1"].shape == (44, 40, 9)
        assert labels["roi2"].shape == (30, 30, 5)
        assert labels["from_roi3"].reason is Reason.REFERENCE_MISSING
        assert _mask(labels["roi2"])[:, :, 2].sum() == _mask(labels["roi1"])[:, :, 2].sum()
        assert sum(len(s.files) for s in labels.values()) == 1


def _named(series_uid: str) -> Dataset:
    image = Dataset()
    image.SeriesInstanceUID, image.SOPClassUID, image.SOPInstanceUID = series_uid, "1.2.3", "1.2.3.4"
    return image


def _turned(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.roll(ring[::-1], 7, axis=0)


def test_a_contour_that_is_written_twice_is_meant_once_unless_rings_exclude_each_other(
    tmp_path: Path,
) -> None:
    write_stack(tmp_path, ramp(*SHAPE), step=(0, 0, 1))

    def change(ds: FileDataset) -> None:
        for contour in ds.ROIContourSequence[3].ContourSequence:
            contour.ContourGeometricType = "CLOSEDPLANAR_XOR"

    ring = _circle(8, 3)
    rings = {"Once": [ring], "Twice": [ring, ring], "Turned": [ring, _turned(ring)], "XOR": [ring, ring]}
    write_rtstruct(tmp_path, rings, change)
    *drawn, excluded = _labels(tmp_path)
    once, twice, turned = map(_mask, drawn)
    assert once.any()
    assert np.array_equal(once, twice)
    assert np.array_equal(once, turned)
    with pytest.raises(ImageReadError) as caught:
        _mask(excluded)
    assert caught.value.code == Reason.LABELS_EMPTY


def test_a_region_between_the_centres_of_voxels_is_a_reason_and_no_empty_mask(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(*SHAPE), step=(0, 0, 1))
    write_rtstruct(tmp_path, {"Tiny": [_circle(0.2, 3, np.array([20.5, 19.5]))], "Organ": [_circle(5, 3)]})
    tiny, organ = _labels(tmp_path)
    assert _mask(organ).any()
    with pytest.raises(ImageReadError) as caught:
        _mask(tiny)
    assert caught.value.code == Reason.LABELS_EMPTY


def test_a_region_in_a_frame_of_reference_that_is_not_listed_is_not_drawn_on_the_listed_image(
    tmp_path: Path,
) -> None:
    def in_frame(uid: str) -> Callable[[Dataset, int], None]:
        return lambda ds, k: setattr(ds, "FrameOfReferenceUID", uid)

    write_stack(
        tmp_path / "a", ramp(*SHAPE), step=(0, 0, 1), series_uid="1.2.3.1", change=in_frame("1.2.3.10")
    )
    write_stack(
        tmp_path / "b", ramp(*SHAPE), step=(0, 0, 1), series_uid="1.2.3.2", change=in_frame("1.2.3.20")
    )

    def change(ds: FileDataset) -> None:
        ds.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3.10"
        for roi, frame in zip(ds.StructureSetROISequence, ("1.2.3.10", "1.2.3.20", ""), strict=True):
            roi.ReferencedFrameOfReferenceUID = frame

    rings = {"Listed": [_circle(5, 2)], "Other": [_circle(5, 2)], "Silent": [_circle(5, 2)]}
    write_rtstruct(tmp_path / "a", rings, change)
    found = {s.segments[0].label: s.references for s in _labels(tmp_path)}
    assert found == {"Listed": ("1.2.3.1",), "Other": ("1.2.3.2",), "Silent": ("1.2.3.1",)}


def _without_data(ds: FileDataset) -> None:
    del ds.ROIContourSequence[0].ContourSequence[0].ContourData


def _cut(ds: FileDataset) -> None:
    contour = ds.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = contour.ContourData[:-1]


def _aside(ds: FileDataset) -> None:
    contour = ds.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = [value + 500 * (n % 3 == 0) for n, value in enumerate(contour.ContourData)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without_data, Reason.LABELS_EMPTY),
        (_cut, Reason.BAD_GEOMETRY),
        (_aside, Reason.LABELS_OFF_GRID),
    ],
)
def test_a_region_that_cannot_be_drawn_says_why_and_the_others_are_drawn(
    tmp_path: Path, change: Callable[[FileDataset], None], reason: Reason
) -> None:
    write_stack(tmp_path, ramp(*SHAPE), step=(0, 0, 1))
    write_rtstruct(tmp_path, {"Bad": [_circle(5, 2)], "Good": [_circle(5, 2)]}, change)
    bad, good = _labels(tmp_path)
    with pytest.raises(ImageReadError) as caught:
        read_all(open_series(bad))
    assert caught.value.code == reason
    assert _mask(good).any()


def test_regions_of_one_number_are_a_reason_since_their_contours_cannot_be_told_apart(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(*SHAPE), step=(0, 0, 1))

    def change(ds: FileDataset) -> None:
        ds.StructureSetROISequence[1].ROINumber = ds.ROIContourSequence[1].ReferencedROINumber = 1

    write_rtstruct(tmp_path, {"One": [_circle(5, 2)], "Other": [_circle(9, 2)]}, change)
    assert [series.reason for series in _labels(tmp_path)] == [Reason.DAMAGED_HEADER]


def test_images_that_are_named_with_each_contour_alone_are_found(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(*SHAPE), step=(0, 0, 1))

    def change(ds: FileDataset) -> None:
        study = ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        images = study.RTReferencedSeriesSequence[0].ContourImageSequence
        del ds.ReferencedFrameOfReferenceSequence
        ds.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [images[2]]

    write_rtstruct(tmp_path, {"Organ": [_circle(5, 2)]}, change)
    (series,) = _labels(tmp_path)
    assert np.flatnonzero(_mask(series).any(axis=(0, 1))).tolist() == [2]
