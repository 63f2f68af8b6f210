"""What Dagster remembers of runs that ended well long ago: what they made, what was checked, not each step.

A run of an arrival leaves a hundred events, of which a dozen say what was made. The others tell how the run
went on, which is of interest while it runs and soon after, and are most of the database in the end. Runs that
failed keep everything.
"""

# No postponed annotations: Dagster reads the types of `context` and of the configuration when it decorates.
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.arrivals.runs import DATA_SET_TAG
from radiobject_assets.platform.automation.archive_sensor import FETCH_JOB
from radiobject_assets.platform.automation.schedules import STANDING_JOB, UPKEEP_JOB
from radiobject_assets.platform.automation.sensors import ARRIVAL_JOB, FOLLOW_UP_SENSOR, data_set_of
from radiobject_assets.platform.dagster_internals import DagsterEventType, event_tables, shrink
from radiobject_assets.platform.own_names import own_name, with_own_resources
from radiobject_assets.resources import DatasetResource

KEEP_DAYS = 30
HISTORY_JOB = "forget_old_steps"
_AT_ONCE = 500
_JOBS = (ARRIVAL_JOB, STANDING_JOB, UPKEEP_JOB, HISTORY_JOB, FETCH_JOB)
_PICTURE = "data:image/"
_WHOLE_PICTURE = re.compile(r"!\[[^\]]*\]\(" + re.escape(_PICTURE) + r"[a-z]+;base64,[A-Za-z0-9+/=]*\)")
_INSTEAD = "The picture is in the work folder."
_TOLD_OF_STEPS = [
    kind.value
    for kind in (
        *(DagsterEventType.STEP_START, DagsterEventType.STEP_INPUT, DagsterEventType.STEP_OUTPUT),
        *(DagsterEventType.STEP_SUCCESS, DagsterEventType.LOADED_INPUT, DagsterEventType.HANDLED_OUTPUT),
        *(DagsterEventType.STEP_WORKER_STARTING, DagsterEventType.STEP_WORKER_STARTED),
        *(DagsterEventType.RESOURCE_INIT_STARTED, DagsterEventType.RESOURCE_INIT_SUCCESS),
        DagsterEventType.ENGINE_EVENT,
    )
]


def forget_steps(instance: dg.DagsterInstance, before: datetime, named: Callable[[str], str] = str) -> int:
    """Remove events of steps, messages, and pictures, of this platform's runs that ended well before a time.

    Materializations, checks, observations and the runs themselves stay, and everything of other runs. The
    pictures (four fifths of what an arrival leaves) lie in the work folder too; those of the latest
    materialization of each asset stay in its page.

    Parameters
    ----------
    named
        What jobs and sensors are called (`own_names.own_name`).

    Returns
    -------
    The number of events that were removed; 0 where Dagster's storage is not in a database.
    """
    found = event_tables(instance)
    if found is None:
        return 0
    storage, table = found
    told = table.c.dagster_event_type.in_(_TOLD_OF_STEPS) | table.c.dagster_event_type.is_(None)
    latest = _latest_runs(instance)
    removed = 0
    for run_id in _old_runs(instance, before, named):
        with storage.run_connection(run_id) as connection:
            done = connection.execute(table.delete().where((table.c.run_id == run_id) & told))
            pictures = 0 if run_id in latest else _without_pictures(connection, table, run_id)
        removed += done.rowcount
        if pictures:
            with storage.index_connection() as connection:  # of SQLite, each run has a file of its own beside
                _without_pictures(connection, table, run_id)
        if done.rowcount or pictures:
            shrink(storage, run_id)
    return removed


def _old_runs(instance: dg.DagsterInstance, before: datetime, named: Callable[[str], str]) -> Iterator[str]:
    ended_well = [dg.DagsterRunStatus.SUCCESS]
    ours = (
        *(dg.RunsFilter(job_name=named(name), statuses=ended_well) for name in _JOBS),
        dg.RunsFilter(tags={"dagster/sensor_name": named(FOLLOW_UP_SENSOR)}, statuses=ended_well),
    )
    for chosen in ours:
        cursor: str | None = None
        while runs := instance.get_run_records(filters=chosen, limit=_AT_ONCE, cursor=cursor):
            cursor = runs[-1].dagster_run.run_id
            for record in runs:
                if record.end_time is not None and record.end_time < before.timestamp():
                    yield record.dagster_run.run_id


def _latest_runs(instance: dg.DagsterInstance) -> set[str]:
    made = [record.asset_entry.last_materialization_record for record in instance.get_asset_records()]
    return {record.run_id for record in made if record is not None}


def _without_pictures(connection: Any, table: Any, run_id: str) -> int:
    events = table.c
    made = events.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value
    chosen = table.select().where((events.run_id == run_id) & made & events.event.contains(_PICTURE))
    rows = [(row["id"], str(row["event"])) for row in connection.execute(chosen).mappings()]
    for number, text in rows:
        kept = _WHOLE_PICTURE.sub(_INSTEAD, text)
        connection.execute(table.update().where(events.id == number).values(event=kept))
    return len(rows)


class HowLong(dg.Config):
    """How long the steps of a run are remembered."""

    keep_days: int = KEEP_DAYS


def build_history_schedule(settings: DatasetSettings) -> dg.ScheduleDefinition:
    """The job that forgets old steps, every night."""

    @dg.op(
        name=own_name(settings, "forget_steps"),
        description="Removes events of steps of runs that ended well long ago.",
    )
    @with_own_resources(settings)
    def forget(context: dg.OpExecutionContext, config: HowLong, dataset: DatasetResource) -> None:
        # `dataset` is what gives a run its heartbeat
        before = datetime.now(UTC) - timedelta(days=config.keep_days)
        removed = forget_steps(context.instance, before, partial(own_name, settings))
        context.log.info(f"{removed} events of steps older than {config.keep_days} days were removed")

    @dg.job(
        name=own_name(settings, HISTORY_JOB),
        tags={DATA_SET_TAG: data_set_of(settings)},
        executor_def=dg.in_process_executor,
        description=f"Forgets how runs went that ended well more than {KEEP_DAYS} days ago. What they made, "
        "what was checked, and runs that failed are kept.",
    )
    def job() -> None:
        forget()

    return dg.ScheduleDefinition(
        job=job,
        cron_schedule="17 3 * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every night: keeps Dagster's database small.",
    )
