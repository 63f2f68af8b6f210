"""What training reads: the asset `patch_cache`, one partition for each split."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from collections.abc import Mapping

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.platform.assets import asset_pages
from radiobject_assets.platform.assets.materialization_metadata import (
    in_words,
    measuring,
    megabytes,
    some,
    table,
    with_unit,
)
from radiobject_assets.platform.assets.partitions import TRAINING_GROUP, asset_key, split_partitions
from radiobject_assets.platform.assets.privacy import shielded, shown_left_out
from radiobject_assets.platform.assets.snapshot import SnapshotNote
from radiobject_assets.platform.assets.splits import pinned_splits
from radiobject_assets.platform.memory_pool import MEMORY_POOL
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource
from radiobject_assets.training.recipe_versions import patches_version

UNUSABLE = "images_with_unusable_labels"
"""Metadata: images that give no patches although they have labels."""


def build_patch_cache_asset(settings: DatasetSettings) -> dg.AssetsDefinition | None:
    """The asset `patch_cache`, or None where dataset.yaml has no `patches`."""
    if settings.patches is None:
        return None

    @dg.asset(
        key=asset_key(settings, "patch_cache"),
        partitions_def=split_partitions(settings),
        deps=[asset_key(settings, "splits")],
        group_name=TRAINING_GROUP,
        kinds={"numpy", "pytorch"},
        pool=MEMORY_POOL,
        owners=settings.owners,
        code_version=patches_version(settings.patches),
        description=asset_pages.of_patch_cache(settings),
    )
    @with_own_resources(settings)
    def patch_cache(
        context: dg.AssetExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.MaterializeResult[None]:
        from radiobject_assets.training.cache.build import build_patch_cache

        split = context.partition_key
        with shielded(dataset.work.root):
            config = dataset.config
            if config.patches is None:
                raise ConfigurationError("dataset.yaml has no `patches` any more; reload the code location")
            with measuring(memory.budget()) as measurement:
                tables = dataset.tables(storage)
                divided = pinned_splits(tables)
                # not the newest: splits that were made of another snapshot know nobody who came since
                snapshot = divided.snapshot or SnapshotNote.read(tables).name
                rows = divided.rows
                subjects = rows.loc[rows["split"] == split, "obs_subject_id"].tolist()
                cache = build_patch_cache(
                    config.store_uri,
                    snapshot=snapshot,
                    subjects=subjects,
                    patches=config.patches,
                    out_dir=dataset.work.patch_cache(split),
                    budget=memory.budget(),
                    ctx=storage.ctx,
                    allow_empty=True,  # the check `patches_match_volumes` fails on it
                )
            left_out = cache.left_out_counts
            summary = (
                f"{some(cache.n_patches, 'patch', 'patches')} of {some(cache.n_subjects, 'subject')}, "
                f"{with_unit(cache.bytes)}" + (f"; left out: {in_words(left_out)}" if left_out else "")
            )
            context.log.info(summary)
            return dg.MaterializeResult(
                data_version=dg.DataVersion(cache.digest),
                metadata={
                    "summary": summary,
                    "patches": cache.n_patches,
                    "subjects": cache.n_subjects,
                    "images_left_out": sum(left_out.values()),
                    **({UNUSABLE: unusable} if (unusable := _unusable(left_out)) else {}),
                    **({"left_out_because": table(shown_left_out(cache.left_out))} if left_out else {}),
                    "snapshot": snapshot,
                    "splits": divided.digest,
                    "file": dg.MetadataValue.path(str(cache.path)),
                    "mb": megabytes(cache.bytes),
                    **measurement.metadata(),
                },
            )

    return patch_cache


def _unusable(left_out: Mapping[str, int]) -> int:
    """Without labels are images that `labels_complete` tells of; the others nobody else does."""
    from radiobject_assets.training.pairing import LeftOutReason

    return sum(count for reason, count in left_out.items() if reason != LeftOutReason.NO_LABELS)
