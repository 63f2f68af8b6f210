"""What the Dagster instance remembers: which arrivals failed their integrity check."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from radiobject_assets.assets.partitions import INTEGRITY_CHECK


def failed_arrivals(instance: dg.DagsterInstance, collections: Iterable[str]) -> list[str]:
    """Keys of the arrivals whose latest integrity check failed on any of these collections."""
    keys = [dg.AssetCheckKey(dg.AssetKey(name), INTEGRITY_CHECK) for name in collections]
    failed = AssetCheckExecutionRecordStatus.FAILED
    states = instance.event_log_storage.get_asset_check_partition_info(keys)
    return sorted(
        {s.partition_key for s in states if s.partition_key and s.latest_execution_status == failed}
    )
