"""Every setting has the effect that its name promises: seen in schemas, counters, threads, memory, files."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tiledb

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store import (
    CompressionConfig,
    Compressor,
    OrientationConfig,
    RadiObjectConfig,
    ReadConfig,
    SliceOrientation,
    TileConfig,
    TileDBStats,
    Volume,
    VolumeCollection,
    WriteConfig,
    configure,
    make_ctx,
)
from radiobject_assets.store.arrays.tile_cache import tile_cache
from radiobject_assets.store.storage.parallel import map_on_threads
from tests.store.conftest import voxels


def in_a_process(code: str, *arguments: object) -> dict[str, float]:
    """What a fresh Python process prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


# -- ReadConfig -----------------------------------------------------------------------------------------

_READ_IN_SLABS = """
import json, sys, threading, time, psutil
from radiobject_assets.store import ReadConfig, Volume, configure
configure(read=ReadConfig(memory_budget_mb=64, tile_cache_size_mb=int(sys.argv[2]), concurrency=2))
volume = Volume(sys.argv[1])
_ = volume[0, 0, 0]
me, peak, done = psutil.Process(), [0], threading.Event()
def watch():
    while not done.is_set():
        peak[0] = max(peak[0], me.memory_info().rss)
        time.sleep(0.002)
before = me.memory_info().rss
watcher = threading.Thread(target=watch)
watcher.start()
total = sum(int(voxels[::16, ::16].sum(dtype="int64")) for _, _, voxels in volume.iter_slabs(stored=True))
done.set()
watcher.join()
print(json.dumps({"grown_mb": (peak[0] - before) / 2**20, "total": total}))
"""


