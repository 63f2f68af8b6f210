"""Who is trained on and who is tested on: the asset `splits`."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from functools import partial
from typing import Any

import dagster as dg
import pandas as pd

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.ingest.dataset_release import release_of
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
from radiobject_assets.store import ASSIGNED_SPLIT, RadiObject, update_subjects, whole_state
from radiobject_assets.training.split_assignment import Division, divide_subjects, subject_token
from radiobject_assets.training.split_by_hand import read_division_by_hand
from radiobject_assets.training.split_facts import PAIRING_COLUMNS, subject_facts, trainable_subjects

_RECOVERY = "Materialize dataset, then this again. Nobody's split was changed."


def current_splits(tables: WorkingTables) -> pd.DataFrame:
    """The subjects of the latest snapshot: `obs_subject_id`, `split`, `groups` (a JSON list), `is_trainable`.

    Raises
    ------
    MissingError
        Nobody was divided yet.
    """
    rows = tables.frame(tables.splits)
    rows = rows[rows["is_current"].astype(bool)].reset_index(drop=True)
    if "groups" not in rows:  # written before there were any
        rows = rows.assign(groups="[]", is_trainable=True)
    texts = ["obs_subject_id", "split", "groups"]  # a table without rows has columns of no type
    return rows[texts].astype("str").assign(is_trainable=rows["is_trainable"].astype(bool))


def build_splits(settings: DatasetSettings) -> dg.AssetsDefinition:
    """The asset `splits`: a split for each subject of the snapshot, never moved once training used it."""

    @dg.asset(
        key=asset_key(settings, "splits"),
        deps=[asset_key(settings, "dataset")],
        group_name=TRAINING_GROUP,
        kinds={"parquet"},
        owners=settings.owners,
        code_version=f"2-{data_version_of([settings.split.model_dump(mode='json')])[:12]}",
        description="Subjects divided into "
        + ", ".join(f"{name} {share:.0%}" for name, share in settings.split.shares.items())
        + ". Whom training used once keeps the split for good; subjects of arrivals that failed their check "
        "are left out.",
    )
    def splits(
        dataset: DatasetResource, storage: StorageResource, memory: MemoryBudgetResource
    ) -> dg.MaterializeResult[None]:
        with shielded(dataset.work.root, _RECOVERY):
            config = dataset.config
            tables = dataset.tables(storage)
            with measuring(memory.budget()) as measurement:
                note = SnapshotNote.read(tables)
                columns = [
                    *PAIRING_COLUMNS,
                    *config.split.group_by,
                    *filter(None, [config.split.stratify_by]),
                ]
                rows = read_inventory(config.store_uri, snapshot=note.name, columns=columns, ctx=storage.ctx)
                distrusted = rows["arrival"].isin(note.distrusted_arrivals)
                left_out = set(rows.loc[distrusted, "obs_subject_id"])
                rows = rows[~rows["obs_subject_id"].isin(left_out)]
                subjects = RadiObject(config.store_uri, ctx=storage.ctx, timestamp=note.name).obs_meta.read()
                trainable = trainable_subjects(rows, config.patches)
                known = known_splits(dataset, storage)
                division = divide_subjects(
                    subject_facts(
                        rows["obs_subject_id"], config.split, subjects.reset_index(), rows, trainable
                    ),
                    config.split,
                    previous=known,
                    by_hand=_by_hand(config, set(subjects.reset_index()["obs_subject_id"])),
                    token=partial(
                        subject_token,
                        key=bytes.fromhex(whole_state(config.store_uri, ctx=storage.ctx).root_id),
                    ),
                )
                _keep(division.table, known, config.split.division, tables)
                _keep_in_store(division.table, config.store_uri, storage)
            assigned = division.table
            return dg.MaterializeResult(
                data_version=dg.DataVersion(
                    data_version_of(
                        [note.version, *assigned[["obs_subject_id", "split"]].to_dict(orient="records")]
                    )
                ),
                metadata={
                    "subjects": len(assigned),
                    "trainable": division.trainable,
                    "left_out": len(left_out),
                    **_counts(division, config),
                    "moved_by_hand": division.moved_by_hand,
                    "moved_when_usable": division.moved_when_usable,
                    **({"empty_splits": ", ".join(division.empty)} if division.empty else {}),
                    "snapshot": note.name,
                    "file": dg.MetadataValue.path(tables.where(tables.splits)),
                    **measurement.metadata(),
                },
            )

    return splits


def _counts(division: Division, config: DatasetSettings) -> dict[str, Any]:
    rows = division.table
    counts = {name: int((rows["split"] == name).sum()) for name in config.split.shares}
    usable = [int(rows.loc[rows["split"] == name, "is_trainable"].sum()) for name in counts]
    shown = counted(counts).rename(columns={"what": "split", "count": "subjects"})
    return {
        **{f"n_{name}": count for name, count in counts.items()},
        "split": table(shown.assign(trainable=usable)),
    }


def _by_hand(config: DatasetSettings, subjects: set[str]) -> dict[str, str]:
    """The table of `split.by_hand`; where subjects are pseudonyms it may have either name of them."""
    if config.split.by_hand is None:
        return {}
    found = read_division_by_hand(config.folder / config.split.by_hand, config.split.shares)
    if config.subjects.key != "pseudonym":
        return found
    release = release_of(config)
    return {name if name in subjects else release.subject(name): split for name, split in found.items()}


def known_splits(dataset: DatasetResource, storage: StorageResource) -> pd.DataFrame | None:
    """Everybody who was ever divided; where that table was lost, whom the store itself knows as divided."""
    tables = dataset.tables(storage)
    if tables.has(tables.splits):
        rows = tables.frame(tables.splits)
        return rows if _division_of(rows) == dataset.config.split.division else None
    subjects = RadiObject(dataset.config.store_uri, ctx=storage.ctx).obs_meta.read().reset_index()
    if ASSIGNED_SPLIT not in subjects:
        return None
    there = subjects[subjects[ASSIGNED_SPLIT].notna()]
    return there[["obs_subject_id", ASSIGNED_SPLIT]].rename(columns={ASSIGNED_SPLIT: "split"})


def _division_of(rows: pd.DataFrame) -> int:
    return int(rows["division"].max()) if "division" in rows and len(rows) else 1


def _keep(assigned: pd.DataFrame, known: pd.DataFrame | None, division: int, tables: WorkingTables) -> None:
    # Everybody who was ever placed stays in the table: who leaves and comes back must not change sides.
    rows = assigned.assign(is_current=True)
    if known is not None:
        gone = known[~known["obs_subject_id"].isin(assigned["obs_subject_id"])]
        rows = pd.concat([rows, gone.assign(is_current=False)], ignore_index=True)
    rows = rows.assign(division=division)
    tables.put_frame(tables.splits, rows.sort_values("obs_subject_id", ignore_index=True))


def _keep_in_store(assigned: pd.DataFrame, store_uri: str, storage: StorageResource) -> None:
    # The table beside the store may be lost with its folder; obs_meta goes where the volumes go, and whoever
    # is erased is gone from it. What is there already is not written again.
    if not assigned["is_firm"].any():
        return
    rows = assigned[["obs_subject_id"]].assign(
        **{ASSIGNED_SPLIT: assigned["split"].where(assigned["is_firm"], None)}
    )
    update_subjects(store_uri, rows, ctx=storage.ctx)
