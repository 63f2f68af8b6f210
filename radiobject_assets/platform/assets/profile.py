"""What the volumes are like, in numbers: the asset `profile`."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.assets import asset_pages
from radiobject_assets.platform.assets.materialization_metadata import (
    data_version_of,
    in_words,
    measuring,
    some,
    table,
)
from radiobject_assets.platform.assets.partitions import TRAINING_GROUP, asset_key
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.assets.snapshot import SnapshotNote
from radiobject_assets.platform.memory_pool import MEMORY_POOL
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.profiling.profile_version import PROFILE_VERSION
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ("p1", "p50", "p99", "foreground_fraction", "snr_dietrich", "efc", "interslice_jump")
# A first look at a large store must not keep arrivals waiting for hours; every night goes on.
_SECONDS = 20 * 60


def build_profile(settings: DatasetSettings) -> dg.AssetsDefinition:
    """The asset `profile`: figures of every volume of the snapshot, kept beside the store."""

    @dg.asset(
        key=asset_key(settings, "profile"),
        # its check looks for twins in different splits: it is made when they are there
        deps=[asset_key(settings, name) for name in ("dataset", "splits")],
        group_name=TRAINING_GROUP,
        kinds={"parquet"},
        owners=settings.owners,
        code_version=PROFILE_VERSION,
        pool=MEMORY_POOL,
        description=asset_pages.PROFILE,
    )
    @with_own_resources(settings)
    def profile(
        dataset: DatasetResource, storage: StorageResource, memory: MemoryBudgetResource
    ) -> dg.MaterializeResult[None]:
        from radiobject_assets.diagnostics.inventory import read_inventory
        from radiobject_assets.profiling.kept_profiles import FOLDER, keep_profiles, profiles_of
        from radiobject_assets.profiling.outliers import find_outliers
        from radiobject_assets.store import is_store

        with shielded(dataset.work.root):
            tables = dataset.tables(storage)
            if not is_store(dataset.config.store_uri, storage.ctx):
                return dg.MaterializeResult(metadata={"summary": "0 volumes: nothing is stored yet"})
            deadline = time.monotonic() + _SECONDS
            with measuring(memory.budget()) as measurement:
                note = SnapshotNote.read(tables)
                uri = dataset.config.store_uri
                rows = read_inventory(uri, snapshot=note.name, ctx=storage.ctx)
                done = keep_profiles(
                    tables.storage,
                    uri,
                    rows,
                    snapshot=note.name,
                    is_late=lambda: time.monotonic() > deadline,
                    ctx=storage.ctx,
                )
                profiles = profiles_of(tables.storage, rows)
                outliers = find_outliers(profiles)
            told = in_words(
                {
                    "looked at now": done.new,
                    "left for the next time": done.left,
                    "unreadable": len(done.unreadable),
                    "unlike the others": len(outliers),
                }
            )
            return dg.MaterializeResult(
                data_version=dg.DataVersion(data_version_of(sorted(profiles["state"]))),
                metadata={
                    "summary": f"{some(len(profiles), 'volume')}: {told or 'nothing new'}",
                    "volumes": len(profiles),
                    "outliers": len(outliers),
                    **({"left": done.left} if done.left else {}),
                    **({"unreadable": len(done.unreadable)} if done.unreadable else {}),
                    **({"unreadable_because": table(_because(done.seen))} if done.seen else {}),
                    "figures": table(_medians(profiles)),
                    **({"unlike_the_others": table(_told(outliers, rows))} if outliers else {}),
                    "snapshot": note.name,
                    "file": dg.MetadataValue.path(tables.where(FOLDER)),
                    **measurement.metadata(),
                },
            )

    return profile


def _because(seen: "tuple[str, ...]") -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(Counter(seen).most_common(), columns=["what was seen", "volumes"])


def _medians(profiles: "pd.DataFrame") -> "pd.DataFrame":
    """For each collection the number of volumes and the median of what is looked at first."""
    there = [name for name in _SHOWN if name in profiles]
    grouped = profiles.groupby("collection", sort=True)
    medians = grouped[there].median(numeric_only=True).round(3)
    return grouped.size().rename("volumes").to_frame().join(medians).reset_index()


def _told(outliers: Any, rows: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "collection": one.collection,
                "volume": str(rows.at[one.index, "volume"])[:10],
                "reasons": "; ".join(one.reasons),
            }
            for one in outliers
        ]
    )
