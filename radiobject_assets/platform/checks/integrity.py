"""Integrity of a collection's volumes of one arrival: arrays, digests, geometry, labels on their image."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from collections import Counter

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.assets.materialization_metadata import measuring, table
from radiobject_assets.platform.assets.partitions import (
    ALL_VOLUMES,
    INTEGRITY_CHECK,
    arrival_partitions,
    asset_key,
)
from radiobject_assets.platform.checks.outcome import check_result, failed, passed
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource


def build_integrity_check(settings: DatasetSettings, name: str) -> dg.AssetChecksDefinition:
    """The blocking check `integrity` on one collection."""
    selected = None if name == ALL_VOLUMES and name not in settings.collections else [name]

    @dg.asset_check(
        asset=asset_key(settings, name),
        name=INTEGRITY_CHECK,
        partitions_def=arrival_partitions(settings),
        blocking=True,
        description="Every row names an array as described, whose voxels have the row's digest; affines "
        "are sound; labels lie on their image's grid.",
    )
    def integrity(
        context: dg.AssetCheckExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.AssetCheckResult:
        from radiobject_assets.diagnostics.integrity_rules import INGEST_AGAIN

        key = context.partition_key

        def rule() -> dg.AssetCheckResult:
            import pandas as pd

            from radiobject_assets.diagnostics.integrity_rules import check_collections
            from radiobject_assets.ingest.identity import token

            with measuring(memory.budget()) as measurement:
                report = check_collections(dataset.config.store_uri, selected, arrival=key, ctx=storage.ctx)
            numbers = {
                "volumes": report.n_volumes,
                "bytes": report.voxel_bytes,
                "findings": len(report.findings),
                **measurement.metadata(),
            }
            if report.is_sound:
                return passed(f"{report.n_volumes} volumes are sound", numbers)
            rows = pd.DataFrame(
                [(token(f.obs_id, 10), f.rule, f.problem) for f in report.findings],
                columns=["volume_token", "rule", "problem"],
            )
            rules = ", ".join(f"{rule} ({n})" for rule, n in Counter(f.rule for f in report.findings).items())
            return failed(
                f"{len(report.findings)} findings: {rules}", INGEST_AGAIN, {**numbers, "found": table(rows)}
            )

        return check_result(rule, work=dataset.work.arrival(key), what_to_do=INGEST_AGAIN)

    return integrity
