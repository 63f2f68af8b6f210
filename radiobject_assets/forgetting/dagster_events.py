"""What Dagster remembers of the arrivals that a person came with: removed, and said anew without them.

Events of an arrival hold counts, digests, tables of series by token and a picture of voxels, of everybody in
it together. So all of them go, with the runs that made them, and what others depend on is reported once
more: that the arrival was made, with its data version, and what its checks said last. A run of something
else goes where one of its events names the person.

Dagster has no public way to remove the events of one partition (`wipe_asset_partitions` is not there for
databases of one's own), and leaves a deleted run's checks and the latest materialization's text behind. So
beside `DagsterInstance.delete_run` its tables are written here, by their names in Dagster 1.13.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa

from radiobject_assets.forgetting.journal import Restored
from radiobject_assets.forgetting.traces import Traces
from radiobject_assets.platform.dagster_internals import (
    DATA_VERSION_TAG,
    AssetCheckExecutionRecordStatus,
    PartitionKeyFilter,
)

PARTITION_TAG = "dagster/partition"
_AT_WORK = (
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
_ENDED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
_AT_ONCE = 500
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


def event_database(instance: dg.DagsterInstance) -> Any:
    """A connection to the database of events; every storage of Dagster that is a database has one."""
    storage: Any = instance.event_log_storage
    return storage.index_connection()


def runs_at_work(
    instance: dg.DagsterInstance,
    partitions: Collection[str],
    keys: Collection[dg.AssetKey],
    jobs: Collection[str],
    own: str,
) -> int:
    """How many runs are working on these arrivals, on an asset that is made of all arrivals, or on a job that
    looks at all volumes."""
    found = instance.get_runs(filters=dg.RunsFilter(statuses=list(_AT_WORK)))
    return sum(
        run.run_id != own
        and (
            run.tags.get(PARTITION_TAG) in partitions
            or run.job_name in jobs
            or not set(keys).isdisjoint(run.asset_selection or ())
        )
        for run in found
    )


def to_restore(
    instance: dg.DagsterInstance,
    assets: Sequence[dg.AssetKey],
    checks: Sequence[dg.AssetCheckKey],
    partitions: Iterable[str],
    new_version: str,
    unchanged: Collection[dg.AssetKey],
) -> list[Restored]:
    """What is to be said anew of some arrivals, as Dagster has it now.

    Parameters
    ----------
    new_version
        Becomes part of the data versions of the assets that are not `unchanged`, so that what follows them is
        made again.
    """
    found = []
    for partition in partitions:
        for key in assets:
            selection = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
            records = instance.fetch_materializations(selection, limit=1).records
            made = records[0].asset_materialization if records else None
            if made is not None:
                version = (made.tags or {}).get(DATA_VERSION_TAG, "")
                if key not in unchanged:
                    version = f"{version.partition('-without-')[0]}-without-{new_version}"
                found.append(Restored(list(key.path), partition, version))
        for check in checks:
            found += _verdict(instance, check, partition)
    return found


def verdicts_of(
    instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey], runs: Collection[str]
) -> list[Restored]:
    """The last verdicts without a partition that were given in these runs: a check whose history is gone
    would count as never done until its next turn."""
    return [one for check in checks for one in _verdict(instance, check, None, runs)]


def _verdict(
    instance: dg.DagsterInstance,
    check: dg.AssetCheckKey,
    partition: str | None,
    runs: Collection[str] | None = None,
) -> list[Restored]:
    history = instance.event_log_storage.get_asset_check_execution_history(
        check, limit=1, status=_ENDED, partition_filter=PartitionKeyFilter(key=partition)
    )
    if not history or (runs is not None and history[0].run_id not in runs):
        return []
    event = history[0].event
    said = event.dagster_event.event_specific_data if event and event.dagster_event else None
    return [
        Restored(
            list(check.asset_key.path),
            partition,
            check=check.name,
            passed=history[0].status == AssetCheckExecutionRecordStatus.SUCCEEDED,
            is_error=getattr(said, "severity", None) != dg.AssetCheckSeverity.WARN,
            blocking=bool(getattr(said, "blocking", False)),
        )
    ]


def remove_history(
    instance: dg.DagsterInstance,
    assets: Sequence[dg.AssetKey],
    partitions: Collection[str],
    traces: Traces,
    own: str,
) -> int:
    """Remove the runs and events of some arrivals, and those that name a person; returns how many runs."""
    runs = runs_of(instance, partitions, traces) - {own}
    for run_id in runs:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        _remove_files(instance, run_id)
    names = [key.to_string() for key in assets]
    with event_database(instance) as connection:
        _remove_rows(connection, names, sorted(partitions), sorted(runs))
    return len(runs)


def runs_of(instance: dg.DagsterInstance, partitions: Collection[str], traces: Traces) -> set[str]:
    """Runs of some arrivals, and those of which an event names the person."""
    found: set[str] = set()
    for partition in partitions:
        filters = dg.RunsFilter(tags={PARTITION_TAG: partition})
        found |= {run.run_id for run in instance.get_runs(filters=filters)}
    needles = [needle.encode() for needle in traces.needles()]
    for path in _run_files(instance):
        if path.stem not in found and _has_one(path, needles, traces):
            found.add(path.stem)
    with event_database(instance) as connection:
        for needle in traces.needles():
            rows = connection.execute(
                sa.text("SELECT run_id, event FROM event_logs WHERE event LIKE :text ESCAPE '!'"),
                {"text": f"%{_escaped(needle)}%"},
            )
            # the database finds it in longer words too, and in other cases
            found |= {str(run_id) for run_id, event in rows if run_id and traces.in_text(_as_read(event))}
    return found


def restore(instance: dg.DagsterInstance, restored: Iterable[Restored]) -> None:
    """Say anew what was said of arrivals, and nothing of a person."""
    for one in restored:
        key = dg.AssetKey(one.asset)
        why = "its history before this was removed, because somebody was forgotten"
        if one.check is None:
            tags = {DATA_VERSION_TAG: one.data_version} if one.data_version else None
            instance.report_runless_asset_event(
                dg.AssetMaterialization(key, partition=one.partition, tags=tags, description=why)
            )
        else:
            severity = dg.AssetCheckSeverity.ERROR if one.is_error else dg.AssetCheckSeverity.WARN
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=key,
                    check_name=one.check,
                    passed=one.passed,
                    severity=severity,
                    description=f"as before; {why}",
                    blocking=one.blocking,
                    partition=one.partition,
                )
            )


def _remove_rows(connection: Any, assets: list[str], partitions: list[str], runs: list[str]) -> None:
    """Events of arrivals that belong to no run, and what `delete_run` leaves."""
    keys: Any = sa.bindparam("assets", expanding=True)
    parts: Any = sa.bindparam("partitions", expanding=True)
    if partitions:
        of_arrivals = {"assets": assets, "partitions": partitions}
        events = "SELECT id FROM event_logs WHERE asset_key IN :assets AND partition IN :partitions"
        for statement in (
            f"DELETE FROM asset_event_tags WHERE event_id IN ({events})",
            "DELETE FROM event_logs WHERE asset_key IN :assets AND partition IN :partitions",
            "DELETE FROM asset_check_executions WHERE asset_key IN :assets AND partition IN :partitions",
        ):
            connection.execute(sa.text(statement).bindparams(keys, parts), of_arrivals)
    for start in range(0, len(runs), _AT_ONCE):
        ids: Any = sa.bindparam("runs", expanding=True)
        of_runs = sa.text("DELETE FROM asset_check_executions WHERE run_id IN :runs").bindparams(ids)
        connection.execute(of_runs, {"runs": runs[start : start + _AT_ONCE]})
    for asset in assets:  # the text of what was made last is kept twice; and which partitions there are
        connection.execute(
            sa.text(
                "UPDATE asset_keys SET cached_status_data = NULL, last_materialization = (SELECT event FROM "
                "event_logs WHERE asset_key = :asset AND dagster_event_type = 'ASSET_MATERIALIZATION' "
                "ORDER BY id DESC LIMIT 1) WHERE asset_key = :asset"
            ),
            {"asset": asset},
        )


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _run_files(instance: dg.DagsterInstance) -> list[Path]:
    """With SQLite each run's events are a database of their own, called after the run."""
    history = Path(instance.root_directory) / "history" / "runs"
    return sorted(path for path in history.glob("*.db") if path.stem != "index")


def _has_one(path: Path, needles: Collection[bytes], traces: Traces) -> bool:
    content = b"".join(p.read_bytes() for p in (path, path.with_name(f"{path.name}-wal")) if p.is_file())
    return any(needle in content for needle in needles) and traces.in_text(
        _as_read(content.decode("utf-8", errors="replace"))
    )


def _as_read(text: str) -> str:
    """A text, and what it says where JSON writes other scripts as escapes."""
    plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return (
        text
        if plain == text
        else f"{text}\n{plain.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')}"
    )


def _remove_files(instance: dg.DagsterInstance, run_id: str) -> None:
    for path in _run_files(instance):
        if path.stem == run_id:
            for end in ("", "-wal", "-shm", "-journal"):
                path.with_name(path.name + end).unlink(missing_ok=True)
    shutil.rmtree(Path(instance.storage_directory()) / run_id, ignore_errors=True)
