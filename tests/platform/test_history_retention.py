"""Dagster's history after a while: what runs made stays, each of their steps does not."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from radiobject_assets.cli.demo import run_demo
from radiobject_assets.dataset import load_dataset
from radiobject_assets.definitions import build_definitions
from radiobject_assets.platform import history_retention
from radiobject_assets.platform.headless import open_instance
from radiobject_assets.platform.history_retention import HISTORY_JOB, forget_steps
from radiobject_assets.platform.overview import read_overview
from tests.platform.conftest import Line


def events(instance: dg.DagsterInstance) -> int:
    return sum(len(instance.all_logs(run.run_id)) for run in instance.get_runs())


def test_old_steps_are_forgotten_and_nothing_else(line: Line, tmp_path: Path) -> None:
    home = shutil.copytree(line.home, tmp_path / "home")
    dataset = load_dataset(home / "dataset.yaml")
    definitions = build_definitions(dataset)
    with open_instance(home / "dagster") as instance:
        before, all_events = read_overview(dataset, definitions, instance), events(instance)
        runs = len(instance.get_runs())
        assert forget_steps(instance, datetime.now(UTC) - timedelta(days=30)) == 0

        removed = forget_steps(instance, datetime.now(UTC))
        assert removed > all_events / 2
        assert events(instance) == all_events - removed
        assert len(instance.get_runs()) == runs
        assert read_overview(dataset, definitions, instance) == before
        assert forget_steps(instance, datetime.now(UTC)) == 0
    # nothing is made again for want of what was forgotten
    assert run_demo(home, shape=line.shape).was_needless


def pictures(instance: dg.DagsterInstance, name: str) -> list[bool]:
    """Of the materializations of a collection, the newest first: whether Dagster has its picture."""
    found = instance.fetch_materializations(dg.AssetKey(["demo", name]), limit=100).records
    made = [record.asset_materialization for record in found if record.asset_materialization is not None]
    assert all("preview_file" in one.metadata for one in made)
    return ["base64" in str(one.metadata["preview"].value) for one in made]


def test_old_pictures_are_in_the_work_folder_alone_but_the_latest(line: Line, tmp_path: Path) -> None:
    home = shutil.copytree(line.home, tmp_path / "home")
    files = home / "dagster" / "history" / "runs"
    with open_instance(home / "dagster") as instance:
        before = pictures(instance, "ct")
        assert sum(before) > 1
        size = sum(path.stat().st_size for path in files.glob("*-*.db"))
        forget_steps(instance, datetime.now(UTC))
        after = pictures(instance, "ct")
        assert after[0] == before[0]
        assert not any(after[1:])
        # each run's file gives its room back: little more than empty tables is left
        assert sum(path.stat().st_size for path in files.glob("*-*.db")) < 0.75 * size
        # the pages of runs tell the same as those of assets
        (run,) = instance.get_runs(limit=1, filters=dg.RunsFilter(job_name="process_arrival"))
        told = [entry.asset_materialization for entry in instance.all_logs(run.run_id)]
        assert any(one is not None for one in told)


def test_the_job_runs_by_itself_and_keeps_what_is_young(line: Line, tmp_path: Path) -> None:
    home = shutil.copytree(line.home, tmp_path / "home")
    job = build_definitions(home / "dataset.yaml").resolve_job_def(HISTORY_JOB)
    with open_instance(home / "dagster") as instance:
        all_events = events(instance)
        assert job.execute_in_process(instance=instance).success
        assert events(instance) > all_events


def test_a_night_looks_at_what_grew_old_since_the_last_one_and_at_nothing_else(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = shutil.copytree(line.home, tmp_path / "home")
    job = build_definitions(home / "dataset.yaml").resolve_job_def(HISTORY_JOB)
    looked_at: list[int] = []
    ask = dg.DagsterInstance.get_run_records

    def counted(instance: dg.DagsterInstance, *args: Any, **options: Any) -> Any:
        found = ask(instance, *args, **options)
        looked_at[-1] += len(found)
        return found

    monkeypatch.setattr(dg.DagsterInstance, "get_run_records", counted)
    monkeypatch.setattr(history_retention, "_CLOCKS_DIFFER", timedelta(0))
    of_now = {"ops": {"forget_steps": {"config": {"keep_days": 0}}}}
    with open_instance(home / "dagster") as instance:
        all_events, runs = events(instance), len(instance.get_runs())
        for _ in range(3):
            looked_at.append(0)
            assert job.execute_in_process(instance=instance, run_config=of_now).success
        assert events(instance) < all_events
    assert looked_at[0] >= runs - 1
    assert looked_at[1] <= 1  # the night before
    assert looked_at[2] <= 1


def test_a_night_without_time_does_one_portion_and_the_next_one_goes_on(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = shutil.copytree(line.home, tmp_path / "home")
    job = build_definitions(home / "dataset.yaml").resolve_job_def(HISTORY_JOB)
    of_now = {"ops": {"forget_steps": {"config": {"keep_days": 0}}}}
    with open_instance(home / "dagster") as instance:
        first, *_, last = sorted(record.update_timestamp for record in instance.get_run_records())
        monkeypatch.setattr(history_retention, "_NIGHT_S", 0.0)
        monkeypatch.setattr(history_retention, "_PORTION", (last - first) / 2)
        monkeypatch.setattr(history_retention, "_CLOCKS_DIFFER", timedelta(0))
        for _ in range(4):
            assert job.execute_in_process(instance=instance, run_config=of_now).success
        assert forget_steps(instance, last) == 0
