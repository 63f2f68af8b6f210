"""`radiobject-assets up`: one command from a dataset.yaml to a UI and a daemon that stay."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from radiobject_assets.cli.demo import DATASET_YAML
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.store import RadiObject
from tests.platform.deployed import ROOT, free_port, wait_until
from tests.served import ENVIRONMENT, ask, command, up


def runs(port: int) -> list[str]:
    found = ask(port, "{runsOrError {... on Runs {results {status jobName}}}}")["runsOrError"]["results"]
    return [run["status"] for run in found if run["jobName"] == "process_arrival"]


def ended(port: int) -> bool:
    return bool(set(runs(port)) & {"SUCCESS", "FAILURE", "CANCELED"})


@pytest.mark.timeout(1800)
def test_one_command_takes_in_what_lies_there_and_remembers_it(tmp_path: Path) -> None:
    pytest.importorskip("dagster_webserver", reason="dagster-webserver is not installed (the extra `ui`)")
    (tmp_path / "dataset.yaml").write_text(DATASET_YAML, encoding="utf-8")
    make_subject(tmp_path / "landing", 1, shape=(48, 48, 24))
    port = free_port()
    with up(tmp_path, port) as process:
        wait_until("the arrival's run has ended", lambda: ended(port) or process.poll())
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert runs(port) == ["SUCCESS"], (tmp_path / "log").read_text()
        assert ask(port, "{shouldShowNux}") == {"shouldShowNux": False}
        concurrency = ask(port, "{instance {runQueueConfig {maxConcurrentRuns} concurrencyLimits {limit}}}")
        assert concurrency["instance"]["runQueueConfig"]["maxConcurrentRuns"] == 1
    assert len(RadiObject(str(tmp_path / "store"))) == 1
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        (run,) = instance.get_runs(filters=dg.RunsFilter(job_name="process_arrival"))
        said = [entry.user_message for entry in instance.all_logs(run.run_id) if not entry.is_dagster_event]
    assert any(re.match(r"\d+ files read: \d+ DICOM instances", line) for line in said)
    assert any(re.match(r"\d+ series in .* s: 2 written, 0 updated", line) for line in said)

    settings = (tmp_path / "dagster" / "dagster.yaml").read_text(encoding="utf-8")
    assert "telemetry:\n  enabled: false" in settings

    (tmp_path / "dagster" / "dagster.yaml").write_text(f"{settings}# my own\n", encoding="utf-8")
    with up(tmp_path, port) as process:
        wait_until("the history is shown again", lambda: runs(port) or process.poll())
        assert runs(port) == ["SUCCESS"]
    assert (tmp_path / "dagster" / "dagster.yaml").read_text(encoding="utf-8").endswith("# my own\n")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RADIOBJECT_MEMORY_MB": "2 GB"}, "RADIOBJECT_MEMORY_MB is '2 GB'"),
        ({"RADIOBJECT_DATASET": "absent.yaml"}, "absent.yaml: no such file"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_anything_starts(
    tmp_path: Path, environment: Mapping[str, str], said: str
) -> None:
    (tmp_path / "dataset.yaml").write_text(DATASET_YAML, encoding="utf-8")
    done = subprocess.run(
        command(),
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "dagster").exists()
