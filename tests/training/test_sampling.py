"""What the placing of patches promises."""

from __future__ import annotations

import numpy as np
import pytest
from array_source import ArraySource
from hypothesis import given, strategies as st

from radiobject_assets.errors import ShapeError
from radiobject_assets.training.cache.cutting import LabelledVoxels
from radiobject_assets.training.sampling import (
    centred,
    is_foreground,
    place_patches,
    random_start,
    start_around,
)

shapes = st.tuples(*[st.integers(1, 40)] * 3)
sizes = st.tuples(*[st.integers(1, 20)] * 3)


@given(shapes, sizes, st.text(max_size=8), st.integers(), st.integers(0, 3))
def test_a_patch_lies_inside_or_covers_the_volume(shape, size, obs_id, seed, epoch):
    for place in place_patches(shape, size, 4, seed=seed, obs_id=obs_id, epoch=epoch):
        for start, extent, wanted in zip(place.start, shape, size, strict=True):
            if wanted <= extent:
                assert 0 <= start <= extent - wanted
            else:
                after = start + wanted - extent
                assert start < 1
                assert after >= -start  # the volume is in the middle; the odd voxel comes after it
                assert after + start <= 1


@given(shapes, sizes, st.integers(0, 12), st.integers(0, 12))
def test_a_patch_does_not_depend_on_how_many_are_asked_for(shape, size, few, more):
    first = place_patches(shape, size, few, seed=1, obs_id="a")
    assert place_patches(shape, size, few + more, seed=1, obs_id="a")[:few] == first


def starts(**changes):
    settings = {"shape": (200, 200, 200), "size": (8, 8, 8), "count": 6, "seed": 1, "obs_id": "a", "epoch": 0}
    settings.update(changes)
    shape, size, count = settings.pop("shape"), settings.pop("size"), settings.pop("count")
    return [place.start for place in place_patches(shape, size, count, **settings)]


@pytest.mark.parametrize("change", [{"obs_id": "b"}, {"seed": 2}, {"epoch": 1}])
def test_volumes_seeds_and_epochs_get_different_patches(change):
    assert starts() == starts()
    assert not set(starts()) & set(starts(**change))


def test_random_starts_cover_every_place_evenly():
    drawn = np.array([random_start((12, 9, 5), (4, 9, 5), 3, "a", number)[0] for number in range(9000)])
    counts = np.bincount(drawn[:, 0], minlength=9)
    assert len(counts) == 9
    assert counts.min() > 850
    assert counts.max() < 1150
    assert not drawn[:, 1:].any()


def test_time_points_of_a_4d_volume_are_drawn_too():
    drawn = {random_start((8, 8, 8, 5), (4, 4, 4), 3, "a", number)[1] for number in range(100)}
    assert drawn == set(range(5))


@given(st.integers(0, 200), st.integers(0, 20))
def test_the_foreground_share_is_met_by_every_prefix(count, twentieths):
    chosen = sum(is_foreground(number, twentieths / 20) for number in range(count))
    assert chosen == count * twentieths // 20


@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.integers(0, 2**32),
    st.integers(1, 4),
)
def test_a_foreground_patch_holds_its_labelled_voxel(shape, size, seed, depth):
    labels = (np.random.default_rng(seed).random(shape) < 0.05).astype(np.uint8)
    foreground = LabelledVoxels(ArraySource(labels), depth * shape[0] * shape[1])
    assert len(foreground) == labels.sum()
    places = place_patches(
        shape, size, 5, seed=seed, obs_id="a", foreground_fraction=1.0, foreground=foreground
    )
    for place in places:
        low = np.maximum(place.start, 0)
        high = np.minimum(np.add(place.start, size), shape)
        inside = labels[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        assert place.foreground == bool(labels.any())
        assert bool(inside.any()) == place.foreground


def test_every_labelled_voxel_is_equally_likely():
    labels = np.zeros((6, 6, 6), np.uint8)
    voxels = [(0, 0, 0), (3, 1, 2), (3, 2, 2), (5, 5, 5)]
    for voxel in voxels:
        labels[voxel] = 1
    foreground = LabelledVoxels(ArraySource(labels), 1000)
    places = place_patches(
        labels.shape, (1, 1, 1), 4000, seed=1, obs_id="a", foreground_fraction=1.0, foreground=foreground
    )
    drawn = [place.start for place in places]
    assert {voxel: 900 < drawn.count(voxel) < 1100 for voxel in voxels} == dict.fromkeys(voxels, True)


def test_foreground_is_looked_at_in_bounded_slabs():
    source = ArraySource(np.ones((64, 64, 100), np.uint8), tile_depth=8)
    foreground = LabelledVoxels(source, 16 * 64 * 64)
    assert len(foreground) == 64 * 64 * 100
    assert foreground.voxel(64 * 64 * 99 + 65) == (1, 1, 99)
    assert source.largest_bytes == 16 * 64 * 64


def test_a_patch_around_a_border_voxel_is_moved_inwards():
    assert start_around((0, 5, 9), (10, 10, 10), (4, 4, 4)) == (0, 3, 6)
    assert start_around((0, 1, 2), (3, 10, 10), (8, 4, 4)) == (centred(3, 8), 0, 0)


@pytest.mark.parametrize(
    ("shape", "size"), [((4, 4), (2, 2, 2)), ((4, 0, 4), (2, 2, 2)), ((4, 4, 4), (2, 2))]
)
def test_impossible_shapes_are_refused(shape, size):
    with pytest.raises(ShapeError):
        place_patches(shape, size, 1, seed=1, obs_id="a")


def test_foreground_without_labels_is_refused():
    with pytest.raises(ShapeError, match="needs the volume's labels"):
        place_patches((4, 4, 4), (2, 2, 2), 1, seed=1, obs_id="a", foreground_fraction=1.0)
