"""Several processes at once on one store; forks, pickles, and readers during maintenance."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import tiledb

from radiobject_assets.store import (
    RadiObject,
    ReadConfig,
    Volume,
    VolumeCollection,
    commit_volumes,
    configure,
    consolidate,
    ctx_for_process,
    delete_subjects,
    ensure_collection,
    ensure_store,
    make_ctx,
    stage_volume,
    upsert_subjects,
    vacuum,
)
from radiobject_assets.store.tables.table import Table
from tests.store.conftest import put, voxels

_FRESH = multiprocessing.get_context("forkserver")


def write_arrival(store: str, writer: int) -> None:
    """Make sure of the store, add a collection and columns of one's own, then ten volumes."""
    ensure_store(store)
    uri = ensure_collection(store, "ct")
    ensure_collection(store, f"only{writer}")
    for batch in range(5):
        subjects = [f"w{writer}-{batch}-{i}" for i in range(2)]
        upsert_subjects(store, pd.DataFrame({"obs_subject_id": subjects, f"column{writer}": [writer, batch]}))
        staged = [
            stage_volume(
                uri,
                obs_id=f"{subject}_ct",
                obs_subject_id=subject,
                voxels=voxels(writer * 100 + batch * 10 + i),
                attributes={f"attribute{writer}": float(batch), "shared": writer if writer % 2 else "text"},
            )
            for i, subject in enumerate(subjects)
        ]
        # The same series from every writer: one volume in the end.
        staged.append(stage_volume(uri, obs_id="same_ct", obs_subject_id="same", voxels=voxels(777)))
        commit_volumes(uri, staged)


