"""Any orientation, spacing, slice order and split into files gives the same world volume."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from dcm2niix_reference import physical
from dicom_files import FrameSpec, enhanced_dataset, ramp, slice_dataset, write_stack
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from radiobject_assets.imaging.geometry import (
    Grid,
    dicom_affine,
    order_positions,
    slice_normal,
    tilt_deg,
)
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.orientation import spacing_mm

angles = st.floats(-180, 180)
spacings = st.floats(0.05, 20)
rotations = st.tuples(angles, angles, angles).map(
    lambda a: Rotation.from_euler("xyz", a, degrees=True).as_matrix()
)


@given(rotations, st.tuples(spacings, spacings, spacings), st.tuples(*[st.floats(-900, 900)] * 3))
def test_an_affine_maps_every_voxel_to_where_dicom_says_it_is(rotation, spacing, origin):  # type: ignore[no-untyped-def]
    down, across, through = spacing
    row, column, normal = rotation.T
    affine = dicom_affine(origin, [*row, *column], (down, across), normal * through)
    for x, y, z in ((0, 0, 0), (3, 0, 0), (0, 4, 0), (0, 0, 5), (2, 3, 4)):
        lps = np.array(origin) + row * across * x + column * down * y + normal * through * z
        assert np.allclose((affine @ [x, y, z, 1])[:3], [-lps[0], -lps[1], lps[2]], atol=1e-6)
    assert np.allclose(spacing_mm(affine), (across, down, through))
    assert tilt_deg(affine) == pytest.approx(0, abs=1e-3)


@given(rotations, spacings, st.integers(2, 40), st.randoms(use_true_random=False))
def test_slices_are_ordered_along_the_normal_whatever_order_they_come_in(rotation, gap, count, random):  # type: ignore[no-untyped-def]
    normal = slice_normal([*rotation[:, 0], *rotation[:, 1]])
    where = np.arange(count)
    shuffled = list(where)
    random.shuffle(shuffled)
    stack = order_positions(np.outer(np.array(shuffled) * gap, normal), normal)
    assert [shuffled[i] for i in stack.order] == list(where)
    assert stack.regular
    assert stack.missing == 0
    assert np.allclose(stack.step, normal * gap)


@given(st.integers(4, 60), st.data())
def test_slices_that_are_missing_are_counted(count, data):  # type: ignore[no-untyped-def]
    gone = data.draw(st.sets(st.integers(1, count - 2), min_size=1, max_size=max(1, count // 4)))
    z = np.array([k * 1.25 for k in range(count) if k not in gone])
    stack = order_positions(np.outer(z, [0, 0, 1.0]), np.array([0, 0, 1.0]))
    # With almost nothing left, what remains may again be a regular stack of wider spacing.
    assert stack.missing == len(gone) or len(np.unique(np.diff(z))) == 1


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_still_regular() -> None:
    z = np.round(np.arange(200) * 0.625, 1)
    assert order_positions(np.outer(z, [0, 0, 1.0]), np.array([0, 0, 1.0])).regular


def test_so_are_those_of_an_oblique_stack() -> None:
    normal = np.array([0.48, 0.6, 0.64])
    rounded = np.round([3.04, 4.21, 5.33] + 1.2 * np.arange(200)[:, None] * normal, 1)
    assert order_positions(rounded, normal).regular
    shifted = rounded.copy()
    shifted[7] += normal * 0.3  # more than rounding explains
    assert not order_positions(shifted, normal).regular


def test_a_grid_is_the_same_as_one_within_a_tenth_of_a_voxel() -> None:
    grid = Grid((4, 5, 6), np.diag([0.5, 1.0, 5.0, 1.0]))
    for axis, voxel in enumerate((0.5, 1.0, 5.0)):
        moved = grid.affine.copy()
        moved[axis, 3] = 0.09 * voxel
        assert grid.same_as(Grid((4, 5, 6), moved))
        moved[axis, 3] = 0.11 * voxel
        assert not grid.same_as(Grid((4, 5, 6), moved))
        assert Grid((4, 5, 6), moved).off_by_voxels(grid) == pytest.approx(0.11)
        assert Grid((4, 5, 6), moved).off_by_mm(grid) == pytest.approx(0.11 * voxel)
    assert not grid.same_as(Grid((4, 5, 7), grid.affine))


def test_of_two_grids_the_smaller_voxel_counts() -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    larger = Grid((2, 2, 2), np.diag([1.105, 1.0, 1.0, 1.0]))
    assert grid.off_by_voxels(larger) == larger.off_by_voxels(grid) == pytest.approx(0.105)


@settings(max_examples=25, deadline=None)
@given(
    rotations,
    st.tuples(spacings, spacings, spacings),
    st.permutations(range(5)),
    st.booleans(),
    st.floats(-25, 25),
)
def test_any_stack_of_files_gives_the_volume_that_was_scanned(rotation, spacing, order, descending, tilt):  # type: ignore[no-untyped-def]
    down, across, through = spacing
    row, column, normal = rotation.T
    volume = ramp(5, 4, 3)
    lean = normal + np.tan(np.radians(tilt)) * column
    step = lean * through * (-1 if descending else 1)
    with tempfile.TemporaryDirectory() as folder:
        write_stack(
            Path(folder), volume, origin=(10, -20, 30), orientation=[*row, *column],
            pixel_spacing=(down, across), step=step, order=order,
        )  # fmt: skip
        (series,) = build_series(scan([Path(folder)]))
        assert series.verdict == "ingestable", series.detail
        source = open_series(series)
        values = physical(source, depth=2)[..., 0]
    assert source.shape == (3, 4, 5)
    assert np.linalg.det(source.affine[:3, :3]) > 0
    to_voxel = np.linalg.inv(source.affine)
    for k, y, x in np.ndindex(volume.shape):
        lps = np.array((10, -20, 30)) + step * k + row * across * x + column * down * y
        index = (to_voxel @ [-lps[0], -lps[1], lps[2], 1])[:3]
        assert np.allclose(index, np.round(index), atol=0.02)
        assert values[tuple(np.round(index).astype(int))] == volume[k, y, x]
    if abs(tilt) > 1:
        assert series.attributes["gantry_tilt_deg"] == pytest.approx(abs(tilt), abs=0.05)


@settings(max_examples=25, deadline=None)
@given(rotations, st.tuples(spacings, spacings, spacings), st.booleans(), st.data())
def test_any_split_into_files_gives_the_volumes_that_were_scanned(rotation, spacing, enhanced, data):  # type: ignore[no-untyped-def]
    """Four slices at three times; frames in any order in any number of files, or a file each."""
    down, across, through = spacing
    row, column, normal = rotation.T
    volumes = np.stack([ramp(4, 4, 3, "u2") + 100 * t for t in range(3)])
    planes = data.draw(st.permutations([(t, k) for t in range(3) for k in range(4)]))
    cuts = sorted(data.draw(st.sets(st.integers(1, 11), max_size=4)))
    with tempfile.TemporaryDirectory() as folder:
        if enhanced:
            files = [planes[a:b] for a, b in zip([0, *cuts], [*cuts, 12], strict=True)]
        else:
            files = [[plane] for plane in planes]
        for number, chosen in enumerate(files):
            places = [normal * through * k + [10, -20, 30] for _, k in chosen]
            (t, k), orientation = chosen[0], [*row, *column]
            if enhanced:
                frames = [
                    FrameSpec(volumes[t, k], place, dimensions=(1, k + 1, t + 1), temporal_index=t + 1)
                    for (t, k), place in zip(chosen, places, strict=True)
                ]
                ds = enhanced_dataset(
                    frames, orientation=orientation, pixel_spacing=(down, across), number=number + 1
                )
            else:
                ds = slice_dataset(
                    volumes[t, k], position=places[0], orientation=orientation,
                    pixel_spacing=(down, across), number=number + 1,
                )  # fmt: skip
                ds.TemporalPositionIdentifier = t + 1
            ds.save_as(Path(folder, str(number)), enforce_file_format=True)
        (series,) = build_series(scan([Path(folder)]))
        assert series.verdict == "ingestable", series.detail
        source = open_series(series)
        values = physical(source, depth=3)
    to_voxel = np.linalg.inv(source.affine)
    for t, k, y, x in np.ndindex(volumes.shape):
        lps = normal * through * k + [10, -20, 30] + row * across * x + column * down * y
        index = (to_voxel @ [-lps[0], -lps[1], lps[2], 1])[:3]
        assert np.allclose(index, np.round(index), atol=0.02)
        assert values[(*np.round(index).astype(int), t)] == volumes[t, k, y, x]
