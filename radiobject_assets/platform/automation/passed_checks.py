"""What Dagster lists of checks of arrivals that passed: the newest ones, so that the page of checks opens.

The page asks for the state of every partition, and the web server then asks the database once for every
partition that it has a record of: with 12,000 arrivals 80 s of CPU, whoever looks. Records of checks that did
not pass are never removed, nor is any event: the page of a run tells what was checked in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import dagster as dg

from radiobject_assets.platform.dagster_internals import AssetCheckExecutionRecordStatus, check_table

LISTED = 100
"""So many arrivals of each check are listed as passed."""
_MORE = 50
"""So many more before the oldest go: not at each tick."""
_AT_ONCE = 500
_PASSED = AssetCheckExecutionRecordStatus.SUCCEEDED.value
_PLANNED = AssetCheckExecutionRecordStatus.PLANNED.value


def unlist_passed(
    instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey], listed: int = LISTED, more: int = _MORE
) -> int:
    """Remove records of these checks on partitions that passed longest ago.

    A partition goes with all its records, so that none from before says something else. One that a run is
    yet to check stays.

    Returns
    -------
    How many partitions; 0 where Dagster's storage is not in a database.
    """
    found = check_table(instance)
    if found is None:
        return 0
    storage, table = found
    columns = table.c
    removed = 0
    for check in checks:
        of_check = (
            (columns.asset_key == check.asset_key.to_string())
            & (columns.check_name == check.name)
            & columns.partition.is_not(None)
        )
        chosen = table.select().where(of_check).with_only_columns(
            columns.id, columns.partition, columns.execution_status
        ).order_by(columns.id)  # fmt: skip
        states: dict[str, list[tuple[int, str]]] = defaultdict(list)
        with storage.index_connection() as connection:
            for number, partition, status in connection.execute(chosen):
                states[partition].append((number, status))
        passed = sorted(
            (
                records
                for records in states.values()
                if records[-1][1] == _PASSED and all(status != _PLANNED for _, status in records)
            ),
            key=lambda records: records[-1][0],
        )
        if len(passed) <= listed + more:
            continue
        old = passed[: len(passed) - listed]
        numbers = [number for records in old for number, _ in records]
        with storage.index_connection() as connection:
            for start in range(0, len(numbers), _AT_ONCE):
                chunk = numbers[start : start + _AT_ONCE]
                # a run that checks again meanwhile has planned it in a record of its own
                connection.execute(table.delete().where(columns.id.in_(chunk)))
        removed += len(old)
    return removed
