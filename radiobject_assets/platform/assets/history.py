"""What the Dagster instance remembers: which arrivals failed their integrity check, what was made of what."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from radiobject_assets.platform.assets.partitions import INTEGRITY_CHECK
from radiobject_assets.platform.dagster_internals import (
    DATA_VERSION_TAG,
    AssetCheckExecutionRecordStatus,
    DagsterEventType,
    PartitionKeyFilter,
)

_PASSED = AssetCheckExecutionRecordStatus.SUCCEEDED
_FAILED = AssetCheckExecutionRecordStatus.FAILED
_REPORTED = 20


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
    failed = bool(history) and history[0].status == _FAILED
    # a warning is for people: training is possible
    return failed and not is_warning(instance, _check_of(collection), arrival)


def failed_arrivals(instance: dg.DagsterInstance, collections: Iterable[dg.AssetKey]) -> list[str]:
    """Keys of the arrivals whose latest integrity check failed on any of these collections."""
    found = set()
    for collection in collections:
        for state in instance.event_log_storage.get_asset_check_partition_info([_check_of(collection)]):
            key, status = state.partition_key, state.latest_execution_status
            if key is None or status == _PASSED:
                continue
            if has_failed(instance, collection, key):
                found.add(key)
    return sorted(found)


def is_warning(instance: dg.DagsterInstance, check: dg.AssetCheckKey, partition: str | None) -> bool:
    """Whether the latest evaluation of a check that failed says so as a warning."""
    history = instance.event_log_storage.get_asset_check_execution_history(
        check, limit=1, status={_FAILED}, partition_filter=PartitionKeyFilter(key=partition)
    )
    event = history[0].event if history else None
    told = event.dagster_event.asset_check_evaluation_data if event and event.dagster_event else None
    return told is not None and told.severity == dg.AssetCheckSeverity.WARN


def _check_of(collection: dg.AssetKey) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(collection, INTEGRITY_CHECK)


def latest_cache(
    instance: dg.DagsterInstance, key: dg.AssetKey, split: str
) -> dg.AssetMaterialization | None:
    """The latest materialization of a split's patch cache that says where it is.

    One that a person reported in the UI says nothing: the one before it counts.
    """
    selection = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[split])
    for record in instance.fetch_materializations(selection, limit=_REPORTED).records:
        made = record.asset_materialization
        if made is not None and "file" in made.metadata:
            return made
    return None


def data_versions(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, str]:
    """The data version of the latest materialization of every partition of an asset."""
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        key, DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    return {partition: told[DATA_VERSION_TAG] for partition, told in tags.items() if DATA_VERSION_TAG in told}
