"""A patch cache holds what the store holds, is built once, and never seen half-built."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from array_source import expected_patch
from truth_store import AFFINE

from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.errors import ConfigurationError, ShapeError, StorageError
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.training.cache import build as cache_build
from radiobject_assets.training.cache.build import build_patch_cache
from radiobject_assets.training.cache.cache_format import CacheMeta, index_digest
from radiobject_assets.training.cache.cache_reading import PatchCache
from radiobject_assets.training.cache.shard_writer import unpublished_folder
from radiobject_assets.training.cache.verify import verify_patch_cache

PATCHES = PatchesConfig(
    image="ct", labels="seg", size_voxels=(9, 8, 7), per_volume=5, foreground_fraction=0.4
)
BUDGET = MemoryBudget(64)


def build(
    store, out_dir, *, subjects=("sub-1", "sub-2", "sub-3"), snapshot=None, patches=PATCHES, **settings
):
    return build_patch_cache(
        store.uri,
        snapshot=snapshot or store.snapshot(),
        subjects=subjects,
        patches=patches,
        out_dir=out_dir,
        budget=BUDGET,
        **settings,
    )


def assert_true(cache: PatchCache, store) -> None:
    """Every patch equals the box of its volume, by NumPy's own padding and slicing."""
    for i in range(len(cache)):
        image, label, row = cache[i]
        start = (row["start_x"], row["start_y"], row["start_z"])
        voxels = store.physical(row["obs_id"])
        voxels = voxels[..., row["t"]] if voxels.ndim == 4 else voxels
        assert image.dtype == np.float32
        assert np.allclose(image, expected_patch(voxels, start, cache.size_voxels, voxels.min()), atol=1e-3)
        if row["label_obs_id"] is not None:
            assert np.array_equal(
                label, expected_patch(store.stored[row["label_obs_id"]], start, cache.size_voxels, 0)
            )


def test_patches_are_the_boxes_of_their_volumes_in_hounsfield_units(cohort, tmp_path):
    info = build(cohort, tmp_path / "out")
    cache = PatchCache(info.path)
    assert (info.n_patches, info.n_volumes, info.n_subjects) == (15, 3, 3)
    assert not info.reused
    assert info.left_out == ()
    assert len(cache) == 15
    assert_true(cache, cohort)
    assert verify_patch_cache(info.path, cohort.uri) == []


def test_the_share_of_foreground_patches_holds_labels(cohort, tmp_path):
    cache = PatchCache(build(cohort, tmp_path / "out").path)
    foreground = [cache[i] for i in range(len(cache)) if cache.row(i)["foreground"]]
    assert len(foreground) == 6
    assert all(patch.label.any() for patch in foreground)


def test_a_patch_knows_where_it_came_from(make_store, tmp_path):
    store = make_store()
    store.add_subject(1, series_uid="1.2.3", study_uid="1.2", source_digest="blake3:00")
    cache = PatchCache(build(store, tmp_path / "out").path)
    row = cache.row(2)
    assert (row["obs_id"], row["obs_subject_id"], row["label_obs_id"]) == ("sub-1_ct", "sub-1", "sub-1_seg")
    assert (row["patch"], row["series_uid"], row["study_uid"]) == (2, "1.2.3", "1.2")
    corner = [row[f"affine_{i}3"] for i in range(3)]
    assert np.allclose(corner, (AFFINE @ [row["start_x"], row["start_y"], row["start_z"], 1])[:3])


def test_only_the_subjects_asked_for_are_in_it(cohort, tmp_path):
    cache = PatchCache(build(cohort, tmp_path / "out", subjects=["sub-2", "unknown"]).path)
    assert set(cache.index.column("obs_subject_id").to_pylist()) == {"sub-2"}


def test_without_subjects_the_cache_is_empty_and_sound(cohort, tmp_path):
    with pytest.raises(ConfigurationError, match="these subjects have no image in 'ct'"):
        build(cohort, tmp_path / "out", subjects=[])
    info = build(cohort, tmp_path / "out", subjects=[], allow_empty=True)
    assert info.n_patches == 0
    assert len(PatchCache(info.path)) == 0
    assert verify_patch_cache(info.path, cohort.uri) == []
    assert build(cohort, tmp_path / "out", subjects=[], allow_empty=True).reused


