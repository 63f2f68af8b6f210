"""Segmentations and contours end up on the voxels of their image, or are refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dcm2niix_reference import read_all
from dicom_files import ramp, write_stack
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from structure_sets import write_rtstruct

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.instance import Frame
from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.labels.contours import Between, contour_planes, fill_rings, slices_of_planes
from radiobject_assets.imaging.labels.placing import place_frames
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.label_images import LabelledImage
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _square(low: float, high: float) -> NDArray[np.float64]:
    return np.array([(low, low), (high, low), (high, high), (low, high)], dtype=np.float64)


def test_a_ring_inside_a_ring_is_a_hole() -> None:
    mask = fill_rings([_square(0.5, 8.5), _square(2.5, 5.5)], 10, 10)
    expected = np.zeros((10, 10), bool)
    expected[1:9, 1:9] = True
    expected[3:6, 3:6] = False
    assert np.array_equal(mask, expected)


def test_rings_that_leave_the_image_are_cut_at_its_border() -> None:
    assert fill_rings([_square(-5, 20)], 4, 6).all()
    assert not fill_rings([_square(30, 40)], 4, 6).any()
    assert not fill_rings([], 4, 6).any()


@given(st.integers(3, 40), st.floats(2, 15), st.tuples(st.floats(15, 25), st.floats(15, 25)))
def test_a_filled_polygon_agrees_with_matplotlib(
    corners: int, radius: float, centre: tuple[float, float]
) -> None:
    from matplotlib.path import Path as Polygon

    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + 0.1
    ring = np.column_stack([np.cos(angles), np.sin(angles)]) * radius + centre
    grid = np.stack(np.meshgrid(np.arange(40), np.arange(40), indexing="ij"), axis=-1).reshape(-1, 2)
    theirs = Polygon(ring).contains_points(grid).reshape(40, 40)
    near = np.zeros((40, 40), bool)  # centres on the border may go either way
    for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        along = end - start
        place = np.clip(((grid - start) @ along) / (along @ along), 0, 1)
        near |= (np.linalg.norm(grid - start - place[:, None] * along, axis=1) < 1e-6).reshape(40, 40)
    assert np.array_equal(fill_rings([ring], 40, 40) | near, theirs | near)


def test_contours_between_two_slices_go_to_the_nearer_one() -> None:
    def contour(z: float) -> NDArray[np.float64]:
        return np.column_stack([_square(1, 3), np.full(4, z)])

    def slices(*levels: float) -> dict[int, Between]:
        planes = contour_planes([contour(z) for z in levels], np.linalg.inv(LPS_TO_RAS), 5)
        return slices_of_planes(list(planes), 5, 1.0)

    assert {n: source.below for n, source in slices(0.6, 2.4).items()} == {1: 0.6, 2: 2.4}
    assert {n: source.below for n, source in slices(1.1, 0.7).items()} == {1: 1.1}
    assert slices(7) == {}, "beyond the image"
    assert {n: source.below for n, source in slices(-3, 0, 7).items()} == {0: 0}
    assert {n: (s.below, s.share) for n, s in slices(-1, 1, 3).items()} == {
        0: (-1, 0.5), 1: (1, 0.0), 2: (1, 0.5), 3: (3, 0.0)
    }, "drawn on every second slice"  # fmt: skip


def _labels(folder: Path) -> list[Series]:
    return [series for series in build_series(scan([folder])) if series.kind == "labels"]


def test_every_region_of_an_rtstruct_becomes_a_mask_on_its_image(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(4, 12, 10), origin=(-5, 7, 20), step=(0, 0, 2), pixel_spacing=(1, 1))
    plane = np.array([-5, 7, 20])

    def ring(low: float, high: float, slice_number: int) -> NDArray[np.float64]:
        return np.column_stack([_square(low, high), np.full(4, 2.0 * slice_number)]) + plane

    body = [ring(0.5, 8.5, k) for k in (0, 1, 2)]
    hollow = [ring(1.5, 7.5, 1), ring(3.5, 5.5, 1)]
    write_rtstruct(tmp_path, {"Body": body, "Wall": hollow})
    first, second = _labels(tmp_path)
    assert (first.component, second.component) == ("roi1", "roi2")
    assert [len(s.files) for s in (first, second)] == [1, 0], "the file is counted once"
    mask = read_all(open_series(first))[..., 0]
    assert mask.shape == (10, 12, 4)
    assert mask.sum() == 3 * 64
    assert mask[1:9, 1:9, :3].all()
    wall = read_all(open_series(second))[..., 0]
    assert wall.sum() == 36 - 4
    assert not wall[4:6, 4:6].any()
    assert '"value": 1, "label": "Wall"' in str(second.attributes["segments"]), "as its voxels are"


def test_contours_beyond_the_image_are_a_reason(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(4, 12, 10))
    write_rtstruct(tmp_path, {"Body": [np.column_stack([_square(1, 5), np.full(4, 60.0)])]})
    (series,) = _labels(tmp_path)
    with pytest.raises(ImageReadError) as caught:
        read_all(open_series(series))
    assert caught.value.code == Reason.LABELS_OFF_GRID


def test_labels_without_their_image_are_quarantined_unless_the_image_is_known(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, ramp(4, 12, 10))
    write_rtstruct(tmp_path, {"Body": [np.column_stack([_square(1, 5), np.full(4, 2.0)])]})
    (image,) = [series for series in build_series(scan([tmp_path])) if series.kind == "image"]
    for path in paths:
        path.unlink()
    assert _labels(tmp_path)[0].reason is Reason.REFERENCE_MISSING
    assert image.grid is not None
    (known,) = build_series(scan([tmp_path]), [LabelledImage(image.grid, series_uid=image.series_uid)])
    assert known.verdict == "ingestable"
    assert known.grid is not None
    assert known.grid.same_as(image.grid)


def test_labels_of_a_quarantined_image_say_so(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, ramp(5, 12, 10))
    write_rtstruct(tmp_path, {"Body": [np.column_stack([_square(1, 5), np.full(4, 2.0)])]})
    paths[3].unlink()
    assert _labels(tmp_path)[0].reason is Reason.REFERENCE_QUARANTINED


@given(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3), st.integers(0, 2), st.integers(0, 4))
def test_a_frame_lands_on_its_voxels_however_it_is_turned(
    flip_x: bool, flip_y: bool, transposed: bool, left: int, top: int, z: int
) -> None:
    grid = Grid((9, 8, 5), LPS_TO_RAS @ np.diag([0.5, 0.75, 2.0, 1.0]))
    width, height = 5, 4
    image = np.zeros(grid.shape[:2])
    patch = np.arange(1, width * height + 1).reshape(width, height)
    image[left : left + width, top : top + height] = patch
    x_axis, y_axis = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    x0, y0 = (left + width - 1 if flip_x else left), (top + height - 1 if flip_y else top)
    turned = patch[:: -1 if flip_x else 1, :: -1 if flip_y else 1]
    along_x, along_y = x_axis * (-1 if flip_x else 1), y_axis * (-1 if flip_y else 1)
    position = (x0 * 0.5, y0 * 0.75, z * 2.0)
    if transposed:
        frame = Frame(position, (*along_y, *along_x), (0.5, 0.75))  # type: ignore[arg-type]  # six floats
        pixels, columns, rows = turned, height, width
    else:
        frame = Frame(position, (*along_x, *along_y), (0.75, 0.5))  # type: ignore[arg-type]  # six floats
        pixels, columns, rows = turned.T, width, height
    placed = place_frames([frame], columns, rows, grid)
    assert isinstance(placed, tuple)
    assert placed[0].z == z
    target = np.zeros(grid.shape[:2])
    placed[0].paste(pixels, target, np.maximum)
    assert np.array_equal(target, image)


def test_frames_between_slices_are_off_the_grid() -> None:
    grid = Grid((9, 8, 5), LPS_TO_RAS.copy())
    placed = place_frames([Frame((0, 0, 1.5), (1, 0, 0, 0, 1, 0), (1, 1))], 9, 8, grid)
    assert not isinstance(placed, tuple)
    assert placed.reason is Reason.LABELS_OFF_GRID
