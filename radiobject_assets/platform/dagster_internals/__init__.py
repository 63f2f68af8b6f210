"""What the platform takes from inside Dagster, for want of public names: nobody else imports `dagster._*`.

Held to Dagster 1.13, since pyproject.toml allows no other (tested: 1.13.27). For a new minor version look for
a public name of each first, then run the tests that are named here.

`DATA_VERSION_TAG`, `get_input_data_version_tag`
    Which version of each input a materialization was made from stands in the tags of its event alone. Public
    are only the version of an output that is being made, and conditions that forget what came between two
    ticks. Tests: tests/platform/test_conditions.py.
`CODE_VERSION_TAG`
    Which code version a materialization was made by stands in the tags of its event; the public
    `code_version_changed` compares two ticks, and forgets what changed in between. Tests:
    tests/platform/test_conditions.py, tests/platform/test_changed_settings.py.
`DagsterEventType`
    The latest data version of every partition is one query by the type of event. Test:
    tests/platform/test_sabotage.py.
`EvaluationOfEverything`
    "Execute all" in the UI makes a run without a partition, in which Dagster can't record the result of a
    check that has partitions: it asks the run for its partition, to say which materialization was looked at.
    Test: tests/platform/test_sabotage.py.
`UnresolvedAssetJobDefinition`
    What `dg.define_asset_job` returns has no public name to annotate with. Test: mypy.
`PartitionKeyFilter`
    The history of a check can be asked for one partition; without it every record of the check would have to
    be read. Tests: tests/platform/test_line.py.
`AssetCheckExecutionRecordStatus`
    The states that this history tells apart, planned among them, which says nothing yet. Public results of
    checks are passed or failed. Tests: tests/platform/test_line.py.
`DagsterEventType`, `event_tables`, `shrink`
    Public is the removal of whole runs with what they made; history_retention removes what is told of steps.
    Tests: tests/platform/test_history_retention.py.
`check_table`
    A record of a check goes in public with its whole run alone; `automation.passed_checks` removes those of
    which the web server would make a question each. Tests: tests/platform/test_passed_checks.py.
`sqlite_storage`
    Which engine of SQLAlchemy asks a file, and how a run's file begins, can be chosen in a subclass of
    Dagster's storage alone. Tests: tests/platform/test_sqlite_storage.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events import DagsterEventType
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

if TYPE_CHECKING:
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

__all__ = [
    "CODE_VERSION_TAG",
    "DATA_VERSION_TAG",
    "AssetCheckExecutionRecordStatus",
    "DagsterEventType",
    "EvaluationOfEverything",
    "PartitionKeyFilter",
    "UnresolvedAssetJobDefinition",
    "check_table",
    "event_tables",
    "get_input_data_version_tag",
    "shrink",
]


class EvaluationOfEverything(dg.AssetCheckResult):
    """The result of a check with partitions that was evaluated without one: it speaks of all of them."""

    @classmethod
    def of(cls, key: dg.AssetCheckKey, result: dg.AssetCheckResult) -> EvaluationOfEverything:
        """The same result, as that of a check."""
        return cls(
            passed=result.passed,
            asset_key=key.asset_key,
            check_name=key.name,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
        )

    def to_asset_check_evaluation(self, step_context: Any) -> dg.AssetCheckEvaluation:
        """What Dagster records: no partition, and no materialization in particular."""
        assert self.asset_key is not None  # `of` sets both
        assert self.check_name is not None
        return dg.AssetCheckEvaluation(
            asset_key=self.asset_key,
            check_name=self.check_name,
            passed=self.passed,
            metadata=self.metadata,
            severity=self.severity,
            description=self.description,
        )


def event_tables(instance: dg.DagsterInstance) -> tuple[SqlEventLogStorage, Any] | None:
    """The storage of events and its table for SQLAlchemy; None where it is not in a database.

    SQLAlchemy is loaded here, and not with every import of the definitions: 0.6 s.
    """
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

    storage = instance.event_log_storage
    return (storage, SqlEventLogStorageTable) if isinstance(storage, SqlEventLogStorage) else None


def check_table(instance: dg.DagsterInstance) -> tuple[SqlEventLogStorage, Any] | None:
    """The storage of events and its table of checks for SQLAlchemy; None where it is not in a database."""
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

    storage = instance.event_log_storage
    return (storage, AssetCheckExecutionsTable) if isinstance(storage, SqlEventLogStorage) else None


def shrink(storage: SqlEventLogStorage, run_id: str) -> None:
    """Give back the room of events that were removed, where a run's events are a file of their own (SQLite).

    Postgres does so by itself.
    """
    import sqlite3
    from contextlib import closing, suppress

    from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

    if isinstance(storage, SqliteEventLogStorage):
        # where somebody is reading it, it stays as large as it is
        with (
            closing(sqlite3.connect(storage.path_for_shard(run_id))) as connection,
            suppress(sqlite3.OperationalError),
        ):
            connection.execute("VACUUM")
