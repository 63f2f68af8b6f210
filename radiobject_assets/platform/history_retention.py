"""What Dagster remembers of runs that ended well long ago: what they made, what was checked, not each step.

A run of an arrival leaves a hundred events, of which a dozen say what was made. The others tell how the run
went on, which is of interest while it runs and soon after, and are most of the database in the end. Runs that
failed keep everything.
"""

# No postponed annotations: Dagster reads the types of `context` and of the configuration when it decorates.
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.arrivals.runs import DATA_SET_TAG
from radiobject_assets.platform.automation.archive_sensor import FETCH_JOB
from radiobject_assets.platform.automation.probe_after_failure import PROBE_JOB
from radiobject_assets.platform.automation.schedules import DOCTOR_JOB, STANDING_JOB, UPKEEP_JOB
from radiobject_assets.platform.automation.sensors import ARRIVAL_JOB, FOLLOW_UP_SENSOR, data_set_of
from radiobject_assets.platform.dagster_internals import DagsterEventType, event_tables, shrink
from radiobject_assets.platform.own_names import own_name, with_own_resources
from radiobject_assets.resources import DatasetResource

KEEP_DAYS = 30
UNTIL_TAG = "radiobject/forgotten_until"
"""Of a run of `HISTORY_JOB`: runs that ended, and did not change, before that time have had their turn."""
HISTORY_JOB = "forget_old_steps"
_AT_ONCE = 500
_NIGHTS = 10
_PORTION = timedelta(days=1)
_CLOCKS_DIFFER = timedelta(hours=1)
_NIGHT_S = 3600.0
"""A night goes no further than so long after its start: what is left comes with the next ones."""
_JOBS = (ARRIVAL_JOB, STANDING_JOB, UPKEEP_JOB, HISTORY_JOB, FETCH_JOB, DOCTOR_JOB, PROBE_JOB)
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


def forget_steps(
    instance: dg.DagsterInstance,
    before: datetime,
    named: Callable[[str], str] = str,
    *,
    since: datetime | None = None,
) -> int:
    """Remove events of steps, messages, and pictures, of this platform's runs that ended well before a time.

    Materializations, checks, observations and the runs themselves stay, and everything of other runs. The
    pictures (four fifths of what an arrival leaves) lie in the work folder too; those of the latest
    materialization of each asset stay in its page.

    Parameters
    ----------
    named
        What jobs and sensors are called (`own_names.own_name`).
    since
        Look at no run that has stayed as it is since before that time: they had their turn.

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
    for run_id in _old_runs(instance, since, before, named):
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


def _old_runs(
    instance: dg.DagsterInstance, since: datetime | None, before: datetime, named: Callable[[str], str]
) -> Iterator[str]:
    chosen_by: list[dict[str, Any]] = [{"job_name": named(name)} for name in _JOBS]
    chosen_by.append({"tags": {"dagster/sensor_name": named(FOLLOW_UP_SENSOR)}})
    ours = [
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.SUCCESS], updated_after=since, updated_before=before, **chosen
        )
        for chosen in chosen_by
    ]
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


def _days(begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    while begin < end:
        yield begin, min(begin + _PORTION, end)
        begin += _PORTION


def _begin(instance: dg.DagsterInstance, job_name: str) -> datetime | None:
    """Up to when the last night came; without one, when the first run was made."""
    told = dg.RunsFilter(job_name=job_name, statuses=[dg.DagsterRunStatus.SUCCESS])
    for run in instance.get_runs(told, limit=_NIGHTS):
        if until := run.tags.get(UNTIL_TAG):
            # a run's last change is noted by the clock of whoever made it
            return datetime.fromisoformat(until) - _CLOCKS_DIFFER
    first = instance.get_run_records(limit=1, ascending=True)
    return first[0].create_timestamp.astimezone(UTC) if first else None


def build_history_schedule(settings: DatasetSettings) -> dg.ScheduleDefinition:
    """The job that forgets old steps, every night."""

    @dg.op(
        name=own_name(settings, "forget_steps"),
        description="Removes events of steps of runs that ended well long ago.",
    )
    @with_own_resources(settings)
    def forget(context: dg.OpExecutionContext, config: HowLong, dataset: DatasetResource) -> None:
        # `dataset` is what gives a run its heartbeat
        instance, name = context.instance, partial(own_name, settings)
        before, started_s = datetime.now(UTC) - timedelta(days=config.keep_days), time.monotonic()
        removed, until = 0, _begin(instance, name(HISTORY_JOB)) or before
        for begin, end in _days(until, before):
            removed, until = removed + forget_steps(instance, end, name, since=begin), end
            if time.monotonic() - started_s > _NIGHT_S:
                break
        # of what it did not come to, the next night goes on from here; it goes with Dagster's database
        instance.add_run_tags(context.run_id, {UNTIL_TAG: until.isoformat()})
        context.log.info(
            f"{removed} events of steps older than {config.keep_days} days were removed"
            + ("" if until >= before else f"; the next night goes on with {until:%Y-%m-%d}")
        )

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
