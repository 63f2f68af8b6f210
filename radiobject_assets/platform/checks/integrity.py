"""Integrity of a collection's volumes of one arrival: arrays, digests, geometry, labels on their image."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from dataclasses import replace

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Report
from radiobject_assets.platform.assets.collections import kept_outcomes
from radiobject_assets.platform.assets.materialization_metadata import measuring, megabytes
from radiobject_assets.platform.assets.partitions import (
    ALL_VOLUMES,
    INTEGRITY_CHECK,
    arrival_partitions,
    asset_key,
)
from radiobject_assets.platform.checks.check_pages import taught
from radiobject_assets.platform.checks.outcome import check_result, result_of
from radiobject_assets.platform.dagster_internals import EvaluationOfEverything
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource


def build_integrity_check(settings: DatasetSettings, name: str) -> dg.AssetChecksDefinition:
    """The blocking check `integrity` on one collection."""
    selected = None if name == ALL_VOLUMES and name not in settings.collections else [name]

    @dg.asset_check(
        asset=asset_key(settings, name),
        name=INTEGRITY_CHECK,
        partitions_def=arrival_partitions(settings),
        blocking=True,
        description=taught(
            "Of one arrival: every row names an array as described, whose voxels have the row's digest; "
            "rows are as written; affines are sound; labels lie on their image's grid. Without a partition: "
            "of all volumes. While it is red, the arrival's subjects are kept out of the splits.",
            kinds.OF_VOLUMES,
        ),
    )
    @with_own_resources(settings)
    def integrity(
        context: dg.AssetCheckExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.AssetCheckResult:
        key = context.partition_key if context.has_partition_key else None

        def rule() -> dg.AssetCheckResult:
            from radiobject_assets.diagnostics.integrity_rules import check_collections
            from radiobject_assets.store import is_store

            uri = dataset.config.store_uri
            if not is_store(uri, storage.ctx):
                return result_of(Report(0, "volumes"))
            outcomes = kept_outcomes(dataset.tables(storage), key, name) if key is not None else None
            with measuring(memory.budget()) as measurement:
                report = check_collections(uri, selected, arrival=key, outcomes=outcomes, ctx=storage.ctx)
            numbers = {"voxels_mb": megabytes(report.voxel_bytes), **measurement.taken}
            # an arrival without volumes of this collection is nothing out of the ordinary
            if key is not None and report.n_volumes == 0 and report.is_sound:
                return dg.AssetCheckResult(
                    passed=True,
                    description="this arrival has no volumes of this collection",
                    metadata={"looked_at": 0, **numbers},
                )
            # by its asset, which is one for all collections where these are made by modality
            findings = tuple(replace(finding, collection=name) for finding in report.findings)
            return result_of(Report(report.n_volumes, "volumes", findings), numbers)

        result = check_result(rule, work=dataset.work.root if key is None else dataset.work.arrival(key))
        if key is not None:
            return result
        return EvaluationOfEverything.of(dg.AssetCheckKey(asset_key(settings, name), INTEGRITY_CHECK), result)

    return integrity
