"""The pool of the memory budget: its limit follows budget and machine, and the dead hold no place in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from radiobject_assets.definitions import build_definitions
from radiobject_assets.platform.headless import evaluate_sensor, open_instance
from radiobject_assets.platform.memory_pool import (
    MEMORY_POOL,
    budgets_that_fit,
    free_places_of_ended_runs,
    limit_pool,
)
from radiobject_assets.resources import MemoryBudgetResource
from radiobject_assets.system.memory import memory_limit, usable_memory_mb

ROOT = Path(__file__).resolve().parents[2]
DATASET = """\
collections:
  ct: {match: {modality: CT}}
  seg: {match: {modality: SEG}, kind: labels, labels_of: ct}
arrivals: {quiet_period_s: 0}
patches: {image: ct, size_voxels: [16, 16, 8], per_volume: 4}
"""
SLEEPERS = """
import time
import dagster as dg
from radiobject_assets.platform.memory_pool import MEMORY_POOL

@dg.op(pool=MEMORY_POOL)
def first(): time.sleep(1)

@dg.op(pool=MEMORY_POOL)
def second(): time.sleep(1)

@dg.job(executor_def=dg.multiprocess_executor)
def both():
    first()
    second()

if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        assert dg.execute_job(dg.reconstructable(both), instance=instance).success
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "landing").mkdir()
    (tmp_path / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    return tmp_path


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(home / "dagster") as made:
        yield made


def limit(instance: dg.DagsterInstance) -> int | None:
    return {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}.get(MEMORY_POOL)


def look(home: Path, instance: dg.DagsterInstance, budget_mb: int) -> None:
    made = build_definitions(home / "dataset.yaml", {"memory": MemoryBudgetResource(total_mb=budget_mb)})
    evaluate_sensor(made, instance, "arrivals_sensor")


def test_what_fills_the_budget_is_in_the_pool(home: Path) -> None:
    graph = build_definitions(home / "dataset.yaml").resolve_asset_graph()
    pools = {key.path[-1]: graph.get(key).pools for key in graph.get_all_asset_keys()}
    held = {name for name, names in pools.items() if MEMORY_POOL in names}
    assert held == {"ct", "seg", "profile", "patch_cache", "upkeep"}


def test_the_limit_follows_the_budget_until_a_person_sets_it(
    home: Path, instance: dg.DagsterInstance
) -> None:
    limit_pool(instance, 5)
    limit_pool(instance, 2)
    assert limit(instance) == 2
    instance.event_log_storage.set_concurrency_slots(MEMORY_POOL, 7)  # as the UI does
    limit_pool(instance, 3)
    assert limit(instance) == 7


def test_the_arrivals_sensor_sets_the_limit(home: Path, instance: dg.DagsterInstance) -> None:
    look(home, instance, budget_mb=64)
    assert limit(instance) == budgets_that_fit(usable_memory_mb(), 64)


def test_as_many_budgets_as_fit_and_at_least_one() -> None:
    assert budgets_that_fit(8192, 2048) == 2
    assert budgets_that_fit(1024, 2048) == 1


def test_a_run_that_was_killed_in_a_step_holds_no_place(home: Path, instance: dg.DagsterInstance) -> None:
    limit_pool(instance, 1)
    storage = instance.event_log_storage
    job = build_definitions(home / "dataset.yaml").resolve_job_def("nightly_upkeep")
    dead = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    alive = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert storage.claim_concurrency_slot(MEMORY_POOL, dead.run_id, "upkeep").is_claimed
    assert free_places_of_ended_runs(instance) == 0
    instance.report_run_failed(dead)
    assert not storage.claim_concurrency_slot(MEMORY_POOL, alive.run_id, "upkeep").is_claimed
    assert free_places_of_ended_runs(instance) == 1
    assert storage.claim_concurrency_slot(MEMORY_POOL, alive.run_id, "upkeep").is_claimed


@pytest.mark.slow
def test_the_limit_holds_inside_a_run_with_several_processes(
    home: Path, instance: dg.DagsterInstance
) -> None:
    limit_pool(instance, 1)
    (home / "sleepers.py").write_text(SLEEPERS, encoding="utf-8")
    environment = {**os.environ, "DAGSTER_HOME": str(home / "dagster"), "PYTHONPATH": f"{ROOT}:{home}"}
    subprocess.run([sys.executable, "-m", "sleepers"], cwd=home, env=environment, check=True)
    (run,) = instance.get_runs()
    spans = sorted((step.start_time, step.end_time) for step in instance.get_run_step_stats(run.run_id))
    assert len(spans) == 2
    assert spans[0][1] <= spans[1][0]


@pytest.mark.parametrize(
    ("groups", "file"),
    [("0::/a/b\n", "a/memory.max"), ("5:cpu,memory:/a/b\n", "memory/a/b/memory.limit_in_bytes")],
)
def test_a_containers_limit_counts(tmp_path: Path, groups: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("1073741824\n")
    assert memory_limit(groups, tmp_path) == 2**30
    assert memory_limit("0::/elsewhere\n", tmp_path) > 2**50
