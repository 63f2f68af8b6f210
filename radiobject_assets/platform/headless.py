"""The platform without a daemon: a pass of the real sensors and the real runs, in this process.

1. `arrivals_sensor` is evaluated, as the daemon does it, and what it asks for is executed, until it asks for
   nothing more. What failed or was given up before is tried again, since a person asks for the pass.
2. `follow_up_sensor` likewise.

All that is known between two passes stands in the table of arrivals and in the Dagster instance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from radiobject_assets.errors import ConfigurationError, LockedError
from radiobject_assets.platform.arrivals.runs import why_it_ended
from radiobject_assets.platform.automation.conditions import AT_ONCE
from radiobject_assets.platform.automation.schedules import STANDING_JOB
from radiobject_assets.platform.automation.sensors import ARRIVALS_SENSOR, FOLLOW_UP_SENSOR, TRY_NOW
from radiobject_assets.platform.instance_settings import prepare_instance
from radiobject_assets.platform.own_names import is_called
from radiobject_assets.resources import HEART_TAG, Heartbeat
from radiobject_assets.system.locks import file_lock

SENSOR_TAG = "dagster/sensor_name"
_INTERRUPTED = "DagsterExecutionInterruptedError"
_LOCK_FILE = "headless.lock"
# Silent console: the event log has everything, and a summary follows.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class RunOutcome:
    """One run of a pass."""

    what: str
    """The arrival's key, or the asset and its partition."""
    run_id: str
    succeeded: bool
    problem: str = ""
    """First error, as the event log has it: without identifiers."""


@dataclass(frozen=True)
class Pass:
    """What one pass did."""

    sensor_says: str
    arrivals: tuple[RunOutcome, ...]
    follow_ups: tuple[RunOutcome, ...]
    standing_due: tuple[str, ...] = ()
    """Names of the jobs of standing checks that nobody ran for an hour: a pass takes arrivals in, and leaves
    these to the schedules of a daemon, or to whoever runs them."""

    @property
    def runs(self) -> tuple[RunOutcome, ...]:
        """All runs, in order."""
        return (*self.arrivals, *self.follow_ups)

    @property
    def failed(self) -> tuple[RunOutcome, ...]:
        """Runs that did not succeed."""
        return tuple(run for run in self.runs if not run.succeeded)


OnRun = Callable[[str, int, int], None]
"""Called before each run with what it is about, its number and how many are known of."""


@contextmanager
def open_instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    """The persistent Dagster instance in a folder, made if needed; one process may use it headless.

    Raises
    ------
    ConfigurationError
        Another process is at work on it.
    """
    prepare_instance(folder)
    with ExitStack() as held:
        try:
            held.enter_context(file_lock(folder / _LOCK_FILE, wait_s=0))
        except LockedError:
            raise ConfigurationError(
                f"{folder}: another process is running this data set; wait for it"
            ) from None
        from radiobject_assets.platform.dagster_internals.sqlite_storage import instance_of

        yield held.enter_context(instance_of(folder))


def run_pass(definitions: dg.Definitions, instance: dg.DagsterInstance, on_run: OnRun | None = None) -> Pass:
    """Evaluate the sensors and execute what they request, until that is nothing.

    Parameters
    ----------
    definitions
        From `build_definitions`.
    instance
        Where runs and materializations are recorded.
    on_run
        Progress.
    """
    tell = on_run or (lambda what, number, total: None)
    says: list[str] = []
    arrivals: list[RunOutcome] = []
    follow_ups: list[RunOutcome] = []
    for sensor in _sensors(definitions, ARRIVALS_SENSOR):  # one of each data set
        said, runs = _settle(definitions, instance, tell, sensor, TRY_NOW)
        says.append(said)
        arrivals += runs
    token = AT_ONCE.set(True)
    try:
        for sensor in _sensors(definitions, FOLLOW_UP_SENSOR):
            follow_ups += _settle(definitions, instance, tell, sensor, None)[1]
    finally:
        AT_ONCE.reset(token)
    due = tuple(name for name in _standing_jobs(definitions) if _is_due(instance, name))
    return Pass("; ".join(filter(None, says)), tuple(arrivals), tuple(follow_ups), due)