@pytest.mark.timeout(120)
def test_a_volume_larger_than_the_budget_is_streamed_within_the_budget(tmp_path: Path) -> None:
    shape = (512, 512, 640)  # 320 MB against a budget of 64 MB
    slab = voxels(1, (512, 512, 32))
    volume = Volume.create(tmp_path / "large", shape, np.int16)
    with tiledb.open(volume.uri, "w") as array:
        for z in range(0, shape[2], 32):
            array[:, :, z : z + 32] = slab
    expected = int(slab[::16, ::16].sum(dtype=np.int64)) * (shape[2] // 32)
    configure(read=ReadConfig(memory_budget_mb=64))
    with pytest.raises(ConfigurationError, match="iter_slabs"):
        Volume(volume.uri).to_numpy()
    found = in_a_process(_READ_IN_SLABS, volume.uri, 0)
    assert found["total"] == expected
    # The slab itself (32 MB, and the one before it) is the caller's; TileDB has the budget.
    assert found["grown_mb"] < 64 + 64 + 16


def test_the_memory_budget_is_that_of_tiledb() -> None:
    for budget_mb in (64, 1024):
        ctx = make_ctx(RadiObjectConfig(read=ReadConfig(memory_budget_mb=budget_mb)))
        assert int(ctx.config()["sm.mem.total_budget"]) == budget_mb * 2**20


def test_a_tile_read_twice_comes_from_the_cache_until_its_bytes_are_spent(tmp_path: Path) -> None:
    data = voxels(2, (64, 64, 128))  # four tiles of 256 KB
    volume = Volume.from_numpy(tmp_path / "v", data)
    counted = {}
    for size_mb in (0, 1, 8):
        configure(read=ReadConfig(tile_cache_size_mb=size_mb))
        tile_cache().clear()
        with TileDBStats() as stats:
            for _ in range(5):
                for z in range(0, 128, 32):
                    assert np.array_equal(volume[:, :, z : z + 32], data[:, :, z : z + 32])
        counted[size_mb] = stats.cache_stats()
        assert tile_cache().counts.held_bytes <= size_mb * 2**20
    assert counted[0].cache_hits == 0
    assert counted[0].cache_misses == 20
    assert (counted[8].cache_hits, counted[8].cache_misses) == (12, 8)
    assert counted[8].vfs_read_bytes < counted[0].vfs_read_bytes / 2
    configure(read=ReadConfig(tile_cache_size_mb=1))
    tile_cache().clear()
    big = Volume.from_numpy(tmp_path / "big", voxels(3, (64, 64, 512)))
    for _ in range(3):
        for z in range(0, 512, 32):
            big[:, :, z : z + 32]
            assert tile_cache().counts.held_bytes <= 2**20
    assert tile_cache().counts.held_bytes > 0


def test_contexts_that_end_meanwhile_take_nothing_from_what_is_counted(tmp_path: Path) -> None:
    volume = Volume.from_numpy(tmp_path / "v", voxels(1))
    with TileDBStats() as before:
        ctx = tiledb.Ctx()
        with tiledb.open(volume.uri, ctx=ctx) as array:
            array[:]
    assert before.s3_stats().read_ops > 0
    with TileDBStats() as stats, TileDBStats() as inner:
        del ctx, array
        gc.collect()
        Volume(volume.uri, make_ctx()).to_numpy()
    assert 0 < inner.s3_stats().read_ops <= stats.s3_stats().read_ops < before.s3_stats().read_ops
    assert all(value >= 0 for value in stats.counters().values())


_COUNT_THREADS = """
import json, os, sys, tiledb
from radiobject_assets.store import ReadConfig, RadiObjectConfig, make_ctx
before = len(os.listdir("/proc/self/task"))
ctx = make_ctx(RadiObjectConfig(read=ReadConfig(concurrency=int(sys.argv[1]))))
tiledb.object_type("/tmp", ctx=ctx)
print(json.dumps({"threads": len(os.listdir("/proc/self/task")) - before}))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_concurrency_is_the_number_of_threads_inside_tiledb() -> None:
    two, eight, eighteen = (in_a_process(_COUNT_THREADS, number)["threads"] for number in (2, 8, 18))
    assert eighteen - eight == 20  # ten more for computing, ten more for input and output
    assert eight - two == 6  # of those that wait for files there are eight (max_parallel_ops) at least


def test_max_workers_is_the_number_of_threads_of_ours() -> None:
    for workers in (1, 3):
        configure(read=ReadConfig(max_workers=workers))
        together = threading.Barrier(workers)  # nobody passes before so many are at work
        lock, now, most = threading.Lock(), [0], [0]

        def work(
            _: int,
            together: threading.Barrier = together,
            lock: threading.Lock = lock,
            now: list[int] = now,
            most: list[int] = most,
        ) -> None:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            together.wait(60)
            with lock:
                now[0] -= 1

        map_on_threads(work, range(12))
        assert most[0] == workers


# -- WriteConfig ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tile", "extents"),
    [
        (TileConfig(orientation=SliceOrientation.AXIAL), (80, 70, 1, 1)),
        (TileConfig(orientation=SliceOrientation.SAGITTAL), (1, 70, 60, 1)),
        (TileConfig(orientation=SliceOrientation.CORONAL), (80, 1, 60, 1)),
        (TileConfig(orientation=SliceOrientation.ISOTROPIC), (64, 64, 32, 1)),
        (TileConfig(x=11, y=12, z=13, t=2), (11, 12, 13, 2)),
        (TileConfig(x=500, y=500, z=500, t=500), (80, 70, 60, 3)),
        (TileConfig(orientation=SliceOrientation.AXIAL, z=4), (80, 70, 4, 1)),
    ],
)
def test_tiles_are_those_of_the_configuration(
    tmp_path: Path, tile: TileConfig, extents: tuple[int, ...]
) -> None:
    configure(write=WriteConfig(tile=tile))
    data = voxels(4, (80, 70, 60, 3))
    volume = Volume.from_numpy(tmp_path / "v", data)
    with tiledb.open(volume.uri) as array:
        assert tuple(int(array.schema.domain.dim(i).tile) for i in range(4)) == extents
    assert volume.tile_extents == extents
    assert volume.tile_orientation == tile.orientation
    assert np.array_equal(volume.to_numpy(), data)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_orientation_makes_its_own_slices_cheap(tmp_path: Path, axis: int) -> None:
    data = voxels(5, (96, 96, 96))
    read = {}
    key = tuple(48 if i == axis else slice(None) for i in range(3))
    for number, orientation in enumerate(SliceOrientation):
        volume = Volume.from_numpy(tmp_path / f"{number}", data, tile=TileConfig(orientation=orientation))
        with TileDBStats() as stats:
            assert np.array_equal(volume[key], data[key])
        read[orientation] = stats.cache_stats().tile_bytes_read
    own = (SliceOrientation.SAGITTAL, SliceOrientation.CORONAL, SliceOrientation.AXIAL)[axis]
    assert read[own] == data[key].nbytes
    assert all(read[other] > 10 * read[own] for other in SliceOrientation if other is not own)


@pytest.mark.parametrize(
    ("algorithm", "level", "filter_type"),
    [
        (Compressor.ZSTD, 7, tiledb.ZstdFilter),
        (Compressor.LZ4, 3, tiledb.LZ4Filter),
        (Compressor.GZIP, 6, tiledb.GzipFilter),
        (Compressor.NONE, 1, None),
    ],
)
def test_voxels_are_compressed_as_configured(
    tmp_path: Path, algorithm: Compressor, level: int, filter_type: type | None
) -> None:
    configure(compression=CompressionConfig(algorithm=algorithm, level=level))
    data = voxels(6, (40, 40, 40))
    volume = Volume.from_numpy(tmp_path / "v", data)
    with tiledb.open(volume.uri) as array:
        filters = list(array.schema.attr(0).filters)
    packers = [f for f in filters if isinstance(f, (tiledb.ZstdFilter, tiledb.LZ4Filter, tiledb.GzipFilter))]
    stored = sum(path.stat().st_size for path in Path(volume.uri).rglob("*.tdb"))
    if filter_type is None:
        assert packers == []
        assert stored > data.nbytes
    else:
        assert [type(packer) for packer in packers] == [filter_type]
        assert packers[0].level == level
        assert stored < data.nbytes
    assert np.array_equal(volume.to_numpy(), data)


# -- OrientationConfig ----------------------------------------------------------------------------------


@pytest.fixture
def nifti(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A NIfTI file in PIR orientation: path, voxels, affine."""
    affine = np.array([[0, 0, 3.0, 1], [-1.5, 0, 0, 2], [0, -2.0, 0, 3], [0, 0, 0, 1]])
    data = voxels(7, (5, 6, 7))
    nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / "image.nii")
    return tmp_path / "image.nii", data, affine


