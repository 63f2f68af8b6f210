"""Bytes of a patch cache are those that were written, or are told and cut again from the store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_patch_cache import assert_true, build

from radiobject_assets.errors import ConfigurationError, DamagedCacheError, StorageError
from radiobject_assets.training.cache import cache_reading
from radiobject_assets.training.cache.cache_format import CacheMeta
from radiobject_assets.training.cache.cache_reading import PatchCache
from radiobject_assets.training.cache.current import current_cache
from radiobject_assets.training.cache.verify import compare_digests


def flip(path: Path, at: int) -> None:
    """One bit, in place, as a disk does it."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 16]))


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_flipped_bit_stops_the_batch_that_reads_it_and_is_mended_from_the_store(cohort, tmp_path, kind):
    whole = build(cohort, tmp_path / "out")
    flip(next(whole.path.glob(f"*.{kind}.npy")), 4096 + 7 * 9 * 8 * 7 + 5)
    (number,) = compare_digests(whole.path).damaged
    cache = PatchCache(whole.path)
    cache.gather([i for i in range(len(cache)) if i != number])
    with pytest.raises(DamagedCacheError, match=rf"volume {cache.row(number)['obs_id']} is damaged") as told:
        cache.gather([0, number])
    assert "sub-" not in told.value.public_text
    # a newer cache that takes over what this one has does not take the damage
    cohort.add_subject(4)
    newer = build(cohort, tmp_path / "out", subjects=("sub-1", "sub-2", "sub-3", "sub-4"))
    assert newer.n_volumes_cut == 2
    assert_true(PatchCache(newer.path), cohort)
    snapshot = CacheMeta.read(whole.path).snapshot
    again = build(cohort, tmp_path / "out", snapshot=snapshot)
    assert (again.path, again.reused, again.n_volumes_cut) == (whole.path, False, 1)
    assert compare_digests(whole.path).damaged == ()
    assert_true(PatchCache(again.path), cohort)
    assert build(cohort, tmp_path / "out", snapshot=snapshot).reused


def test_a_linked_shard_that_is_damaged_is_mended_from_the_store_in_each_cache(cohort, tmp_path):
    first = build(cohort, tmp_path / "out", shard_bytes=1)
    cohort.add_subject(4)
    second = build(cohort, tmp_path / "out", subjects=("sub-1", "sub-2", "sub-3", "sub-4"), shard_bytes=1)
    shard = next(path for path in second.path.glob("*.image.npy") if path.stat().st_nlink > 1)
    flip(shard, 5000)
    assert len(compare_digests(first.path).damaged) == len(compare_digests(second.path).damaged) == 1
    snapshot = CacheMeta.read(second.path).snapshot
    everybody = ("sub-1", "sub-2", "sub-3", "sub-4")
    mended = build(cohort, tmp_path / "out", subjects=everybody, snapshot=snapshot, shard_bytes=1)
    assert (mended.path, mended.n_volumes_cut) == (second.path, 1)
    assert compare_digests(mended.path).damaged == ()
    assert_true(PatchCache(mended.path), cohort)


def test_no_flipped_bit_in_the_small_files_gives_other_patches(cohort, tmp_path):
    info = build(cohort, tmp_path / "out")
    everything = list(range(15))
    true = PatchCache(info.path).gather(everything).image
    random = np.random.default_rng(5)
    for name in ("meta.json", "index.parquet"):
        sound = (info.path / name).read_bytes()
        for _ in range(150):
            content = bytearray(sound)
            content[random.integers(len(content))] ^= 1 << random.integers(8)
            (info.path / name).write_bytes(bytes(content))
            try:
                cache = PatchCache(info.path)
            except StorageError:
                continue
            assert cache.meta == CacheMeta.read(info.path)
            assert np.array_equal(cache.gather(everything).image, true)
        (info.path / name).write_bytes(sound)


@pytest.mark.parametrize("content", [None, b"{}", b"", b"\xff"])
def test_a_cache_that_was_removed_in_part_is_built_again(cohort, tmp_path, content):
    info = build(cohort, tmp_path / "out")
    (info.path / "meta.json").unlink()
    if content is not None:
        (info.path / "meta.json").write_bytes(content)
    with pytest.raises(DamagedCacheError):
        PatchCache(info.path)
    again = build(cohort, tmp_path / "out", snapshot="v1")
    assert (again.path, again.reused) == (info.path, False)
    assert_true(PatchCache(again.path), cohort)
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == [info.path.name]


def test_a_second_builder_leaves_the_cache_that_somebody_trains_on(cohort, tmp_path):
    snapshot = cohort.snapshot()
    readers = []

    def another_is_first(done: int, total: int) -> None:
        if not readers:
            readers.append(PatchCache(build(cohort, tmp_path / "out", snapshot=snapshot).path))

    second = build(cohort, tmp_path / "out", snapshot=snapshot, on_progress=another_is_first)
    assert second.path == readers[0].path
    assert_true(readers[0], cohort)  # maps its shards only now


def test_a_cache_that_cannot_be_read_now_is_left_as_it_is(cohort, tmp_path):
    """The limit of open files, as a login shell has it, and more shards than that."""
    info = build(cohort, tmp_path / "out", shard_bytes=1)
    files = {path.name: path.stat().st_ino for path in info.path.iterdir()}
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from radiobject_assets.errors import DamagedCacheError, StorageError\n"
        "from radiobject_assets.training.cache import cache_reading\n"
        "cache = cache_reading.PatchCache(sys.argv[1])\n"
        "import os; n = len(os.listdir('/proc/self/fd'))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (n - 1, n - 1))\n"
        "try: cache.gather([0])\n"
        "except DamagedCacheError: sys.exit(3)\n"
        "except StorageError as error: sys.exit('ulimit -n' not in str(error))\n"
        "sys.exit(4)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(info.path)], check=False).returncode == 0
    assert {path.name: path.stat().st_ino for path in info.path.iterdir()} == files


def test_few_files_are_open_however_many_shards_there_are(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_reading, "MOST_MAPPED", 2)
    subjects = [cohort.add_subject(number) for number in range(4, 9)]
    cache = PatchCache(build(cohort, tmp_path / "out", subjects=subjects, shard_bytes=1).path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        assert_true(cache, cohort)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 4


def test_nobody_who_was_left_out_stays_in_a_shard(cohort, tmp_path):
    first = build(cohort, tmp_path / "out")
    gone = [PatchCache(first.path).stored(i)[0].tobytes() for i in range(15)]
    rows = PatchCache(first.path).index.column("obs_subject_id").to_pylist()
    second = build(cohort, tmp_path / "out", subjects=("sub-1", "sub-3"), shard_bytes=1)
    content = b"".join(path.read_bytes() for path in second.path.iterdir())
    assert [voxels in content for voxels in gone] == [subject != "sub-2" for subject in rows]


def test_the_current_cache_is_the_one_that_was_asked_for_last(cohort, tmp_path):
    with pytest.raises(StorageError, match="no patch cache was built here"):
        current_cache(tmp_path / "out")
    first = build(cohort, tmp_path / "out")
    snapshot = CacheMeta.read(first.path).snapshot
    other = build(cohort, tmp_path / "out", subjects=("sub-1",), snapshot=snapshot)
    assert current_cache(tmp_path / "out") == other.path
    assert build(cohort, tmp_path / "out", snapshot=snapshot).reused
    assert current_cache(tmp_path / "out") == first.path


def test_a_place_that_is_no_local_folder_is_refused(cohort):
    with pytest.raises(ConfigurationError, match="lies in a local folder"):
        build(cohort, "s3://bucket/caches")
