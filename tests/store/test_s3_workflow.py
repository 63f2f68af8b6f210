"""A store's life on a real S3 server: ingest, snapshots, views, cache, writers, kills, tidying."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import StorageError
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.store import (
    RadiObject,
    TileDBStats,
    commit_volumes,
    configure,
    consolidate,
    create_snapshot,
    delete_subjects,
    ensure_collection,
    ensure_store,
    ensure_subjects,
    set_radiobject_config,
    stage_volume,
    vacuum,
)
from radiobject_assets.store.log.commit_log import now_ms
from radiobject_assets.store.names import OBS
from radiobject_assets.store.storage.config import RadiObjectConfig, get_radiobject_config
from radiobject_assets.store.storage.context import get_tiledb_ctx
from radiobject_assets.store.storage.uris import join
from radiobject_assets.store.tables.table import Table
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from tests.store.conftest import AFFINE, S3Server, put, voxels

pytestmark = [pytest.mark.s3, pytest.mark.timeout(300)]

_PROCESSES = multiprocessing.get_context("spawn")


@pytest.fixture
def place(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of one's own on the server, for a process that is configured as users do it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    configure(s3=s3_server.config().s3)
    return f"s3://{s3_server.bucket}/{secrets.token_hex(6)}/store"


def test_a_phantom_subject_is_ingested_seen_pinned_cached_and_removed(place: str, tmp_path: Path) -> None:
    subject = make_subject(tmp_path / "landing", 1, shape=(48, 48, 24))

    def ingest() -> dict[str, int]:
        report = ingest_sources(
            [tmp_path / "landing"],
            place,
            DatasetSettings(),
            budget=MemoryBudget(1024),
            compute=Compute(workers=1),
        )
        statuses = [outcome.status for outcome in report.outcomes]
        return {status: statuses.count(status) for status in statuses}

    first = ingest()
    assert first["written"] >= 1
    radi = RadiObject(place)
    rows = radi.ct.to_obs().reset_index().set_index("series_uid")
    volume = radi.ct.loc[rows.loc[subject.ct_series_uid, "obs_id"]]
    assert subject.ct.largest_difference(volume.to_numpy(), volume.affine) == 0
    again = ingest()
    assert again.get("written", 0) == 0
    assert again["unchanged"] == first["written"]

    pinned = create_snapshot(place, "as ingested")
    put(place, "ct", "later", 5)
    radi = RadiObject(place)
    assert set(radi.filter("obs_subject_id == 'later'").ct.obs_ids) == {"later_ct"}
    old = RadiObject(place, timestamp="as ingested")
    assert sum(len(old.collection(name)) for name in old.collection_names) == first["written"]
    assert old.timestamp == pinned.timestamp_ms

    volume = radi.get_volume(volume.obs_id)
    with TileDBStats() as stats:
        for _ in range(4):
            volume[3:20, 4:21, 5:9]
    assert stats.cache_stats().cache_hits > 0

    patient = volume.obs_subject_id
    delete_subjects(place, [patient])
    assert RadiObject(place).obs_subject_ids == ["later"]
    assert all(patient not in old.obs_subject_ids for old in [RadiObject(place, timestamp="as ingested")])


def _write_arrival(config: RadiObjectConfig, place: str, number: int) -> None:
    set_radiobject_config(config)
    for i in range(3):
        put(place, "ct", f"writer{number}-{i}", 100 * number + i)
    put(place, "ct", "shared", 7)


def test_two_processes_write_to_one_store_and_nothing_is_lost_or_twice(place: str) -> None:
    ensure_store(place)
    writers = [
        _PROCESSES.Process(target=_write_arrival, args=(get_radiobject_config(), place, n)) for n in (1, 2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(200)
        assert writer.exitcode == 0
    radi = RadiObject(place)
    assert set(radi.ct.obs_ids) == {"shared_ct", *(f"writer{n}-{i}_ct" for n in (1, 2) for i in range(3))}
    assert len(radi.ct) == 7
    for n in (1, 2):
        assert np.array_equal(radi.ct[f"writer{n}-2_ct"].to_numpy(stored=True), voxels(100 * n + 2))
    assert radi.ct.verify() == []


def _write_without_end(config: RadiObjectConfig, place: str) -> None:
    set_radiobject_config(config)
    while True:
        _write_pair(place)


def _write_pair(place: str) -> None:
    ct = ensure_collection(place, "ct")
    ensure_subjects(place, ["a", "b"], get_tiledb_ctx())
    staged = [
        stage_volume(ct, obs_id=f"{s}_ct", obs_subject_id=s, voxels=voxels(seed), affine=AFFINE)
        for s, seed in (("a", 1), ("b", 2))
    ]
    commit_volumes(ct, staged)


def test_a_killed_writer_leaves_whole_volumes_only_and_the_same_call_completes_it(place: str) -> None:
    ensure_store(place)
    rng = np.random.default_rng(0)
    for _ in range(3):
        writer = _PROCESSES.Process(target=_write_without_end, args=(get_radiobject_config(), place))
        writer.start()
        time.sleep(1.5 + rng.uniform(0, 0.7))
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(60)
        radi = RadiObject(place)
        if radi.collection_names:
            assert radi.ct.obs_ids in ([], ["a_ct", "b_ct"])
            assert radi.ct.verify() == []
    _write_pair(place)
    radi = RadiObject(place)
    assert np.array_equal(radi.ct["a_ct"].to_numpy(), voxels(1))
    assert np.array_equal(radi.ct["b_ct"].to_numpy(), voxels(2))
    vacuum(place, grace_s=0)
    assert RadiObject(place).ct.verify() == []


def test_segments_are_merged_and_removed_while_readers_keep_what_they_see(place: str) -> None:
    ensure_store(place)
    for number in range(4):
        put(place, "ct", f"s{number}", number)
    table = Table(join(ensure_collection(place, "ct"), OBS), get_tiledb_ctx())
    assert len(table.state.segments) == 4
    reader = RadiObject(place)
    assert len(reader.ct) == 4
    before = now_ms()
    time.sleep(0.01)
    put(place, "ct", "s0", 50)
    consolidate(place)
    table.close()
    assert len(table.state.segments) == 1
    assert vacuum(place).segments == 0  # somebody may be reading what was there today
    assert len(reader.ct.to_obs()) == 4
    assert len(RadiObject(place, timestamp=before).ct) == 4
    removed = vacuum(place, grace_s=0)
    assert removed.arrays == 1
    assert removed.segments >= 5
    with pytest.raises(StorageError, match="vacuumed"):  # told, and no other rows
        RadiObject(place, timestamp=before).ct.to_obs()
    fresh = RadiObject(place)
    assert np.array_equal(fresh.ct["s0_ct"].to_numpy(stored=True), voxels(50))
    assert np.array_equal(fresh.ct["s3_ct"].to_numpy(stored=True), voxels(3))
