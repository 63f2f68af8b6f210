"""A patch cache that can't be made starts a probe, which says why, beside the run that failed."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.headless import open_instance
from tests.platform.small_home import DATASET, QUIET, Home

pytest.importorskip("torch", reason="a probe needs PyTorch")


def evaluated(home: Home, instance: dg.DagsterInstance, run: dg.DagsterRun) -> object:
    """What the sensor says of a failed run, as the daemon asks it."""
    (failure,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert failure.dagster_event is not None
    context = dg.build_run_status_sensor_context(
        "failed_cache_sensor", failure.dagster_event, instance, run
    ).for_run_failure()
    return home.definitions().resolve_sensor_def("failed_cache_sensor")(context)


@pytest.mark.parametrize(("step", "is_asked"), [("patch_cache", True), ("splits", False)])
def test_a_run_whose_process_was_killed_in_the_patch_cache_is_looked_into(
    tmp_path: Path, step: str, is_asked: bool
) -> None:
    """It leaves the start of a step and, from whoever misses its heartbeat, the run's failure."""
    home = Home(tmp_path / "home")
    (home.folder / "landing").mkdir(parents=True)
    (home.folder / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    with open_instance(home.folder / "dagster") as instance:
        job = home.definitions().resolve_implicit_global_asset_job_def()
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        started = dg.DagsterEvent(dg.DagsterEventType.STEP_START.value, job.name, step_key=step)
        instance.report_dagster_event(started, run.run_id)
        instance.report_run_failed(run, "its process is gone")
        run = instance.get_run_by_id(run.run_id)
        assert run is not None
        assert isinstance(evaluated(home, instance, run), dg.RunRequest if is_asked else dg.SkipReason)


@pytest.mark.slow
def test_a_volume_that_is_gone_is_named_at_the_patch_cache_beside_the_failed_run(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "home")
    (home.folder / "landing").mkdir(parents=True)
    (home.folder / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    for arrival, number in (("one", 4), ("two", 5)):
        make_subject(home.folder / "landing", number, arrival=arrival, shape=(48, 48, 24))
    assert home.run_pass().failed == ()
    arrays = [home.array("ct", number) for number in range(2)]
    for array in arrays:
        shutil.rmtree(array)
    shutil.rmtree(home.folder / "work" / "patches")
    assert not home.materialize("patch_cache", partition="train")
    with open_instance(home.folder / "dagster") as instance:
        failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))[0]
        request = evaluated(home, instance, failed)
        assert isinstance(request, dg.RunRequest)
        assert request.run_key == failed.run_id
        job = home.definitions().resolve_job_def("probe_after_failure")
        assert job.execute_in_process(
            instance=instance, run_config={**request.run_config, **QUIET}, tags=request.tags
        ).success
        (seen,) = instance.fetch_observations(dg.AssetKey("patch_cache"), limit=5).records
    metadata = seen.asset_observation.metadata
    assert "an array that is not there" in str(metadata["summary"].value)
    assert "materialize ct" in str(metadata["what_to_do"].value)
    assert metadata["failed_run"].value == failed.run_id
    assert Path(str(metadata["report"].value)).is_file()
    for subject in home.obs("ct"):
        assert str(subject["obs_subject_id"]) not in str(metadata)