def _standing_jobs(definitions: dg.Definitions) -> list[str]:
    names = definitions.get_repository_def().job_names
    return sorted(name for name in names if is_called(name, STANDING_JOB))


def _is_due(instance: dg.DagsterInstance, job: str) -> bool:
    since = datetime.now(UTC) - timedelta(hours=1)
    chosen = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS], created_after=since)
    return not instance.get_run_records(chosen, limit=1)


def _sensors(definitions: dg.Definitions, plain: str) -> list[str]:
    repository = definitions.get_repository_def()
    return sorted(one.name for one in repository.sensor_defs if is_called(one.name, plain))


def _settle(
    definitions: dg.Definitions, instance: dg.DagsterInstance, tell: OnRun, sensor: str, cursor: str | None
) -> tuple[str, list[RunOutcome]]:
    outcomes: list[RunOutcome] = []
    while True:
        found = evaluate_sensor(definitions, instance, sensor, cursor)
        for event in found.asset_events or []:
            instance.report_runless_asset_event(event)
        for change in found.dynamic_partitions_requests or []:
            instance.add_dynamic_partitions(change.partitions_def_name, list(change.partition_keys))
        cursor = found.cursor
        requests = found.run_requests or []
        for number, request in enumerate(requests, start=1):
            tell(_named(request), len(outcomes) + 1, len(outcomes) + len(requests) - number + 1)
            outcomes.append(execute_request(definitions, instance, sensor, request))
        if not requests:
            return found.skip_message or "", outcomes


def evaluate_sensor(
    definitions: dg.Definitions, instance: dg.DagsterInstance, name: str, cursor: str | None = None
) -> Any:
    """What one tick of a sensor returns."""
    sensor = definitions.resolve_sensor_def(name)
    repository = definitions.get_repository_def()
    resources = repository.get_top_level_resources()
    with dg.build_sensor_context(
        instance=instance,
        instance_ref=instance.get_ref(),
        cursor=cursor,
        repository_def=repository,
        sensor_name=name,
        resources={key: resources[key] for key in sensor.required_resource_keys},
    ) as context:
        context.log.setLevel(logging.WARNING)
        with dg.partition_loading_context(dynamic_partitions_store=instance):
            return sensor.evaluate_tick(context)


def execute_request(
    definitions: dg.Definitions, instance: dg.DagsterInstance, sensor: str, request: dg.RunRequest
) -> RunOutcome:
    """Execute what a sensor asked for, in this process."""
    selection = list(request.asset_selection) if request.asset_selection else None
    job = (
        definitions.resolve_implicit_global_asset_job_def()
        if selection is not None
        else definitions.resolve_job_def(request.job_name or _only_job(definitions, sensor))
    )
    result = job.execute_in_process(
        instance=instance,
        partition_key=request.partition_key,
        asset_selection=selection,
        tags={
            **request.tags,
            SENSOR_TAG: sensor,
            # given before the run begins to give signs itself: a pass may be killed at any moment
            HEART_TAG: str(Heartbeat.of_this_process()),
        },
        run_config=_QUIET,
        raise_on_error=False,
    )
    if _was_interrupted(result):
        raise KeyboardInterrupt  # Dagster ends the run and swallows it; the person meant the whole pass
    problem = "" if result.success else why_it_ended(instance, result.dagster_run)[0]
    return RunOutcome(_named(request), result.run_id, result.success, problem)


def _only_job(definitions: dg.Definitions, sensor: str) -> str:
    return str(definitions.resolve_sensor_def(sensor).job_name)


def _named(request: dg.RunRequest) -> str:
    if not request.asset_selection:
        return str(request.partition_key)
    names = ", ".join(key.to_user_string() for key in request.asset_selection)
    return f"{names}[{request.partition_key}]" if request.partition_key else names


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return any(error is not None and error.cls_name == _INTERRUPTED for error in errors)
