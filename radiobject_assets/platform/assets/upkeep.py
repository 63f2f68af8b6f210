"""What keeps a data set small and quick: the asset `upkeep`, made every night."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import time
from datetime import timedelta
from pathlib import Path

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.assets import asset_pages
from radiobject_assets.platform.assets.history import latest_cache
from radiobject_assets.platform.assets.materialization_metadata import (
    in_words,
    measuring,
    megabytes,
    with_unit,
)
from radiobject_assets.platform.assets.partitions import STORE_GROUP, asset_key
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.memory_pool import MEMORY_POOL
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource

# The schedule makes it every night: a night without it is worth a look, three are a fault.
_FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=74), warn_window=timedelta(hours=26))


def build_upkeep(settings: DatasetSettings) -> dg.AssetsDefinition:
    """The asset `upkeep`: tables merged, and what nobody names any more removed."""

    @dg.asset(
        key=asset_key(settings, "upkeep"),
        group_name=STORE_GROUP,
        kinds={"tiledb"},
        owners=settings.owners,
        code_version="1",
        pool=MEMORY_POOL,
        freshness_policy=_FRESH,
        description=asset_pages.of_upkeep(settings),
    )
    @with_own_resources(settings)
    def upkeep(
        context: dg.AssetExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.MaterializeResult[None]:
        from radiobject_assets.store import VacuumReport, consolidate, is_store, vacuum
        from radiobject_assets.training.cache.eviction import evict_caches, superseded

        with shielded(dataset.work.root):
            config, uri = dataset.config, dataset.config.store_uri
            with measuring(memory.budget()) as measurement:
                merged, removed = 0, VacuumReport(0, 0)
                if is_store(uri, storage.ctx):
                    merged = sum(consolidate(uri, storage.ctx).values())
                    removed = vacuum(uri, storage.ctx, grace_s=config.upkeep.keep_arrays_hours * 3600)
                before_s = time.time() - config.upkeep.keep_caches_days * 86_400
                old = [
                    cache
                    for split in config.split.shares
                    for cache in superseded(
                        dataset.work.patch_cache(split),
                        current=_current(context.instance, config, split),
                        before_s=before_s,
                    )
                ]
                freed = evict_caches(old)
            told = in_words(
                {
                    "arrays removed": removed.arrays,
                    "segments of tables merged": merged,
                    "segments removed": removed.segments,
                    "states removed": removed.states,
                    "patch caches removed": len(old),
                }
            )
            return dg.MaterializeResult(
                metadata={
                    "summary": f"{with_unit(removed.bytes + freed)} freed: {told or 'nothing to do'}",
                    "mb_freed": megabytes(removed.bytes + freed),
                    **measurement.metadata(),
                }
            )

    return upkeep


def _current(instance: dg.DagsterInstance, config: DatasetSettings, split: str) -> list[Path]:
    made = latest_cache(instance, asset_key(config, "patch_cache"), split)
    return [Path(str(made.metadata["file"].value))] if made is not None else []
