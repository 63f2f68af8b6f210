"""Kill -9 while writing: the store opens, shows whole volumes only, and the same call completes it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    RadiObject,
    VolumeCollection,
    commit_volumes,
    ensure_collection,
    ensure_store,
    stage_volume,
    upsert_subjects,
    vacuum,
)
from tests.store.conftest import AFFINE, put, voxels

_SPAWN = multiprocessing.get_context("forkserver")
_SPAWN.set_forkserver_preload(["tests.store.test_crashes"])


def ingest_arrival(store: str) -> None:
    """What a worker does with an arrival: one volume again, two new ones, a new collection, new metadata."""
    upsert_subjects(
        store,
        pd.DataFrame({"obs_subject_id": ["old", "new", "患者"], "age": [71, 8, 9], "site": ["x", None, "y"]}),
    )
    ct = ensure_collection(store, "ct")
    staged = [
        stage_volume(ct, obs_id="old_ct", obs_subject_id="old", voxels=voxels(11), affine=AFFINE),
        stage_volume(ct, obs_id="new_ct", obs_subject_id="new", voxels=voxels(12), affine=AFFINE),
        stage_volume(
            ct, obs_id="患者_ct", obs_subject_id="患者", voxels=voxels(13), attributes={"echo_time_ms": 3.5}
        ),
    ]
    commit_volumes(ct, staged)
    seg = ensure_collection(store, "seg")
    commit_volumes(
        seg, [stage_volume(seg, obs_id="new_seg", obs_subject_id="new", voxels=voxels(14, dtype="uint8"))]
    )


def copy_view(store: str) -> None:
    """A user's copy of the store."""
    RadiObject(store).write(store + "-copy")


def check_whole(store: str) -> None:
    """Every visible volume is whole; the arrival's rows of `ct` are all there or none is."""
    radi = RadiObject(store)
    assert {"old", "keep"} <= set(radi.obs_subject_ids)
    for name in radi.collection_names:
        collection = radi.collection(name)
        collection.validate()
        assert collection.verify() == []
    ids = set(radi.ct.obs_ids)
    assert ids in ({"old_ct", "keep_ct"}, {"old_ct", "keep_ct", "new_ct", "患者_ct"})
    seed = 1 if len(ids) == 2 else 11
    assert np.array_equal(radi.ct["old_ct"].to_numpy(stored=True), voxels(seed))
    assert np.array_equal(radi.ct["keep_ct"].to_numpy(stored=True), voxels(2))


