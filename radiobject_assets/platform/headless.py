"""The platform without a daemon: one pass of the real sensors and the real runs, in this process.

1. `arrivals_sensor` is evaluated against a persistent Dagster instance; its runs are executed.
2. `waiting_labels_sensor` likewise: labels whose image has come by now.
3. `follow_up_sensor` is evaluated until it requests nothing more; each of its runs is executed.

Runs carry the same tags as the daemon's, so a daemon on the same instance knows what is done, and the other
way round. What failed or was interrupted is tried again by the next pass.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from radiobject_assets.errors import ConfigurationError, LockedError
from radiobject_assets.platform.automation.sensors import ARRIVALS_SENSOR, FOLLOW_UP_SENSOR, WAITING_SENSOR
from radiobject_assets.platform.automation.sweep import forget
from radiobject_assets.platform.instance_settings import prepare_instance
from radiobject_assets.system.durable_files import write_whole
from radiobject_assets.system.locks import file_lock

RUN_KEY_TAG = "dagster/run_key"
SENSOR_TAG = "dagster/sensor_name"
HEADLESS_TAG = "radiobject/headless"
_MAX_ROUNDS = 20
_INTERRUPTED = "DagsterExecutionInterruptedError"
_STATE_FILE = "headless.json"
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

    @property
    def runs(self) -> tuple[RunOutcome, ...]:
        """All runs, in order."""
        return (*self.arrivals, *self.follow_ups)

    @property
    def failed(self) -> tuple[RunOutcome, ...]:
        """Runs that did not succeed."""
        return tuple(run for run in self.runs if not run.succeeded)


@dataclass
class _State:
    """Cursors of the sensors, kept beside the instance."""

    path: Path
    cursors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> _State:
        path = folder / _STATE_FILE
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            return cls(path, {str(name): str(cursor) for name, cursor in content.items()})
        except (OSError, ValueError, AttributeError):
            return cls(path)  # damaged or not there: sweep from the start, runs are known by their keys

    def save(self) -> None:
        write_whole(self.path, json.dumps(self.cursors))


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
        yield held.enter_context(dg.DagsterInstance.from_config(str(folder)))


def run_pass(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    state_folder: Path,
    on_run: OnRun | None = None,
) -> Pass:
    """Evaluate the sensors once over and execute what they request.

    Parameters
    ----------
    definitions
        From `build_definitions`.
    instance
        Where runs and materializations are recorded.
    state_folder
        Where the sensors' cursors are kept.
    on_run
        Progress.
    """
    _end_interrupted_runs(instance)
    tell = on_run or (lambda what, number, total: None)
    state = _State.load(state_folder)
    says, arrivals = _run_arrivals(definitions, instance, state, tell, ARRIVALS_SENSOR)
    _, again = _run_arrivals(definitions, instance, state, tell, WAITING_SENSOR)
    follow_ups: list[RunOutcome] = []
    for _ in range(_MAX_ROUNDS):
        found = _evaluate(definitions, instance, FOLLOW_UP_SENSOR, state.cursors.get(FOLLOW_UP_SENSOR))
        requests = found.run_requests or []
        for request in requests:
            tell(_named(request), len(follow_ups) + 1, len(follow_ups) + len(requests))
            follow_ups.append(_execute(definitions, instance, FOLLOW_UP_SENSOR, request))
        if found.cursor is not None:
            state.cursors[FOLLOW_UP_SENSOR] = found.cursor
            state.save()
        if not requests:
            break
    return Pass(says, (*arrivals, *again), tuple(follow_ups))


def _run_arrivals(
    definitions: dg.Definitions, instance: dg.DagsterInstance, state: _State, tell: OnRun, sensor: str
) -> tuple[str, list[RunOutcome]]:
    outcomes: list[RunOutcome] = []
    says: list[str] = []
    for _ in range(_MAX_ROUNDS):  # a sweep that ran out of time goes on from its cursor
        before = state.cursors.get(sensor)
        found = _evaluate(definitions, instance, sensor, before)
        if found.skip_message:
            says.append(found.skip_message)
        for event in found.asset_events or []:
            instance.report_runless_asset_event(event)
        for change in found.dynamic_partitions_requests or []:
            instance.add_dynamic_partitions(change.partitions_def_name, list(change.partition_keys))
        requests = [r for r in found.run_requests or [] if not _is_taken(instance, r.run_key)]
        cursor = found.cursor
        unfinished = {str(request.partition_key) for request in requests}
        for number, request in enumerate(requests, start=1):
            tell(str(request.partition_key), number, len(requests))
            try:
                outcome = _execute(definitions, instance, sensor, request)
            finally:
                # saved as if the unfinished ones had not been seen: an interrupted pass takes them up again
                state.cursors[sensor] = forget(cursor, unfinished)
                state.save()
            outcomes.append(outcome)
            if outcome.succeeded:
                unfinished.discard(str(request.partition_key))
        if cursor is not None:
            state.cursors[sensor] = forget(cursor, unfinished)
            state.save()
        if not requests:
            break
        if unfinished:
            break  # what fails now fails again: that is for the next pass, after somebody has looked
    return "; ".join(dict.fromkeys(says)), outcomes


def _evaluate(
    definitions: dg.Definitions, instance: dg.DagsterInstance, name: str, cursor: str | None
) -> Any:
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


def _execute(
    definitions: dg.Definitions, instance: dg.DagsterInstance, sensor: str, request: dg.RunRequest
) -> RunOutcome:
    selection = list(request.asset_selection) if request.asset_selection else None
    job = (
        definitions.resolve_implicit_global_asset_job_def()
        if selection is not None
        else definitions.resolve_job_def(request.job_name or _only_job(definitions, sensor))
    )
    tags: dict[str, str] = {**request.tags, SENSOR_TAG: sensor, HEADLESS_TAG: "true"}
    if request.run_key:
        tags[RUN_KEY_TAG] = request.run_key
    result = job.execute_in_process(
        instance=instance,
        partition_key=request.partition_key,
        asset_selection=selection,
        tags=tags,
        run_config=_QUIET,
        raise_on_error=False,
    )
    if _was_interrupted(result):
        raise KeyboardInterrupt  # Dagster ends the run and swallows it; the person meant the whole pass
    return RunOutcome(
        _named(request), result.run_id, result.success, "" if result.success else _first_problem(result)
    )


def _only_job(definitions: dg.Definitions, sensor: str) -> str:
    return str(definitions.resolve_sensor_def(sensor).job_name)


def _named(request: dg.RunRequest) -> str:
    if not request.asset_selection:
        return str(request.partition_key)
    names = ", ".join(key.to_user_string() for key in request.asset_selection)
    return f"{names}[{request.partition_key}]" if request.partition_key else names


def _first_problem(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            if event.step_failure_data.user_failure_data is not None:
                return f"{event.step_key}: {event.step_failure_data.user_failure_data.description}"
            return f"{event.step_key}: {error.cls_name if error else 'failed'}"
    return "failed"


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return any(error is not None and error.cls_name == _INTERRUPTED for error in errors)


def _is_taken(instance: dg.DagsterInstance, run_key: str | None) -> bool:
    """Whether a run of that key succeeded, or a daemon on the same instance has one under way."""
    if run_key is None:
        return False
    statuses = [
        dg.DagsterRunStatus.SUCCESS,
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
    ]
    taken = dg.RunsFilter(tags={RUN_KEY_TAG: run_key}, statuses=statuses)
    return bool(instance.get_runs(filters=taken, limit=1))


def _end_interrupted_runs(instance: dg.DagsterInstance) -> None:
    # the lock says that no other pass is alive: what still counts as running was killed
    alive = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED]
    for run in instance.get_runs(filters=dg.RunsFilter(tags={HEADLESS_TAG: "true"}, statuses=alive)):
        instance.report_run_canceled(run, message="the process of this run was ended before it finished")
