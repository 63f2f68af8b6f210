"""Who is trained on and who is tested on: the asset `splits`."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.

from typing import TYPE_CHECKING

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import NotMadeYetError
from radiobject_assets.platform.assets.materialization_metadata import (
    counted,
    data_version_of,
    measuring,
    table,
)
from radiobject_assets.platform.assets.partitions import TRAINING_GROUP, asset_key
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.assets.snapshot import SnapshotNote
from radiobject_assets.resources import (
    DatasetResource,
    MemoryBudgetResource,
    StorageResource,
    WorkingTables,
)
from radiobject_assets.training.recipe_versions import split_version

if TYPE_CHECKING:
    import pandas as pd


def current_splits(tables: WorkingTables) -> "pd.DataFrame":
    """The subjects of the latest snapshot with their splits: columns `obs_subject_id`, `split`.

    Raises
    ------
    NotMadeYetError
        Nobody was given a split yet, or the table is gone.
    """
    if not tables.has(tables.splits):
        raise NotMadeYetError(
            "there is no table of splits",
            public="the table of splits is not there: none was made yet, or it was deleted",
            advice="If there is a copy of splits.parquet, put it back: who was placed keeps the side. Else "
            "materialize splits, which divides all subjects anew by `split` of dataset.yaml.",
        )
    rows = tables.frame(tables.splits)
    current = rows.loc[rows["is_current"].astype(bool), ["obs_subject_id", "split"]]
    return current.astype("str").reset_index(drop=True)  # a table without rows has columns of no type


def build_splits(settings: DatasetSettings) -> dg.AssetsDefinition:
    """The asset `splits`: a split for each subject of the snapshot, never moved once given."""

    @dg.asset(
        key=asset_key(settings, "splits"),
        deps=[asset_key(settings, "dataset")],
        group_name=TRAINING_GROUP,
        kinds={"parquet"},
        owners=settings.owners,
        code_version=split_version(settings.split),
        description="Subjects divided into "
        + ", ".join(f"{name} {share:.0%}" for name, share in settings.split.fractions.items())
        + ". A subject keeps its split for good; subjects of arrivals that failed their check are left out.",
    )
    def splits(
        dataset: DatasetResource, storage: StorageResource, memory: MemoryBudgetResource
    ) -> dg.MaterializeResult[None]:
        from radiobject_assets.diagnostics.inventory import read_inventory
        from radiobject_assets.training.split_assignment import assign_splits

        with shielded(dataset.work.root):
            config = dataset.config
            tables = dataset.tables(storage)
            with measuring(memory.budget()) as measurement:
                note = SnapshotNote.read(tables)
                rows = read_inventory(config.store_uri, snapshot=note.name, ctx=storage.ctx)
                distrusted = rows["arrival"].isin(note.distrusted_arrivals)
                left_out = set(rows.loc[distrusted, "obs_subject_id"])
                wanted = sorted(set(rows["obs_subject_id"]) - left_out)
                known = tables.frame(tables.splits) if tables.has(tables.splits) else None
                assigned = assign_splits(wanted, config.split, previous=known)
                _keep(assigned, known, tables)
            counts = {name: int((assigned["split"] == name).sum()) for name in config.split.fractions}
            return dg.MaterializeResult(
                data_version=dg.DataVersion(
                    data_version_of([note.version, *assigned.to_dict(orient="records")])
                ),
                metadata={
                    "subjects": len(assigned),
                    "left_out": len(left_out),
                    **{f"n_{name}": count for name, count in counts.items()},
                    "split": table(counted(counts)),
                    "snapshot": note.name,
                    "file": dg.MetadataValue.path(tables.where(tables.splits)),
                    **measurement.metadata(),
                },
            )

    return splits


def _keep(assigned: "pd.DataFrame", known: "pd.DataFrame | None", tables: WorkingTables) -> None:
    # Everybody who was ever placed stays in the table: who leaves and comes back must not change sides.
    import pandas as pd

    rows = assigned.assign(is_current=True)
    if known is not None:
        gone = known[~known["obs_subject_id"].isin(assigned["obs_subject_id"])]
        rows = pd.concat([rows, gone.assign(is_current=False)], ignore_index=True)
    tables.put_frame(tables.splits, rows.sort_values("obs_subject_id", ignore_index=True))
