"""Upkeep: every night the store is made small, older patch caches go, and what is in use stays."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_ct_series
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.store import RadiObject
from radiobject_assets.training.cache.eviction import evict_caches, superseded

DATASET = """\
collections:
  ct: {match: {modality: CT}}
arrivals: {quiet_period_s: 0, trusted_names: "[a-z]+"}
split: {fractions: {train: 1.0}}
patches: {image: ct, size_voxels: [8, 8, 4], per_volume: 2}
upkeep: {keep_caches_days: 0, keep_arrays_hours: 1}
"""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def cache(folder: Path, name: str, *, made_days_ago: float, content: bytes = b"patches") -> Path:
    made = folder / f"patches-{name}"
    made.mkdir(parents=True)
    (made / "shard-0.npy").write_bytes(content)
    (made / "meta.json").write_text("{}")
    then = time.time() - made_days_ago * 86_400
    os.utime(made / "meta.json", (then, then))
    return made


def test_a_cache_stays_for_some_days_after_a_newer_one_was_made(tmp_path: Path) -> None:
    first = cache(tmp_path, "first", made_days_ago=90)
    second = cache(tmp_path, "second", made_days_ago=60)
    latest = cache(tmp_path, "latest", made_days_ago=1)
    before_s = time.time() - 30 * 86_400
    # the second was the latest until yesterday: somebody may be training on it
    assert superseded(tmp_path, current=[latest], before_s=before_s) == [first]
    assert superseded(tmp_path, current=[latest], before_s=time.time()) == [first, second]
    # asked for once more, it is in use however old
    assert superseded(tmp_path, current=[first], before_s=time.time()) == [second]


def test_what_is_being_built_is_no_cache_yet(tmp_path: Path) -> None:
    unfinished = tmp_path / "patches-unfinished"
    unfinished.mkdir()
    cache(tmp_path, "latest", made_days_ago=1)
    assert superseded(tmp_path, current=[], before_s=time.time()) == []
    assert unfinished.is_dir()


def test_shared_shards_give_nothing_back(tmp_path: Path) -> None:
    old = cache(tmp_path, "old", made_days_ago=9)
    new = cache(tmp_path, "new", made_days_ago=8)
    (new / "taken-over.npy").hardlink_to(old / "shard-0.npy")
    assert evict_caches([old]) == len("{}")
    assert (new / "taken-over.npy").read_bytes() == b"patches"


@pytest.mark.slow
def test_upkeep_leaves_what_is_in_use_and_says_what_it_freed(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    definitions = build_definitions(tmp_path / "dataset.yaml")
    with open_instance(tmp_path / "dagster") as instance:
        job = definitions.resolve_job_def("nightly_upkeep")
        # before anything has come in there is nothing to do, and that is no error
        assert not (tmp_path / "store").exists()
        assert job.execute_in_process(instance=instance, run_config=QUIET).success
        for seed, name in enumerate(("a", "b"), start=1):
            make_ct_series(tmp_path / "landing" / name, shape=(16, 16, 8), seed=seed)
            assert run_pass(definitions, instance).failed == ()
        folder = tmp_path / "work" / "patches" / "train"
        assert len(list(folder.glob("patches-*"))) == 2
        done = job.execute_in_process(instance=instance, run_config=QUIET)
        assert done.success
        made_in = done.run_id
        made = instance.get_latest_materialization_event(dg.AssetKey("upkeep"))
        assert made is not None
        assert made.asset_materialization is not None
        told = {name: value.value for name, value in made.asset_materialization.metadata.items()}
        profiled = instance.fetch_materializations(dg.AssetKey("profile"), limit=1).records[0]
        assert profiled.run_id == made_in  # what was left of profiles is done in the night
        assert profiled.asset_materialization is not None
        assert profiled.asset_materialization.metadata["volumes"].value == 2
        current = instance.fetch_materializations(dg.AssetKey("patch_cache"), limit=1).records[0]
        assert current.asset_materialization is not None
        file = current.asset_materialization.metadata["file"].value
    assert [str(path) for path in folder.glob("patches-*")] == [file]
    assert "1 patch caches removed" in str(told["summary"])
    assert float(str(told["mb_freed"])) > 0
    assert RadiObject(str(tmp_path / "store")).collection("ct").verify() == []


def test_a_data_set_is_stale_when_upkeep_was_not_made_not_when_nothing_arrives(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    definitions = build_definitions(tmp_path / "dataset.yaml")
    policies = {
        spec.key.path[-1]: spec.freshness_policy
        for spec in definitions.resolve_all_asset_specs()
        if spec.freshness_policy is not None
    }
    assert list(policies) == ["upkeep"]
    schedule = definitions.resolve_schedule_def("upkeep_nightly")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    # a night that is late is no fault yet
    assert policies["upkeep"].fail_window.to_timedelta() > timedelta(days=2)  # type: ignore[union-attr]
