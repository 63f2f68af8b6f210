"""Who is trained on and who is tested on: the asset `splits`."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import NotMadeYetError
from radiobject_assets.platform.assets import asset_pages
from radiobject_assets.platform.assets.materialization_metadata import (
    counted,
    data_version_of,
    measuring,
    some,
    table,
    unusual,
)
from radiobject_assets.platform.assets.partitions import TRAINING_GROUP, asset_key
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.assets.snapshot import SnapshotNote
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import (
    DatasetResource,
    MemoryBudgetResource,
    StorageResource,
    WorkingTables,
)
from radiobject_assets.training.recipe_versions import by_hand_version, split_version

if TYPE_CHECKING:
    import pandas as pd

    from radiobject_assets.training.split_assignment import Division

BY_HAND_METADATA = "by_hand_version"
"""Metadata of `splits`: which content of `split.by_hand` it was made from."""


@dataclass(frozen=True)
class PinnedSplits:
    """A division with what was divided, read as one."""

    rows: "pd.DataFrame"
    """As `current_splits`."""
    snapshot: str
    """Name of the snapshot; empty in tables of before it was noted."""
    distrusted_arrivals: tuple[str, ...]
    """Arrivals whose subjects were left out."""

    @property
    def digest(self) -> str:
        """Of who is where, and of the snapshot."""
        pairs = self.rows[["obs_subject_id", "split"]].to_dict(orient="records")
        return data_version_of([self.snapshot, *pairs])


def current_splits(tables: WorkingTables) -> "pd.DataFrame":
    """The subjects of the latest division: `obs_subject_id`, `split`, `groups` (a JSON list), `is_trainable`.

    Raises
    ------
    NotMadeYetError
        Nobody was divided yet, or the table is gone.
    """
    return pinned_splits(tables).rows


def pinned_splits(tables: WorkingTables) -> PinnedSplits:
    """The latest division, with the snapshot that it is of: that a newer one was made meanwhile changes
    nothing here.

    Raises
    ------
    NotMadeYetError
        Nobody was divided yet, or the table is gone.
    """
    if not tables.has(tables.splits):
        raise NotMadeYetError(
            "there is no table of splits",
            public="the table of splits is not there: none was made yet, or it was deleted",
            advice="Materialize splits. Who was placed before keeps the split, which the store remembers.",
        )
    everybody = tables.frame(tables.splits)
    rows = everybody[everybody["is_current"].astype(bool)].reset_index(drop=True)
    if "groups" not in rows:  # written before there were any
        rows = rows.assign(groups="[]", is_trainable=True)
    texts = ["obs_subject_id", "split", "groups"]  # a table without rows has columns of no type
    known = rows[texts].astype("str").assign(is_trainable=rows["is_trainable"].astype(bool))
    if "snapshot" not in everybody or everybody.empty:
        return PinnedSplits(known, "", ())
    first = everybody.iloc[0]  # all say the same
    return PinnedSplits(known, str(first["snapshot"]), tuple(json.loads(first["distrusted"])))


def build_splits(settings: DatasetSettings) -> dg.AssetsDefinition:
    """The asset `splits`: a split for each subject of the snapshot, never moved once training used it."""

    @dg.asset(
        key=asset_key(settings, "splits"),
        deps=[asset_key(settings, "dataset")],
        group_name=TRAINING_GROUP,
        kinds={"parquet"},
        owners=settings.owners,
        code_version=split_version(settings),
        description=asset_pages.of_splits(settings),
    )
    @with_own_resources(settings)
    def splits(
        context: dg.AssetExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.MaterializeResult[None]:
        from radiobject_assets.curation.divided_snapshot import DividedSnapshot, divide_snapshot
        from radiobject_assets.curation.kept import keep_snapshot

        with shielded(dataset.work.root):
            config = dataset.config
            tables = dataset.tables(storage)
            with measuring(memory.budget()) as measurement:
                note = SnapshotNote.read(tables)
                by_hand = by_hand_version(config)  # before it is read: what comes meanwhile is news
                done: list[DividedSnapshot] = []

                def divide(known: "pd.DataFrame | None") -> "pd.DataFrame":
                    done.append(
                        divide_snapshot(
                            config,
                            note.name,
                            known=known,
                            distrusted_arrivals=note.distrusted_arrivals,
                            ctx=storage.ctx,
                        )
                    )
                    return done[-1].kept

                tables.change_frame(tables.splits, divide)
                divided = done[-1]
                kept = keep_snapshot(
                    tables.storage,
                    config.store_uri,
                    note.name,
                    splits=divided.firm,
                    settings=config,
                    ctx=storage.ctx,
                )
            division = divided.division
            pairs = division.table[["obs_subject_id", "split"]].to_dict(orient="records")
            sides = division.table["split"].value_counts()
            summary = f"{some(len(division.table), 'subject')}: " + ", ".join(
                f"{name} {sides.get(name, 0)}" for name in config.split.shares
            )
            context.log.info(summary)
            return dg.MaterializeResult(
                data_version=dg.DataVersion(data_version_of([note.version, *pairs])),
                metadata={
                    "summary": summary,
                    "subjects": len(division.table),
                    **_counts(division, config),
                    "trainable": division.trainable,
                    **unusual(
                        {
                            "left_out": divided.left_out,
                            "moved_by_hand": division.moved_by_hand,
                            "moved_when_usable": division.moved_when_usable,
                        }
                    ),
                    **({"empty_splits": ", ".join(division.empty)} if division.empty else {}),
                    **({BY_HAND_METADATA: by_hand} if by_hand else {}),
                    "snapshot": note.name,
                    "card": dg.MetadataValue.md(kept.cards.markdown),
                    "manifest": dg.MetadataValue.path(tables.where(kept.manifest)),
                    "manifest_digest": kept.cards.digests.digest,
                    "file": dg.MetadataValue.path(tables.where(tables.splits)),
                    **measurement.metadata(),
                },
            )

    return splits


def _counts(division: "Division", config: DatasetSettings) -> dict[str, Any]:
    rows = division.table
    counts = {name: int((rows["split"] == name).sum()) for name in config.split.shares}
    usable = [int(rows.loc[rows["split"] == name, "is_trainable"].sum()) for name in counts]
    shown = counted(counts).rename(columns={"what": "split", "count": "subjects"})
    return {
        **{f"n_{name}": count for name, count in counts.items()},
        "split": table(shown.assign(trainable=usable)),
    }