@pytest.mark.parametrize("target", ["RAS", "LAS", "LPS"])
def test_images_are_turned_to_the_canonical_target_on_load(
    tmp_path: Path, nifti: tuple[Path, np.ndarray, np.ndarray], target: str
) -> None:
    path, data, affine = nifti
    configure(orientation=OrientationConfig(reorient_on_load=True, canonical_target=target))  # type: ignore[arg-type]  # one of the three
    volume = Volume.from_nifti(tmp_path / "v", path)
    assert volume.axcodes == target
    for index in ((0, 0, 0), (4, 2, 6), (1, 5, 3)):
        there = np.linalg.inv(volume.affine) @ affine @ [*index, 1]
        assert volume[tuple(np.rint(there[:3]).astype(int))] == data[index]
    configure(orientation=OrientationConfig(reorient_on_load=False, canonical_target=target))  # type: ignore[arg-type]  # one of the three
    kept = Volume.from_nifti(tmp_path / "kept", path)
    assert np.array_equal(kept.to_numpy(), data)
    assert np.allclose(kept.affine, affine)


@pytest.mark.parametrize("keep", [True, False])
def test_the_affine_of_the_file_is_kept_beside_a_turned_image_if_wanted(
    tmp_path: Path, nifti: tuple[Path, np.ndarray, np.ndarray], keep: bool
) -> None:
    path, _, affine = nifti
    configure(orientation=OrientationConfig(reorient_on_load=True, store_original_affine=keep))
    rows = VolumeCollection.from_niftis(tmp_path / "c", [(path, "s1")]).to_obs()
    assert ("original_affine" in rows.columns) == keep
    if keep:
        assert np.allclose([float(v) for v in rows["original_affine"].iloc[0].split()], affine[:3].ravel())


def test_without_auto_detect_the_orientation_is_not_taken_from_the_file(
    tmp_path: Path, nifti: tuple[Path, np.ndarray, np.ndarray]
) -> None:
    path, data, _ = nifti
    assert Volume.from_nifti(tmp_path / "taken", path).axcodes == "PIR"
    configure(orientation=OrientationConfig(auto_detect=False))
    volume = Volume.from_nifti(tmp_path / "v", path)
    assert np.allclose(volume.affine, np.diag([1.5, 2.0, 3.0, 1.0]))
    assert volume.orientation_info.source == "identity"
    assert np.array_equal(volume.to_numpy(), data)
    with pytest.raises(ConfigurationError, match="auto_detect"):
        Volume.from_nifti(tmp_path / "turned", path, reorient=True)
