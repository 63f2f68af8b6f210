"""Patches are the boxes that they claim to be, cut within a bound of memory."""

from __future__ import annotations

import numpy as np
import pytest
from array_source import ArraySource, expected_patch
from hypothesis import given, strategies as st

from radiobject_assets.training.cache.cutting import cut_patches, held, padding_value, rounds, slab_depth
from radiobject_assets.training.sampling import place_patches


def distinct(shape):
    return np.arange(1, 1 + np.prod(shape), dtype=np.int32).reshape(shape)


@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    size=st.tuples(*[st.integers(1, 9)] * 3),
    count=st.integers(1, 6),
    tile_depth=st.integers(1, 5),
    limit_bytes=st.integers(1, 4000),
    seed=st.integers(0, 999),
)
def test_cut_patches_are_the_boxes_of_the_padded_volume(shape, size, count, tile_depth, limit_bytes, seed):
    voxels = distinct(shape)
    source = ArraySource(voxels, tile_depth)
    places = place_patches(shape, size, count, seed=seed, obs_id="a")
    patches = cut_patches(source, places, size, -7, limit_bytes)
    for place, patch in zip(places, patches, strict=True):
        assert np.array_equal(patch, expected_patch(voxels, place.start, size, -7))
    assert source.largest_bytes <= max(limit_bytes, shape[0] * shape[1] * 4)


@given(
    times=st.integers(1, 4),
    tile_depth=st.integers(1, 4),
    limit_bytes=st.integers(1, 2000),
    seed=st.integers(0, 99),
)
def test_patches_of_4d_volumes_come_from_their_time_point(times, tile_depth, limit_bytes, seed):
    voxels = distinct((6, 5, 7, times))
    places = place_patches(voxels.shape, (4, 3, 9), 8, seed=seed, obs_id="a")
    patches = cut_patches(ArraySource(voxels, tile_depth), places, (4, 3, 9), 0, limit_bytes)
    labels = cut_patches(ArraySource(voxels[..., 0], tile_depth), places, (4, 3, 9), 0, limit_bytes)
    for place, patch, label in zip(places, patches, labels, strict=True):
        assert np.array_equal(patch, expected_patch(voxels[..., place.t], place.start, (4, 3, 9), 0))
        assert np.array_equal(label, expected_patch(voxels[..., 0], place.start, (4, 3, 9), 0))


def test_large_patches_with_power_of_two_extents_are_the_boxes_too():
    voxels = distinct((64, 64, 40))
    places = place_patches(voxels.shape, (64, 64, 32), 2, seed=1, obs_id="a")
    patches = cut_patches(ArraySource(voxels, 8), places, (64, 64, 32), 0, 64 * 64 * 16 * 4)
    for place, patch in zip(places, patches, strict=True):
        assert np.array_equal(patch, expected_patch(voxels, place.start, (64, 64, 32), 0))


def test_no_slice_is_read_twice_in_one_round():
    source = ArraySource(distinct((20, 20, 60)), tile_depth=8)
    places = place_patches(source.shape, (6, 6, 20), 12, seed=1, obs_id="a")
    cut_patches(source, places, (6, 6, 20), 0, 16 * 20 * 20 * 4)
    slices = [z for low, high, _ in source.boxes for z in range(low[2], high[2])]
    assert len(slices) == len(set(slices))
    assert all(low[2] % 8 == 0 for low, _, _ in source.boxes[1:])


def test_slices_that_no_patch_needs_are_not_read():
    source = ArraySource(distinct((8, 8, 1000)), tile_depth=4)
    places = [
        p for p in place_patches(source.shape, (8, 8, 4), 40, seed=1, obs_id="a") if p.start[2] % 5 == 0
    ]
    cut_patches(source, places[:3], (8, 8, 4), 0, 8 * 8 * 4 * 4)
    assert sum(high[2] - low[2] for low, high, _ in source.boxes) <= 3 * 8


def test_rounds_hold_as_many_patches_as_fit():
    places = place_patches((20, 20, 20), (4, 4, 4), 10, seed=1, obs_id="a")
    groups = list(rounds(places, patch_bytes=64, limit_bytes=200))
    assert [len(group) for group in groups] == [3, 3, 3, 1]
    assert sorted(place.number for group in groups for place in group) == list(range(10))
    assert [len(group) for group in rounds(places, patch_bytes=64, limit_bytes=1)] == [1] * 10


@pytest.mark.parametrize(("slope", "expected"), [(1.0, -5), (-1.0, 9)])
def test_padding_is_the_smallest_physical_value(slope, expected):
    voxels = np.array([3, -5, 9, 0], np.int16).reshape(2, 2, 1)
    assert padding_value(ArraySource(voxels), slope, 100) == expected


def test_padding_passes_over_nan_and_sees_all_time_points():
    voxels = np.full((2, 2, 2, 3), np.nan, np.float32)
    voxels[0, 0, 1, 2] = 4.0
    assert padding_value(ArraySource(voxels), 1.0, 4) == 4.0


def test_a_volume_that_fits_is_read_once():
    source = ArraySource(distinct((4, 4, 4)))
    kept = held(source, source.voxels.nbytes)
    for z in range(4):
        assert np.array_equal(kept.read((0, 1, z), (4, 3, z + 1), 0), source.voxels[:, 1:3, z : z + 1])
    assert len(source.boxes) == 1
    assert held(source, source.voxels.nbytes - 1) is source


def test_slabs_are_whole_tiles_where_these_fit():
    source = ArraySource(np.zeros((4, 4, 100), np.uint8), tile_depth=10)
    assert slab_depth(source, 16 * 35) == 30
    assert slab_depth(source, 16 * 7) == 7
    assert slab_depth(source, 1) == 1
