"""Integrity of a collection's volumes of one arrival: arrays, digests, geometry, labels on their image."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from dataclasses import replace

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Report, Severity
from radiobject_assets.platform.assets.arrivals_of_run import arrivals_of
from radiobject_assets.platform.assets.collections import kept_outcomes, note_sound, unsound as find_unsound
from radiobject_assets.platform.assets.materialization_metadata import measuring, megabytes, some
from radiobject_assets.platform.assets.partitions import (
    ALL_VOLUMES,
    INTEGRITY_CHECK,
    arrival_partitions,
    asset_key,
)
from radiobject_assets.platform.checks.check_pages import LISTED_OF_MANY, taught
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
            "of all volumes. While it is red, the arrival's subjects are kept out of the splits. "
            + LISTED_OF_MANY,
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
        tables = dataset.tables(storage)
        run = (
            arrivals_of(context.partition_key, context.run.tags, tables)
            if context.has_partition_key
            else None
        )
        keys = run.keys if run is not None else ()
        unsound: set[str] = set(keys)

        def rule() -> dg.AssetCheckResult:
            from radiobject_assets.diagnostics.integrity_rules import check_collections
            from radiobject_assets.store import is_store

            uri = dataset.config.store_uri
            if not is_store(uri, storage.ctx):
                return result_of(Report(0, "volumes"))
            outcomes = {key: kept for key in keys if (kept := kept_outcomes(tables, key, name)) is not None}
            with measuring(memory.budget()) as measurement:
                report = check_collections(
                    uri, selected, arrivals=None if run is None else keys, outcomes=outcomes, ctx=storage.ctx
                )
            unsound.clear()
            unsound.update(f.arrival for f in report.findings if f.kind.severity is Severity.ERROR)
            numbers = {"voxels_mb": megabytes(report.voxel_bytes), **measurement.taken}
            doubted = find_unsound(tables, name) & set(run.others) if run is not None else set()
            if doubted and report.is_sound:
                return dg.AssetCheckResult(
                    passed=False,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=f"{some(report.n_volumes, 'volume')} looked at, nothing found; but "
                    f"{some(len(doubted), 'arrival')} of this partition that the run left as they were "
                    "had been found unsound. Materialize the whole partition.",
                    metadata={"looked_at": report.n_volumes, **numbers},
                )
            # an arrival without volumes of this collection is nothing out of the ordinary
            if run is not None and report.n_volumes == 0 and report.is_sound:
                what = "these arrivals have" if len(keys) > 1 else "this arrival has"
                return dg.AssetCheckResult(
                    passed=True,
                    description=f"{what} no volumes of this collection",
                    metadata={"looked_at": 0, **numbers},
                )
            # by its asset, which is one for all collections where these are made by modality
            findings = tuple(replace(finding, collection=name) for finding in report.findings)
            return result_of(Report(report.n_volumes, "volumes", findings), numbers, tables)

        if run is not None:
            result = check_result(rule, work=dataset.work.arrival(run.partition))
            note_sound(tables, name, keys, unsound)
            return result
        result = check_result(rule, work=dataset.work.root)
        return EvaluationOfEverything.of(dg.AssetCheckKey(asset_key(settings, name), INTEGRITY_CHECK), result)

    return integrity