def check_complete(store: str) -> None:
    """The arrival is in, every value of it."""
    radi = RadiObject(store)
    radi.validate()
    assert radi.collection_names == ("ct", "seg")
    assert radi.obs_subject_ids == ["keep", "new", "old", "患者"]
    for obs_id, seed in {"old_ct": 11, "keep_ct": 2, "new_ct": 12, "患者_ct": 13}.items():
        assert np.array_equal(radi.ct[obs_id].to_numpy(stored=True), voxels(seed))
    assert np.array_equal(radi.seg["new_seg"].to_numpy(), voxels(14, dtype="uint8"))
    ages = radi.obs_meta.read().set_index("obs_subject_id")["age"].dropna().to_dict()
    assert ages == {"old": 71, "new": 8, "患者": 9}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two volumes, from which every test begins."""
    folder = tmp_path_factory.mktemp("crash") / "base"
    uri = ensure_store(folder)
    put(uri, "ct", "old", 1)
    put(uri, "ct", "keep", 2)
    return folder


def _work(job: Callable[[str], None], store: str, ready: Connection, die_at: int | None) -> None:
    if die_at is not None:
        _die_at_call(die_at)
    ready.send("go")
    job(store)
    ready.send("done")


def _die_at_call(number: int) -> None:
    """Kill this process with signal 9 just before its `number`-th call that writes something."""
    import tiledb
    import tiledb.libtiledb as lt

    made = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            made += 1
            if made >= number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for owner, name in (
        (os, "writev"),
        (os, "fsync"),
        (os, "fdatasync"),
        (os, "rename"),
        (os, "replace"),
        (os, "link"),
        (os, "unlink"),
        (os, "mkdir"),
        (lt.Query, "_submit"),
        (lt.Query, "finalize"),
        (tiledb.Array, "create"),
        (tiledb.DenseArray, "close"),
    ):
        setattr(owner, name, counted(getattr(owner, name)))


def run_and_kill(
    job: Callable[[str], None], store: str, after_s: float | None = None, at_call: int | None = None
) -> bool:
    """Run a job in a process of its own, killed after a time or at a call; whether it got to its end."""
    here, there = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_work, args=(job, store, there, at_call))
    process.start()
    there.close()
    assert here.recv() == "go"
    if after_s is not None:
        time.sleep(after_s)
        process.kill()
    process.join(200)
    assert not process.is_alive()
    try:
        return bool(here.poll() and here.recv() == "done")
    except EOFError:
        return False


@pytest.mark.slow
def test_a_writer_killed_at_any_call_leaves_whole_volumes_and_the_same_call_completes(
    base: Path, tmp_path: Path
) -> None:
    finished = False
    number = 0
    while not finished:
        number += 1
        assert number < 400
        store = str(tmp_path / f"s{number}")
        shutil.copytree(base, store)
        finished = run_and_kill(ingest_arrival, store, at_call=number)
        check_whole(store)
        ingest_arrival(store)
        check_complete(store)
        shutil.rmtree(store)
    assert number > 20


@pytest.mark.slow
def test_a_writer_killed_at_200_random_times_leaves_whole_volumes_and_the_same_call_completes(
    base: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2026)
    length = 0.0
    for number in range(3):  # the first also starts the server of processes
        store = str(tmp_path / f"timing{number}")
        shutil.copytree(base, store)
        started = time.perf_counter()
        run_and_kill(ingest_arrival, store)
        length = time.perf_counter() - started
    killed = number = 0
    while killed < 200:
        number += 1
        assert number < 2000
        store = str(tmp_path / f"s{number}")
        shutil.copytree(base, store)
        finished = run_and_kill(ingest_arrival, store, after_s=float(rng.uniform(0, length)))
        # The machine may be busier or idler than it was a moment ago: most of the kills shall come in time.
        length = max(0.02, length * (0.95 if finished else 1.02))
        killed += not finished
        check_whole(store)
        if number % 10 == 0:
            ingest_arrival(store)
            check_complete(store)
        shutil.rmtree(store)


def test_of_a_copy_killed_at_any_call_nothing_is_seen_and_the_same_call_makes_it(
    base: Path, tmp_path: Path
) -> None:
    finished = False
    number = 0
    while not finished:
        number += 3
        assert number < 400
        store = str(tmp_path / f"c{number}")
        shutil.copytree(base, store)
        finished = run_and_kill(copy_view, store, at_call=number)
        if not finished:
            try:
                RadiObject(store + "-copy")  # killed after its one commit it is whole
            except StorageError:
                copy_view(store)
        copied = RadiObject(store + "-copy")
        copied.validate()
        assert copied.ct.verify() == []
        assert copied.ct.obs_ids == ["keep_ct", "old_ct"]
        assert np.array_equal(copied.ct["keep_ct"].affine, AFFINE)
        vacuum(store + "-copy", grace_s=0)  # of the killed call
        assert len(list(Path(store + "-copy", "collections", "ct", "volumes").iterdir())) == 2
        shutil.rmtree(store)
    assert number > 10


def test_arrays_of_a_dead_writer_are_removed_by_vacuum_and_those_of_a_living_one_are_not(store: str) -> None:
    put(store, "ct", "s1", 1)
    ct = ensure_collection(store, "ct")
    staged = stage_volume(ct, obs_id="s2_ct", obs_subject_id="s2", voxels=voxels(2))
    assert vacuum(store).arrays == 0
    commit_volumes(ct, [staged])
    stage_volume(ct, obs_id="lost", obs_subject_id="s3", voxels=voxels(3))
    time.sleep(0.01)
    assert vacuum(store, grace_s=0).arrays == 1
    collection = VolumeCollection(ct)
    assert collection.obs_ids == ["s1_ct", "s2_ct"]
    assert collection.verify() == []


def test_a_writer_that_fails_changes_nothing_visible(store: str) -> None:
    put(store, "ct", "s1", 1)
    ct = ensure_collection(store, "ct")

    def slabs() -> Any:
        yield 0, 0, voxels(5)[:, :, :2]
        raise OSError(5, "Input/output error")

    with pytest.raises(RuntimeError, match="disk reports an error"):
        stage_volume(ct, obs_id="s1_ct", obs_subject_id="s1", shape=(7, 6, 5), dtype="int16", slabs=slabs())
    assert len([p for p in Path(ct, "volumes").iterdir() if not p.name.startswith("__")]) == 1
    assert np.array_equal(VolumeCollection(ct)["s1_ct"].to_numpy(stored=True), voxels(1))