def test_small_volumes_are_padded_with_their_own_minimum(make_store, tmp_path):
    store = make_store()
    store.add_subject(1, shape=(6, 26, 5))
    store.add_subject(2, shape=(30, 5, 21))
    cache = PatchCache(build(store, tmp_path / "out").path)
    assert {cache[i].image.shape for i in range(len(cache))} == {(9, 8, 7)}
    assert_true(cache, store)
    assert verify_patch_cache(cache.path, store.uri) == []


def test_volumes_of_different_types_rescale_and_time_points_share_a_cache(make_store, tmp_path):
    store = make_store()
    rng = np.random.default_rng(0)
    for name, voxels, slope, intercept in [
        ("a", rng.integers(-900, 900, (12, 11, 10)).astype(np.int16), 1.0, 0.0),
        ("b", rng.integers(0, 900, (12, 11, 10)).astype(np.uint16), 0.5, -3.0),
        ("c", rng.normal(size=(12, 11, 10)).astype(np.float32), 1.0, 0.0),
        ("d", rng.integers(0, 99, (12, 11, 10, 4)).astype(np.uint8), -2.0, 1.0),
        ("e", rng.normal(size=(3, 3, 3)), 1.0, 0.0),
        ("f", rng.integers(0, 9, (5, 40, 5)).astype(np.int8), -1.0, 0.0),
    ]:
        store.add("mr", name, f"s-{name}", voxels, slope=slope, intercept=intercept)
    patches = PatchesConfig(image="mr", size_voxels=(6, 6, 6), per_volume=7)
    info = build(store, tmp_path / "out", subjects=[f"s-{name}" for name in "abcdef"], patches=patches)
    cache = PatchCache(info.path)
    assert not cache.has_labels
    assert len(cache) == 42
    assert_true(cache, store)
    assert len({row["t"] for row in cache.index.to_pylist()}) > 1
    assert verify_patch_cache(info.path, store.uri) == []


def test_images_without_fitting_labels_are_left_out_and_counted(cohort, tmp_path):
    cohort.add("ct", "lonely_ct", "sub-1", np.zeros((30, 26, 20), np.int16))
    shifted = np.eye(4)
    cohort.add("ct", "moved_ct", "sub-2", np.zeros((4, 4, 4), np.int16))
    cohort.add(
        "seg", "moved_seg", "sub-2", np.ones((4, 4, 4), np.uint8), affine=shifted, labels_of="moved_ct"
    )
    info = build(cohort, tmp_path / "out")
    assert info.n_volumes == 3
    assert info.left_out_counts == {"grids_differ": 1, "no_labels": 1}
    assert {item.obs_id for item in info.left_out} == {"lonely_ct", "moved_ct"}


def test_the_same_input_is_built_once(cohort, tmp_path):
    first = build(cohort, tmp_path / "out", snapshot=cohort.snapshot())
    # the time of meta.json says when the cache was asked for last
    files = [file for file in first.path.iterdir() if file.name != "meta.json"]
    written = {file: file.stat().st_mtime_ns for file in files}
    again = build(cohort, tmp_path / "out", subjects=("sub-3", "sub-2", "sub-1"))
    assert (again.path, again.digest, again.n_volumes_cut) == (first.path, first.digest, 0)
    assert again.reused
    assert {file: file.stat().st_mtime_ns for file in files} == written
    assert {file.name for file in again.path.iterdir()} == {"meta.json", *(file.name for file in files)}


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"size_voxels": (8, 8, 8)}, {"per_volume": 6}, {"labels": None}]
)
def test_another_sampling_is_another_cache(cohort, tmp_path, change):
    settings = {**PATCHES.model_dump(), "foreground_fraction": 0.0}
    snapshot = cohort.snapshot()
    one = build(cohort, tmp_path / "out", snapshot=snapshot, patches=PatchesConfig(**settings))
    other = build(
        cohort, tmp_path / "out", snapshot=snapshot, patches=PatchesConfig(**{**settings, **change})
    )
    assert one.path != other.path
    assert_true(PatchCache(other.path), cohort)


