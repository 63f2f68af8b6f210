"""Patch-cache truth: patches are what the volumes say, to the voxel."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import time
from pathlib import Path

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.platform.assets.history import latest_cache
from radiobject_assets.platform.assets.materialization_metadata import measuring
from radiobject_assets.platform.assets.partitions import asset_key, split_partitions
from radiobject_assets.platform.assets.patch_cache import UNUSABLE
from radiobject_assets.platform.assets.splits import pinned_splits
from radiobject_assets.platform.checks.check_pages import taught
from radiobject_assets.platform.checks.outcome import check_result, result_of
from radiobject_assets.platform.checks.surroundings import is_of
from radiobject_assets.platform.dagster_internals import EvaluationOfEverything
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource

_SECONDS = 60.0
"""For the digests of a cache: it is read at the speed of its disk, other patches each time."""


def build_patch_check(settings: DatasetSettings) -> dg.AssetChecksDefinition:
    """The check `patches_match_volumes` on `patch_cache`; it never blocks."""

    @dg.asset_check(
        asset=asset_key(settings, "patch_cache"),
        name="patches_match_volumes",
        partitions_def=split_partitions(settings),
        description=taught(
            "The bytes of patches are compared with the digests that were written with them, for up to a "
            "minute a cache; some are cut from the volumes again and compared, to the voxel; and every "
            "subject of a cache is in its split today. "
            "Without a partition: of every split that has a cache.",
            [
                kinds.PATCHES_DAMAGED,
                kinds.PATCHES_DIFFER,
                kinds.CACHE_OF_OTHERS,
                kinds.CACHE_OLD,
                kinds.CACHE_EMPTY,
                kinds.PATCHES_LEFT_OUT,
            ],
        ),
    )
    @with_own_resources(settings)
    def patches_match_volumes(
        context: dg.AssetCheckExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.AssetCheckResult:
        splits = [context.partition_key] if context.has_partition_key else list(settings.split.shares)

        def rule() -> dg.AssetCheckResult:
            from radiobject_assets.diagnostics.patch_truth import compare_patches, subjects_elsewhere
            from radiobject_assets.training.cache.verify import compare_digests

            config = dataset.config
            if config.patches is None:
                raise ConfigurationError("dataset.yaml has no `patches` any more; reload the code location")
            patches = looked = compared = wrong = 0
            largest, findings = 0.0, []
            divided = pinned_splits(dataset.tables(storage))
            with measuring(memory.budget()) as measurement:
                for split in splits:
                    made = latest_cache(context.instance, asset_key(settings, "patch_cache"), split)
                    if made is None:
                        continue
                    path, name = Path(str(made.metadata["file"].value)), f"patch cache of {split}"
                    digests = compare_digests(path, seconds=_SECONDS, seed=time.time_ns())
                    looked += digests.n_compared
                    if digests.damaged:
                        evidence = f"{len(digests.damaged)} of {digests.n_compared} compared"
                        findings.append(Finding(kinds.PATCHES_DAMAGED, name, evidence, split=split))
                        continue
                    if (left_out := made.metadata.get(UNUSABLE)) is not None:
                        evidence = f"{left_out.value} images"
                        findings.append(Finding(kinds.PATCHES_LEFT_OUT, name, evidence, split=split))
                    found = compare_patches(
                        path,
                        config.store_uri,
                        image=config.patches.image,
                        labels=config.patches.labels,
                        ctx=storage.ctx,
                    )
                    elsewhere = subjects_elsewhere(path, divided.rows, split)
                    if elsewhere:
                        evidence = f"{elsewhere} subjects of other splits, or of none"
                        findings.append(Finding(kinds.CACHE_OF_OTHERS, name, evidence, split=split))
                    elif "splits" in made.metadata and not is_of(made, divided):
                        findings.append(Finding(kinds.CACHE_OLD, name, split=split))
                    patches, compared = patches + found.n_patches, compared + found.n_compared
                    wrong, largest = wrong + found.n_wrong, max(largest, found.largest_difference)
                    if not found.is_true:
                        evidence = f"{found.n_wrong} of {found.n_compared} differ"
                        findings.append(Finding(kinds.PATCHES_DIFFER, name, evidence, split=split))
                    if found.n_patches == 0:
                        findings.append(Finding(kinds.CACHE_EMPTY, name, "0 patches", split=split))
            numbers = {
                "patches": patches,
                "digests_compared": looked,
                "wrong": wrong,
                "largest_difference": largest,
                **measurement.taken,
            }
            return result_of(Report(compared, "patches", tuple(findings)), numbers)

        result = check_result(rule, work=dataset.work.root)
        if context.has_partition_key:
            return result
        return EvaluationOfEverything.of(
            dg.AssetCheckKey(asset_key(settings, "patch_cache"), "patches_match_volumes"), result
        )

    return patches_match_volumes
