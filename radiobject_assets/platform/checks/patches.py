"""Patch-cache truth: patches are what the volumes say, to the voxel."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from pathlib import Path

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.platform.assets.materialization_metadata import measuring
from radiobject_assets.platform.assets.partitions import asset_key, split_partitions
from radiobject_assets.platform.checks.outcome import check_result, failed, passed
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource

_RECOVERY = "Delete the folder of this patch cache, then materialize the partition again."


def build_patch_check(settings: DatasetSettings) -> dg.AssetChecksDefinition:
    """The check `patches_match_volumes` on `patch_cache`; it never blocks."""

    @dg.asset_check(
        asset=asset_key(settings, "patch_cache"),
        name="patches_match_volumes",
        partitions_def=split_partitions(settings),
        description="Some patches and their labels are cut from the volumes again and compared.",
    )
    def patches_match_volumes(
        context: dg.AssetCheckExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.AssetCheckResult:
        split = context.partition_key

        def rule() -> dg.AssetCheckResult:
            from radiobject_assets.diagnostics.patch_truth import compare_patches

            config = dataset.config
            if config.patches is None:
                raise ConfigurationError("dataset.yaml has no `patches` any more; reload the code location")
            with measuring(memory.budget()) as measurement:
                found = compare_patches(
                    _latest_cache(settings, context, split),
                    config.store_uri,
                    image=config.patches.image,
                    labels=config.patches.labels,
                    ctx=storage.ctx,
                )
            numbers = {
                "patches": found.n_patches,
                "compared": found.n_compared,
                "wrong": found.n_wrong,
                "largest_difference": found.largest_difference,
                **measurement.metadata(),
            }
            if found.is_true:
                return passed(f"{found.n_compared} patches compared, all equal to their volumes", numbers)
            return failed(f"{found.n_wrong} of {found.n_compared} patches differ", _RECOVERY, numbers)

        return check_result(rule, work=dataset.work.root, what_to_do=_RECOVERY)

    return patches_match_volumes


def _latest_cache(settings: DatasetSettings, context: dg.AssetCheckExecutionContext, split: str) -> Path:
    selection = dg.AssetRecordsFilter(asset_key=asset_key(settings, "patch_cache"), asset_partitions=[split])
    records = context.instance.fetch_materializations(selection, limit=1).records
    made = records[0].asset_materialization if records else None
    if made is None:
        raise ConfigurationError(f"the patch cache of split {split!r} has not been built yet")
    return Path(str(made.metadata["file"].value))
