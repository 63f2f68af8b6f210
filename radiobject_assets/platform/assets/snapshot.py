"""The data set as it is now: the asset `dataset`, a snapshot that training pins."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import NotMadeYetError
from radiobject_assets.platform.arrivals.arrival_table import ArrivalTable
from radiobject_assets.platform.assets import asset_pages
from radiobject_assets.platform.assets.collections import unsound
from radiobject_assets.platform.assets.history import failed_arrivals
from radiobject_assets.platform.assets.materialization_metadata import (
    counted,
    in_words,
    measuring,
    table,
    unusual,
)
from radiobject_assets.platform.assets.partitions import (
    STORE_GROUP,
    asset_key,
    collection_names,
    every_arrival,
)
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import (
    DatasetResource,
    MemoryBudgetResource,
    StorageResource,
    WorkingTables,
)

if TYPE_CHECKING:
    from radiobject_assets.curation.kept import KeptSnapshot
    from radiobject_assets.store import Snapshot

LONGEST_WAIT_S = 900.0
"""No news waits longer than that: where something arrives all the time, there must be snapshots as well."""


@dataclass(frozen=True)
class SnapshotNote:
    """What the assets after `dataset` need to know of the snapshot that it made."""

    name: str
    timestamp_ms: int
    digest: str
    counts: dict[str, int]
    distrusted_arrivals: tuple[str, ...] = ()
    """Arrivals whose integrity check failed: their subjects are kept out of the splits."""

    @property
    def version(self) -> str:
        """Data version: what is in it, and what of that is trusted."""
        return "-".join([self.digest, *self.distrusted_arrivals])

    def write(self, tables: WorkingTables) -> None:
        """Keep the note; an interrupted write leaves the old one."""
        tables.put_text(tables.snapshot, json.dumps(asdict(self), indent=2))

    @classmethod
    def read(cls, tables: WorkingTables) -> "SnapshotNote":
        """The note that `dataset` kept.

        Raises
        ------
        NotMadeYetError
            There is none.
        """
        if not tables.has(tables.snapshot):
            raise NotMadeYetError(
                "there is no snapshot",
                public="no snapshot is known: none was made yet, or its note is gone",
                advice="Materialize dataset; the same content gives the same snapshot again.",
            )
        content = json.loads(tables.text(tables.snapshot))
        return cls(**{**content, "distrusted_arrivals": tuple(content["distrusted_arrivals"])})


def build_dataset(settings: DatasetSettings) -> dg.AssetsDefinition:
    """The asset `dataset`: a snapshot of everything that is committed."""

    @dg.asset(
        key=asset_key(settings, "dataset"),
        deps=[every_arrival(asset_key(settings, name)) for name in (*collection_names(settings), "subjects")],
        group_name=STORE_GROUP,
        kinds={"tiledb", "snapshot"},
        owners=settings.owners,
        code_version="2",
        description=asset_pages.DATASET,
    )
    @with_own_resources(settings)
    def snapshot(
        context: dg.AssetExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.MaterializeResult[None]:
        from radiobject_assets.curation.kept import keep_snapshot, renew_manifests
        from radiobject_assets.diagnostics.snapshot_rules import SET_ASIDE
        from radiobject_assets.store import create_snapshot, describe_state, ensure_store, list_snapshots

        with shielded(dataset.work.root):
            uri = dataset.config.store_uri
            with measuring(memory.budget()) as measurement:
                names = collection_names(dataset.config)
                failed = failed_arrivals(context.instance, [asset_key(settings, name) for name in names])
                tables = dataset.tables(storage)
                # of arrivals that share a partition it is known of each: its latest check may be of others
                shared = {row.partition for row in ArrivalTable(tables).rows.values()}
                found = {key for name in names for key in unsound(tables, name)}
                distrusted = sorted(found | (set(failed) - shared))
                ensure_store(uri, ctx=storage.ctx)
                named = list_snapshots(uri, ctx=storage.ctx)
                # what doctor set aside is kept there, and is nothing to train on
                earlier = [one for one in named if not one.name.startswith(SET_ASIDE)]
                _, digest = describe_state(uri, None, storage.ctx)
                is_new = (
                    not earlier
                    or earlier[-1].digest != digest
                    or not _has_arrays_of_today(uri, earlier[-1].name, storage)
                )
                made = create_snapshot(uri, _next_name(named), ctx=storage.ctx) if is_new else earlier[-1]
                note = SnapshotNote(
                    made.name, int(made.timestamp_ms), made.digest, dict(made.counts), tuple(distrusted)
                )
                note.write(tables)
                kept = keep_snapshot(
                    tables.storage,
                    uri,
                    note.name,
                    before=earlier[-1 if is_new else -2].name if len(earlier) > (not is_new) else None,
                    settings=dataset.config,
                    ctx=storage.ctx,
                )
                renew_manifests(tables.storage, uri, settings=dataset.config, ctx=storage.ctx)
            # of an earlier dataset.yaml, or written by others: nothing keeps them up to date
            unlisted = sorted(note.counts.keys() - {"subjects", *dataset.config.collections})
            counts = {"subjects": note.counts.get("subjects", 0), **note.counts}
            summary = f"{note.name}: {in_words(counts) or 'nothing yet'}"
            summary += "" if is_new else "; nothing changed since it was made"
            context.log.info(summary)
            return dg.MaterializeResult(
                data_version=dg.DataVersion(note.version),
                metadata={
                    "summary": summary,
                    "snapshot": note.name,
                    **{f"n_{name}": count for name, count in counts.items()},
                    **unusual({"distrusted_arrivals": len(distrusted)}),
                    **_told(kept, tables),
                    **(
                        {"not_in_dataset_yaml": ", ".join(unlisted)}
                        if unlisted and not dataset.config.collects_by_modality
                        else {}
                    ),
                    **measurement.metadata(),
                    "taken_at": dg.MetadataValue.timestamp(note.timestamp_ms / 1000),
                    "digest": note.digest,
                    "store": dg.MetadataValue.text(uri),
                },
            )

    return snapshot


def _has_arrays_of_today(uri: str, snapshot: str, storage: StorageResource) -> bool:
    """Whether a snapshot of the same content names the same arrays: they may be laid out or written anew."""
    from radiobject_assets.diagnostics.inventory import read_inventory

    then, now = (
        set(read_inventory(uri, columns=[], snapshot=name, ctx=storage.ctx)["volume"])
        for name in (snapshot, None)
    )
    return then == now


def _told(kept: "KeptSnapshot", tables: WorkingTables) -> dict[str, Any]:
    """The manifest, the card, and what changed since the snapshot before."""
    changes = kept.changes
    return {
        **(
            {
                "changes_since": kept.before,
                "changes": table(counted(changes.counts)),
                **unusual(changes.counts),
            }
            if changes is not None
            else {}
        ),
        "card": dg.MetadataValue.md(kept.cards.markdown),
        "manifest": dg.MetadataValue.path(tables.where(kept.manifest)),
        "manifest_digest": kept.cards.digests.digest,
        "content_digest": kept.cards.digests.content,
    }


def _next_name(earlier: "Sequence[Snapshot]") -> str:
    taken = {item.name for item in earlier}
    number = len(taken) + 1
    while f"snapshot-{number:04d}" in taken:
        number += 1
    return f"snapshot-{number:04d}"