def test_a_volume_that_was_written_again_with_other_voxels_is_cut_again(cohort, tmp_path):
    first = build(cohort, tmp_path / "out")
    changed = cohort.stored["sub-2_ct"] + np.uint16(1)
    cohort.add("ct", "sub-2_ct", "sub-2", changed, intercept=-1024.0)
    second = build(cohort, tmp_path / "out")
    assert (second.reused, second.n_volumes_cut) == (False, 1)
    assert second.path != first.path
    assert_true(PatchCache(second.path), cohort)
    assert [problem.obs_id for problem in verify_patch_cache(first.path, cohort.uri, snapshot="v2")] == [
        "sub-2_ct"
    ] * 5
    assert verify_patch_cache(first.path, cohort.uri) == []


@pytest.mark.parametrize("shard_bytes", [1, 9 * 8 * 7 * 2 * 5, 9 * 8 * 7 * 2 * 8, 2**29])
def test_adding_a_subject_cuts_that_subject_only(cohort, tmp_path, shard_bytes):
    subjects = ["sub-1", "sub-2", "sub-3"]
    build(cohort, tmp_path / "out", shard_bytes=shard_bytes)
    for number in (4, 5, 6):
        subjects.append(cohort.add_subject(number))
        info = build(cohort, tmp_path / "out", subjects=subjects, shard_bytes=shard_bytes)
        assert info.n_volumes_cut == 1
        assert info.n_volumes == len(subjects)
        cache = PatchCache(info.path)
        assert len(cache) == 5 * len(subjects)
        assert_true(cache, cohort)
        assert verify_patch_cache(info.path, cohort.uri) == []
    fresh = build(cohort, tmp_path / "fresh", subjects=subjects)
    assert fresh.digest == info.digest


def test_full_shards_of_an_older_cache_are_linked_not_copied(cohort, tmp_path):
    first = build(cohort, tmp_path / "out", shard_bytes=1)
    cohort.add_subject(4)
    second = build(cohort, tmp_path / "out", subjects=["sub-1", "sub-3", "sub-4"], shard_bytes=1)
    shared = {file.stat().st_ino for file in first.path.glob("*.npy")} & {
        file.stat().st_ino for file in second.path.glob("*.npy")
    }
    assert len(shared) == 4
    assert_true(PatchCache(second.path), cohort)


class TinyBudget(MemoryBudget):
    """Less than the least that a user may ask for: a few patches, a few slices."""

    tasks_bytes = 4000


def test_a_small_budget_gives_the_same_patches(cohort, tmp_path):
    snapshot = cohort.snapshot()
    usual = PatchCache(build(cohort, tmp_path / "usual", snapshot=snapshot).path)
    info = build_patch_cache(
        cohort.uri, snapshot=snapshot, subjects=["sub-1", "sub-2", "sub-3"], patches=PATCHES,
        out_dir=tmp_path / "tiny", budget=TinyBudget(),
    )  # fmt: skip
    cache = PatchCache(info.path)
    everything = list(range(len(usual)))
    assert np.array_equal(cache.gather(everything).image, usual.gather(everything).image)
    assert np.array_equal(cache.gather(everything).label, usual.gather(everything).label)


def test_a_build_that_is_interrupted_leaves_nothing_and_the_next_one_succeeds(cohort, tmp_path):
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(cohort, tmp_path / "out", on_progress=interrupt)
    assert list((tmp_path / "out").iterdir()) == []
    assert_true(PatchCache(build(cohort, tmp_path / "out").path), cohort)


