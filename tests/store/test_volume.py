"""Volumes: NumPy's indexing, physical values, statistics, memory, NIfTI; what goes in comes out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tiledb
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from radiobject_assets.errors import ConfigurationError, SchemaError, ShapeError, StorageError
from radiobject_assets.store import (
    CompressionConfig,
    Compressor,
    ReadConfig,
    SliceOrientation,
    TileConfig,
    TileDBStats,
    Volume,
    WriteConfig,
    configure,
    ensure_collection,
    stage_volume,
)
from radiobject_assets.store.arrays.tile_cache import tile_cache
from tests.store.conftest import AFFINE, put, voxels

BIG = voxels(9, (40, 37, 29))


@pytest.fixture(autouse=True, params=["fast", "tiledb"])
def _both_ways(request: pytest.FixtureRequest, _default_configuration: None) -> None:
    configure(voxels=request.param)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return Volume.from_numpy(
        tmp_path_factory.mktemp("v") / "big", BIG, affine=AFFINE, tile=TileConfig(x=16, y=8, z=8)
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(key=hnp.basic_indices(BIG.shape, allow_newaxis=True, allow_ellipsis=True))
def test_indexing_is_numpys(big: Volume, key: Any) -> None:
    expected = BIG[key]
    found = big[key]
    assert type(found) is type(expected)
    assert np.shape(found) == expected.shape
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("key", [40, (0, 0, -30), (0, 0, 0, 0), (..., ...), [99], "x", 1.5, np.array([True])])
def test_what_numpy_refuses_is_refused(big: Volume, key: Any) -> None:
    with pytest.raises(IndexError):
        big[key]


@pytest.mark.parametrize(
    "key",
    [[1, 2], [], True, (slice(2, 9), [0, -1]), (..., np.array([0, 3])), ([1, 2], [3, 4], -1), BIG > 500],
    ids=["integers", "nothing", "true", "beside a slice", "after an ellipsis", "pairs", "mask"],
)
def test_index_arrays_and_masks_pick_as_in_numpy(big: Volume, key: Any) -> None:
    found, expected = big[key], BIG[key]
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


def test_integers_of_numpy_index_too(big: Volume) -> None:
    assert big[np.int64(3), np.uint8(4), np.int16(-1)] == BIG[3, 4, -1]


@pytest.mark.sampled(4)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_slabs_of_any_depth_and_tiles_of_any_size_give_the_same_voxels_and_digest(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(data.draw(st.sampled_from([3, 4]))))
    array = voxels(
        data.draw(st.integers(0, 99)), shape, data.draw(st.sampled_from(["int16", ">i4", "float32"]))
    )
    if data.draw(st.booleans()):
        array = np.asfortranarray(array)
    uri = ensure_collection(_store(tmp_path_factory), "ct")
    tile = TileConfig(x=data.draw(st.integers(1, 5)), y=2, z=data.draw(st.integers(1, 5)))
    times = range(shape[3]) if len(shape) == 4 else [None]

    def slabs() -> Any:
        for t in times:
            whole = array if t is None else array[..., t]
            z = 0
            while z < shape[2]:
                depth = data.draw(st.integers(1, shape[2] - z))
                yield z, t or 0, whole[:, :, z : z + depth]
                z += depth

    staged = stage_volume(
        uri,
        obs_id="v",
        obs_subject_id="s",
        shape=shape,
        dtype=array.dtype,
        slabs=slabs(),
        tile=tile,
        buffer_bytes=data.draw(st.integers(1, 400)),
    )
    volume = Volume(f"{uri}/volumes/{staged.token}")
    assert np.array_equal(volume.to_numpy(), array)
    assert volume.dtype == array.dtype.newbyteorder("=")
    plain = stage_volume(uri, obs_id="w", obs_subject_id="s", voxels=array)
    assert plain.voxel_digest == staged.voxel_digest
    assert volume.verify()


_STORES: list[str] = []


def _store(factory: pytest.TempPathFactory) -> str:
    from radiobject_assets.store import ensure_store

    if not _STORES:
        _STORES.append(ensure_store(factory.mktemp("slabs") / "store"))
    return _STORES[0]


def test_slabs_out_of_order_or_missing_are_refused(store: str) -> None:
    uri = ensure_collection(store, "ct")
    a = voxels(1)
    for slabs, message in (
        ([(2, 0, a[:, :, 2:]), (0, 0, a[:, :, :2])], "in order"),
        ([(0, 0, a[:, :, :4])], "only 4 of 5"),
        ([(0, 0, a[:, :, :4]), (3, 0, a[:, :, 3:])], "in order"),
        ([(0, 0, a[:-1])], "expected"),
        ([(0, 0, a), (0, 1, a)], "in order"),  # more than all
    ):
        with pytest.raises(ShapeError, match=message):
            stage_volume(uri, obs_id="v", obs_subject_id="s", shape=a.shape, dtype=a.dtype, slabs=slabs)


def test_tiles_of_several_time_points_are_whole_or_refused_where_memory_is_short(store: str) -> None:
    uri = ensure_collection(store, "bold")
    series = voxels(1, (6, 5, 4, 7))
    tile = TileConfig(x=4, y=4, z=4, t=3)

    def staged(points: int) -> Volume:
        """Written with room for so many time points at once."""
        room = points * series[..., 0].nbytes
        made = stage_volume(uri, obs_id="v", obs_subject_id="s", voxels=series, tile=tile, buffer_bytes=room)
        return Volume(f"{uri}/volumes/{made.token}")

    for points in (1, 2):
        with pytest.raises(ShapeError, match="use t=1"):
            staged(points)
    for points in (3, 5, 7):
        volume = staged(points)
        assert np.array_equal(volume.to_numpy(), series)
        assert volume.verify()


def test_slabs_may_all_come_in_one_buffer_of_the_caller(store: str) -> None:
    uri = ensure_collection(store, "ct")
    series = voxels(1, (40, 30, 12, 3))

    def slabs() -> Iterator[tuple[int, int, np.ndarray]]:
        buffer = np.empty((40, 30, 4), np.int16, order="F")
        for t in range(3):
            for z in range(0, 12, 4):
                buffer[:] = series[:, :, z : z + 4, t]
                yield z, t, buffer
                buffer[:] = -1

    for limit in (1, series[..., 0].nbytes, 2 * series[..., 0].nbytes):
        staged = stage_volume(
            uri,
            obs_id="v",
            obs_subject_id="s",
            shape=series.shape,
            dtype=series.dtype,
            slabs=slabs(),
            tile=TileConfig(x=16, y=16, z=4),
            buffer_bytes=limit,
        )
        volume = Volume(f"{uri}/volumes/{staged.token}")
        assert np.array_equal(volume.to_numpy(), series)
        assert volume.verify()


def test_physical_values_apply_the_rescale_and_stored_ones_do_not(tmp_path: Path) -> None:
    stored = voxels(4)
    volume = Volume.from_numpy(tmp_path / "v", stored, slope=1.0, intercept=-1024.0)
    assert volume.dtype == np.float32
    assert np.array_equal(volume.to_numpy(), stored.astype(np.float32) - 1024)
    assert np.array_equal(volume[1, ..., 2], stored[1, ..., 2].astype(np.float32) - 1024)
    assert np.array_equal(volume.to_numpy(stored=True), stored)
    assert volume.get_statistics()["min"] == stored.min() - 1024


def test_planes_keep_axes_of_length_one_and_take_the_time_asked_for(tmp_path: Path) -> None:
    array = voxels(5, (6, 1, 4, 3))
    volume = Volume.from_numpy(tmp_path / "v", array)
    assert np.array_equal(volume.axial(-1, t=2), array[:, :, -1, 2])
    assert volume.axial(0).shape == (6, 1, 3)
    assert np.array_equal(volume.sagittal(3, t=0), array[3, :, :, 0])
    assert np.array_equal(volume.coronal(0), array[:, 0])
    assert np.array_equal(volume[..., 2], array[..., 2])


@pytest.mark.parametrize("dtype", ["int16", "uint8", "int32", "float32", "float64", "bool"])
def test_statistics_and_histograms_are_numpys(tmp_path: Path, dtype: str) -> None:
    array = (np.random.default_rng(3).normal(0, 40, (23, 19, 17)) * 3).astype(dtype)
    volume = Volume.from_numpy(tmp_path / dtype, array)
    values = array.astype(np.float64)
    found = volume.get_statistics([1, 25, 99.5])
    expected = {"mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max()}
    expected |= {"median": np.median(values), "p1": np.percentile(values, 1)}
    expected |= {"p25": np.percentile(values, 25), "p99.5": np.percentile(values, 99.5)}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert math.isclose(found[name], value, rel_tol=1e-9, abs_tol=1e-9), name
    if dtype != "bool":
        counts, edges = volume.compute_histogram(32)
        their_counts, their_edges = np.histogram(array, 32)
        assert np.array_equal(counts, their_counts)
        np.testing.assert_allclose(edges, their_edges)


@pytest.mark.parametrize("dtype", ["complex64", "U3", "datetime64[s]", "longdouble"])
def test_voxels_that_cannot_be_stored_are_refused_by_name(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(SchemaError, match="cannot be stored"):
        Volume.from_numpy(tmp_path / "v", np.zeros((2, 2, 2), dtype))


def test_nifti_out_and_in_keeps_voxels_affine_and_rescale(tmp_path: Path) -> None:
    stored = voxels(6, (5, 4, 3, 2))
    volume = Volume.from_numpy(tmp_path / "v", stored, affine=AFFINE, slope=0.5, intercept=3.0)
    path = volume.to_nifti(tmp_path / "out.nii.gz")
    image = nib.load(path)
    assert np.array_equal(image.affine, AFFINE.astype(np.float32).astype(np.float64)) or np.allclose(
        image.affine, AFFINE
    )
    np.testing.assert_allclose(image.get_fdata(), stored * 0.5 + 3.0)
    assert image.get_data_dtype() == np.int16
    again = Volume.from_nifti(tmp_path / "again", path)
    assert np.array_equal(again.to_numpy(stored=True), stored)
    assert (again.slope, again.intercept) == (0.5, 3.0)
    np.testing.assert_allclose(again.affine, AFFINE, atol=1e-5)


def test_a_volume_larger_than_the_budget_is_read_in_parts_or_on_request(tmp_path: Path) -> None:
    volume = Volume.create(tmp_path / "v", (512, 512, 200), np.int16)
    configure(read=ReadConfig(memory_budget_mb=64))
    with pytest.raises(ConfigurationError, match="iter_slabs"):
        volume.to_numpy()
    assert volume[10:20, 5, 3].sum() == 0
    assert sum(part.size for _, _, part in volume.iter_slabs()) == 512 * 512 * 200
    assert volume.to_numpy(allow_large=True).nbytes == 512 * 512 * 400


def test_the_cache_gives_a_true_hit_rate_and_the_same_voxels(tmp_path: Path) -> None:
    configure(read=ReadConfig(tile_cache_size_mb=16))
    volume = Volume.from_numpy(tmp_path / "v", BIG, tile=TileConfig(x=16, y=16, z=16))
    region = (slice(3, 30), slice(2, 20), slice(1, 17))
    volume[region]
    with TileDBStats() as second:
        assert np.array_equal(volume[region], BIG[region])
    with TileDBStats() as third:
        assert np.array_equal(volume[region], BIG[region])
    tiles = 2 * 2 * 2
    assert (second.cache_stats().cache_hits, second.cache_stats().cache_misses) == (0, tiles)
    assert (third.cache_stats().cache_hits, third.cache_stats().cache_misses) == (tiles, 0)
    assert third.cache_stats().hit_rate == 1.0
    assert third.cache_stats().vfs_read_bytes == 0
    assert third.s3_stats().parallelized_reads is None
    assert 0 < tile_cache().counts.held_bytes <= 16 * 2**20


def test_the_cache_never_holds_more_than_its_size(tmp_path: Path) -> None:
    configure(read=ReadConfig(tile_cache_size_mb=1))
    array = voxels(8, (128, 128, 64))
    volume = Volume.from_numpy(tmp_path / "v", array, tile=TileConfig(x=32, y=32, z=16))
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y, z = rng.integers(0, 100), rng.integers(0, 100), rng.integers(0, 50)
        region = (slice(x, x + 9), slice(y, y + 9), slice(z, z + 9))
        assert np.array_equal(volume[region], array[region])
        assert tile_cache().counts.held_bytes <= 2**20
    assert tile_cache().counts.hits > 0


def test_write_settings_have_their_effect(tmp_path: Path) -> None:
    flat = np.zeros((70, 60, 50), np.int16)
    for orientation, extents in {
        SliceOrientation.AXIAL: (70, 60, 1),
        SliceOrientation.SAGITTAL: (1, 60, 50),
        SliceOrientation.CORONAL: (70, 1, 50),
        SliceOrientation.ISOTROPIC: (64, 60, 32),
    }.items():
        configure(write=WriteConfig(tile=TileConfig(orientation=orientation)))
        volume = Volume.from_numpy(tmp_path / orientation, flat)
        assert volume.tile_extents == extents
        assert volume.tile_orientation == orientation
    sizes = {}
    for algorithm in Compressor:
        configure(write=WriteConfig(compression=CompressionConfig(algorithm=algorithm)))
        Volume.from_numpy(tmp_path / algorithm, flat)
        sizes[algorithm] = sum(p.stat().st_size for p in (tmp_path / algorithm).rglob("*.tdb"))
    assert all(
        sizes[a] < sizes[Compressor.NONE] / 20 for a in (Compressor.ZSTD, Compressor.LZ4, Compressor.GZIP)
    )


def test_something_else_at_the_uri_is_said_so(tmp_path: Path, store: str) -> None:
    with pytest.raises(StorageError, match="no volume at"):
        Volume(tmp_path / "nothing")
    tiledb.from_numpy(str(tmp_path / "array"), np.zeros(3))
    with pytest.raises(StorageError, match="TileDB array, but not a radiobject-assets volume"):
        Volume(tmp_path / "array")
    put(store, "ct", "s1", 1)
    for inside in ("", "/obs_meta", "/collections/ct", "/collections/ct/obs"):
        with pytest.raises(StorageError, match="no volume at"):
            Volume(store + inside)


def test_a_volume_is_never_written_where_other_files_are(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "notes.txt").write_text("mine")
    for uri in (str(tmp_path / "v"), f"file://{tmp_path}/v"):
        with pytest.raises(StorageError, match="other files"):
            Volume.from_numpy(uri, voxels(1))
    assert (tmp_path / "v" / "notes.txt").read_text() == "mine"
    assert len(list((tmp_path / "v").iterdir())) == 1


def test_uris_of_files_are_taken_as_they_are_written(tmp_path: Path) -> None:
    for name in ("a b", "a%20b", "a%", "a#b?c"):
        volume = Volume.from_numpy(f"file://{tmp_path}/{name}", voxels(1))
        assert np.array_equal(volume.to_numpy(), voxels(1))
        assert np.array_equal(Volume(tmp_path / name).to_numpy(), voxels(1))


@pytest.mark.parametrize("orientation", ["sagittal", "coronal", "isotropic"])
def test_tiles_are_thinner_where_a_layer_of_them_does_not_fit_the_memory(
    store: str, orientation: str
) -> None:
    uri = ensure_collection(store, "ct")
    whole = voxels(1, (30, 40, 50))
    limit = 7 * whole[..., 0].nbytes
    staged = stage_volume(
        uri,
        obs_id="v",
        obs_subject_id="s",
        voxels=whole,
        tile=TileConfig(orientation=SliceOrientation(orientation)),
        buffer_bytes=limit,
    )
    volume = Volume(f"{uri}/volumes/{staged.token}")
    x, y, z = volume.tile_extents
    assert (x, y) == {"sagittal": (1, 40), "coronal": (30, 1), "isotropic": (30, 40)}[orientation]
    assert 1 < z <= 7
    assert np.array_equal(volume.to_numpy(), whole)
    assert volume.verify()