def test_writers_that_create_and_fill_one_store_together_lose_nothing(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with ProcessPoolExecutor(4, mp_context=_FRESH) as pool:
        for done in [pool.submit(write_arrival, store, writer) for writer in range(6)]:
            done.result(timeout=300)
    radi = RadiObject(store)
    radi_subjects = {f"w{w}-{b}-{i}" for w in range(6) for b in range(5) for i in range(2)}
    assert set(radi.obs_subject_ids) == radi_subjects
    assert set(radi.collection_names) == {"ct", *(f"only{w}" for w in range(6))}
    assert set(radi.ct.obs_ids) == {f"{s}_ct" for s in radi_subjects} | {"same_ct"}
    assert radi.ct.verify() == []
    rows = radi.ct.to_obs().set_index("obs_id")
    meta = radi.obs_meta.read().set_index("obs_subject_id")
    for w in range(6):
        for b in range(5):
            for i in range(2):
                subject = f"w{w}-{b}-{i}"
                stored = radi.ct[f"{subject}_ct"].to_numpy()
                assert np.array_equal(stored, voxels(w * 100 + b * 10 + i))
                assert rows.loc[f"{subject}_ct", f"attribute{w}"] == float(b)
                assert meta.loc[subject, f"column{w}"] == [w, b][i]


def read_digest(volume: Volume) -> float:
    return float(volume.to_numpy().sum())


def test_objects_pickle_to_spawned_processes_without_credentials(store: str) -> None:
    put(store, "ct", "s1", 1, modality="CT")
    secret = make_ctx(**{"vfs.s3.aws_secret_access_key": "hush-hush", "vfs.s3.aws_access_key_id": "who"})
    radi = RadiObject(store, ctx=secret)
    for thing in (
        radi,
        radi.iloc[:1],
        radi.ct,
        radi.ct.filter("modality == 'CT'"),
        radi.ct[0],
        radi.obs_meta,
    ):
        assert b"hush-hush" not in pickle.dumps(thing)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(read_digest, radi.ct[0]).result(200) == float(radi.ct[0].to_numpy().sum())


def ids_and_voxels(view: VolumeCollection) -> list[tuple[str | None, int]]:
    """What a view holds, as a child process sees it."""
    return [(volume.obs_id, int(volume.to_numpy(stored=True).sum())) for volume in view]


def test_a_pickled_view_keeps_its_volumes_whatever_is_written_meanwhile(store: str) -> None:
    for number, subject in enumerate(("s3", "s5", "s7")):
        put(store, "ct", subject, number)
    radi = RadiObject(store)
    view = radi.ct.filter("obs_subject_id != 's5'")
    subjects = radi.filter("obs_subject_id == 's7'")
    truth = ids_and_voxels(view)
    pickled, pickled_subjects = pickle.dumps(view), pickle.dumps(subjects)
    put(store, "ct", "s1", 9)  # sorts before all others: every position moves
    consolidate(store)
    assert ids_and_voxels(pickle.loads(pickled)) == truth
    assert pickle.loads(pickled_subjects).obs_subject_ids == ["s7"]
    with ProcessPoolExecutor(1, mp_context=_FRESH) as pool:
        assert pool.submit(ids_and_voxels, pickle.loads(pickled)).result() == truth
    assert "s1_ct" in RadiObject(store).ct.obs_ids


def test_a_view_that_changes_context_keeps_its_volumes(store: str) -> None:
    for number, subject in enumerate(("s3", "s5")):
        put(store, "ct", subject, number)
    view = RadiObject(store).ct.filter("obs_subject_id == 's5'")
    truth = ids_and_voxels(view)
    put(store, "ct", "s1", 9)
    configure(read=ReadConfig(memory_budget_mb=256))  # every context is made anew
    assert ids_and_voxels(view) == truth


def test_a_view_keeps_the_rows_of_others_in_their_places_when_somebody_was_erased(store: str) -> None:
    for number, subject in enumerate(("s1", "s3", "s5")):
        put(store, "ct", subject, number, grade=number)
    whole = RadiObject(store).ct
    assert whole.obs_ids == ["s1_ct", "s3_ct", "s5_ct"]  # of their columns no other is read yet
    view = whole.filter("obs_subject_id == 's5'")
    truth = ids_and_voxels(view)
    pickled = pickle.dumps(view)
    delete_subjects(store, ["s1"])
    assert ids_and_voxels(pickle.loads(pickled)) == truth
    with ProcessPoolExecutor(1, mp_context=_FRESH) as pool:
        assert pool.submit(ids_and_voxels, pickle.loads(pickled)).result() == truth
    with ProcessPoolExecutor(1, mp_context=_FRESH) as pool:
        grades = pool.submit(_column_of, whole, "grade").result()
    assert grades == [None, 1, 2]
    whole.refresh()
    assert whole.obs_ids == ["s3_ct", "s5_ct"]


def _column_of(collection: VolumeCollection, name: str) -> list[object]:
    values = collection.obs[name][name]
    return [None if missing else int(value) for value, missing in zip(values, values.isna(), strict=True)]


def test_a_forked_child_reads_through_a_context_of_its_own(store: str) -> None:
    put(store, "ct", "s1", 1)
    own = RadiObject(store, ctx=ctx_for_process())
    shared = RadiObject(store)
    expected = [float(own.ct[0].to_numpy().sum()), float(shared.ct[0].to_numpy().sum())]
    held = [own.ct[0], shared.ct[0]]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sums = [float(volume.to_numpy().sum()) for volume in held] + [
                float(len(own.ct)),
                float(len(shared)),
            ]
            os.write(writing, repr(sums).encode())
        finally:
            os._exit(0)
    os.close(writing)
    watchdog = threading.Timer(150, os.kill, (child, 9))
    watchdog.start()
    with os.fdopen(reading, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(child, 0)
    watchdog.cancel()
    assert text == repr([*expected, 1.0, 1.0])


def test_no_context_of_a_thread_is_made_beside_the_one_that_is_used(store: str) -> None:
    # A fork from another thread would destroy it in the child, and wait for ever for its threads there.
    def work() -> None:
        put(store, "ct", "s1", 1, grade=1)
        put(store, "ct", "s2", 2)
        delete_subjects(store, ["s2"])
        assert RadiObject(store).ct["s1_ct"].verify()
        tiledb.default_ctx({"sm.compute_concurrency_level": "1"})  # raises where there is one

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def test_threads_share_one_context_and_the_cache(store: str) -> None:
    for seed in range(4):
        put(store, "ct", f"s{seed}", seed)
    collection = VolumeCollection(ensure_collection(store, "ct"))
    failures: list[str] = []

    def read(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(60):
            seed = int(rng.integers(4))
            x = int(rng.integers(7))
            if not np.array_equal(collection[f"s{seed}_ct"][x], voxels(seed)[x] * 2.0 - 100.0):
                failures.append(f"s{seed} {x}")

    threads = [threading.Thread(target=read, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_view_opened_before_consolidation_and_vacuum_still_reads(store: str) -> None:
    for seed in range(5):
        put(store, "ct", f"s{seed}", seed, grade=seed)
    collection = VolumeCollection(ensure_collection(store, "ct"))
    view = collection.tail(3)
    assert view.obs_ids == ["s2_ct", "s3_ct", "s4_ct"]
    put(store, "ct", "s2", 99, grade=99)
    consolidate(store)
    assert vacuum(store).arrays == 0
    assert list(view.to_obs()["grade"]) == [2, 3, 4]
    assert np.array_equal(view["s2_ct"].to_numpy(stored=True), voxels(2))
    collection.refresh()
    assert np.array_equal(collection["s2_ct"].to_numpy(stored=True), voxels(99))


def test_segments_stay_few_over_many_commits(store: str) -> None:
    uri = ensure_collection(store, "ct")
    array = np.zeros((2, 2, 2), np.uint8)
    staged = [stage_volume(uri, obs_id=f"v{n}", obs_subject_id="s", voxels=array) for n in range(2)]
    most = 0
    for number in range(60):
        commit_volumes(uri, [replace(staged[number % 2], obs_id=f"v{number}")])
        most = max(most, len(Table(uri + "/obs").state.segments))
    assert most <= 12
    assert len(VolumeCollection(uri)) == 60