def test_what_a_killed_builder_left_is_removed_and_a_living_one_is_let_be(cohort, tmp_path):
    import fcntl

    dead, alive = tmp_path / "out" / ".patches-x.1.partial", tmp_path / "out" / ".patches-x.2.partial"
    for folder in (dead, alive):
        folder.mkdir(parents=True)
        (folder / ".lock").touch()
    with (alive / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build(cohort, tmp_path / "out")
        assert not dead.exists()
        assert alive.exists()


def test_of_two_builders_of_the_same_cache_the_first_one_stays(tmp_path):
    target = tmp_path / "patches-1"
    with unpublished_folder(target) as slow:
        (slow / "content").write_text("slow")
        with unpublished_folder(target) as quick:
            (quick / "content").write_text("quick")
    assert (target / "content").read_text() == "quick"
    assert list(tmp_path.iterdir()) == [target]


def test_a_damaged_cache_is_built_again(cohort, tmp_path):
    first = build(cohort, tmp_path / "out")
    shard = next(first.path.glob("*.image.npy"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(StorageError, match="damaged or truncated"):
        PatchCache(first.path)
    assert "damaged" in verify_patch_cache(first.path, cohort.uri)[0].problem
    second = build(cohort, tmp_path / "out")
    assert (second.path, second.reused) == (first.path, False)
    assert_true(PatchCache(second.path), cohort)


def test_one_flipped_byte_is_found_with_its_patch(cohort, tmp_path):
    info = build(cohort, tmp_path / "out")
    shard = next(info.path.glob("*.image.npy"))
    content = bytearray(shard.read_bytes())
    content[4096 + 3 * 9 * 8 * 7 * 2 + 11] ^= 1
    shard.write_bytes(bytes(content))
    (problem,) = verify_patch_cache(info.path, cohort.uri)
    assert problem.problem == "its voxels are not those of the volume"
    cache = PatchCache(info.path)
    assert cache.row(problem.patch)["row"] == 3
    assert len(verify_patch_cache(info.path, cohort.uri, sample=5)) <= 1


def test_an_index_that_moved_a_patch_is_found(cohort, tmp_path):
    """A builder that was wrong from the start: its digests are those of what it wrote."""
    info = build(cohort, tmp_path / "out")
    table = pq.read_table(info.path / "index.parquet")
    rows = table.to_pylist()
    rows[0]["start_x"], rows[1]["obs_subject_id"], rows[2]["intercept"] = rows[0]["start_x"] + 1, "sub-9", 0.0
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), info.path / "index.parquet")
    digest = index_digest((info.path / "index.parquet").read_bytes())
    meta = replace(CacheMeta.read(info.path), index_digest=digest)
    (info.path / "meta.json").write_text(meta.to_json())
    problems = verify_patch_cache(info.path, cohort.uri)
    assert {problem.patch for problem in problems} == {0, 1, 2}


def test_gather_takes_any_order_and_reuses_buffers(cohort, tmp_path):
    cache = PatchCache(build(cohort, tmp_path / "out").path)
    out = cache.empty_batch(4)
    assert cache.gather([7, -1, 0, 7], out) is out
    for place, index in enumerate([7, 14, 0, 7]):
        assert np.array_equal(out.image[place], cache[index].image)
        assert np.array_equal(out.label[place], cache[index].label)
    cache.will_need(np.array([1, 2]))


def test_wrong_indices_and_buffers_are_refused(cohort, tmp_path):
    cache = PatchCache(build(cohort, tmp_path / "out").path)
    for indices in ([15], [-16], [[1]]):
        with pytest.raises(IndexError):
            cache.gather(indices)
    with pytest.raises(IndexError):
        cache[15]
    with pytest.raises(ShapeError):
        cache.gather([1, 2], cache.empty_batch(3))


def test_shards_are_plain_npy_files_and_a_cache_pickles_as_its_path(cohort, tmp_path):
    info = build(cohort, tmp_path / "out")
    cache = pickle.loads(pickle.dumps(PatchCache(str(info.path))))
    (shard,) = info.path.glob("*.image.npy")
    plain = np.load(shard, mmap_mode="r")
    assert plain.dtype == np.uint16
    for i in range(len(cache)):
        assert np.array_equal(plain[cache.row(i)["row"]], cache.stored(i)[0])


def test_absent_things_are_named(cohort, tmp_path):
    with pytest.raises(StorageError, match="no snapshot"):
        build(cohort, tmp_path / "out", snapshot="nope")
    with pytest.raises(ConfigurationError, match=r"no collection 'pet'.*ct, seg"):
        build(cohort, tmp_path / "out", patches=PatchesConfig(image="pet"))
    with pytest.raises(StorageError, match="there is no patch cache"):
        PatchCache(tmp_path)
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(StorageError, match="not that of a patch cache"):
        PatchCache(Path(tmp_path))


def test_a_disk_without_room_is_told_before_anything_is_written(cohort, tmp_path, monkeypatch):
    usage = cache_build.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cache_build.shutil, "disk_usage", lambda path: usage._replace(free=10))
        with pytest.raises(StorageError, match=r"needs \d+ MB and 0 MB are free"):
            build(cohort, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
