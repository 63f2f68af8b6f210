"""Dagster's history after a while: what runs made stays, each of their steps does not."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from radiobject_assets.cli.demo import run_demo
from radiobject_assets.dataset import load_dataset
from radiobject_assets.definitions import build_definitions
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


def test_the_job_runs_by_itself_and_keeps_what_is_young(line: Line, tmp_path: Path) -> None:
    home = shutil.copytree(line.home, tmp_path / "home")
    job = build_definitions(home / "dataset.yaml").resolve_job_def(HISTORY_JOB)
    with open_instance(home / "dagster") as instance:
        all_events = events(instance)
        assert job.execute_in_process(instance=instance).success
        assert events(instance) > all_events
