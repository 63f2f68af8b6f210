"""What the Dagster instance remembers: which arrivals failed their integrity check."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from radiobject_assets.platform.assets.partitions import INTEGRITY_CHECK
from radiobject_assets.platform.dagster_internals import AssetCheckExecutionRecordStatus, PartitionKeyFilter

_PASSED = AssetCheckExecutionRecordStatus.SUCCEEDED
_FAILED = AssetCheckExecutionRecordStatus.FAILED


def has_failed(instance: dg.DagsterInstance, collection: dg.AssetKey, arrival: str) -> bool:
    """Whether the latest integrity check that came to an end on this arrival's volumes failed.

    A check that is only planned, or whose run broke off, says nothing: the one before it still counts.
    """
    history = instance.event_log_storage.get_asset_check_execution_history(
        _check_of(collection),
        limit=1,
        status={_PASSED, _FAILED},
        partition_filter=PartitionKeyFilter(key=arrival),
    )
    return bool(history) and history[0].status == _FAILED


def failed_arrivals(instance: dg.DagsterInstance, collections: Iterable[dg.AssetKey]) -> list[str]:
    """Keys of the arrivals whose latest integrity check failed on any of these collections."""
    found = set()
    for collection in collections:
        for state in instance.event_log_storage.get_asset_check_partition_info([_check_of(collection)]):
            key, status = state.partition_key, state.latest_execution_status
            if key is None or status == _PASSED:
                continue
            if status == _FAILED or has_failed(instance, collection, key):
                found.add(key)
    return sorted(found)


def _check_of(collection: dg.AssetKey) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(collection, INTEGRITY_CHECK)
