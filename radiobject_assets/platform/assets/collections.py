"""One asset for each collection of dataset.yaml: its volumes of one arrival, in the store."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import dagster as dg

from radiobject_assets.dataset.collection_section import CollectionConfig
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest.settings import settings_version
from radiobject_assets.platform.arrivals.arrival_table import vanished
from radiobject_assets.platform.assets.arrival import plan_of
from radiobject_assets.platform.assets.history import has_failed
from radiobject_assets.platform.assets.materialization_metadata import content_digest, measuring, table
from radiobject_assets.platform.assets.partitions import (
    ALL_VOLUMES,
    STORE_GROUP,
    arrival_partitions,
    asset_key,
    collection_names,
)
from radiobject_assets.platform.assets.pictures import preview_metadata
from radiobject_assets.platform.assets.privacy import public_outcomes, shielded
from radiobject_assets.platform.memory_pool import MEMORY_POOL
from radiobject_assets.resources import (
    ComputeResource,
    DatasetResource,
    MemoryBudgetResource,
    StorageResource,
    WorkingTables,
)

if TYPE_CHECKING:
    import pandas as pd

    from radiobject_assets.ingest.labels_on_images.waiting import WaitingLabels


def build_collections(settings: DatasetSettings) -> list[dg.AssetsDefinition]:
    """The collection assets of a data set."""
    return [_build_collection(settings, name) for name in collection_names(settings)]


def waiting_by_arrival(
    tables: WorkingTables, collections: Collection[str]
) -> "dict[str, tuple[WaitingLabels, ...]]":
    """The labels of these collections that wait for their image, by the key of their arrival."""
    from radiobject_assets.ingest.labels_on_images.waiting import labels_of_rows

    found: dict[str, tuple[WaitingLabels, ...]] = {}
    names = [name for name in tables.below(tables.waiting_folder) if PurePosixPath(name).stem in collections]
    for name, rows in tables.frames(names):
        arrival = PurePosixPath(name).parent.name
        found[arrival] = found.get(arrival, ()) + labels_of_rows(rows)
    return found


def kept_outcomes(tables: WorkingTables, arrival: str, collection: str) -> "pd.DataFrame | None":
    """What was kept of an arrival's series of one collection; None where nothing was."""
    name = tables.outcomes(arrival, collection)
    return tables.frame(name) if tables.has(name) else None


def unsound(tables: WorkingTables, collection: str) -> set[str]:
    """Arrivals of which the standing verification found a volume unsound."""
    from radiobject_assets.diagnostics.verification_portions import unsound_arrivals

    name = tables.verified(collection)
    return unsound_arrivals(tables.frame(name)) if tables.has(name) else set()


def _build_collection(settings: DatasetSettings, name: str) -> dg.AssetsDefinition:
    collection = settings.collections.get(name)
    image_of_labels = collection.labels_of if collection is not None else None
    selected = None if name == ALL_VOLUMES and collection is None else [name]

    @dg.asset(
        key=asset_key(settings, name),
        partitions_def=arrival_partitions(settings),
        # labels are laid on the grid of their image, which must be in the store before them
        deps=[asset_key(settings, upstream) for upstream in ("series", image_of_labels) if upstream],
        group_name=STORE_GROUP,
        kinds={"tiledb", _kind(collection)},
        pool=MEMORY_POOL,
        owners=settings.owners,
        code_version=f"1-{settings_version(settings)}",
        tags={"radiobject/kind": collection.kind} if collection else {},
        description=_description(name, collection),
    )
    def volumes(
        context: dg.AssetExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
        compute: ComputeResource,
    ) -> dg.MaterializeResult[None]:
        from radiobject_assets.diagnostics.integrity_rules import withdraw_unsound
        from radiobject_assets.diagnostics.inventory import read_inventory
        from radiobject_assets.diagnostics.row_digests import with_row_digests
        from radiobject_assets.diagnostics.verification_portions import looked_at_anew
        from radiobject_assets.ingest.dataset_release import release_of
        from radiobject_assets.ingest.labels_on_images.waiting import waiting_labels, waiting_rows
        from radiobject_assets.ingest.report import outcomes_table
        from radiobject_assets.ingest.run import run_ingest
        from radiobject_assets.ingest.stored.moved import withdraw_moved
        from radiobject_assets.store import ensure_store, hold_pseudonyms

        key = context.partition_key
        with shielded(dataset.work.arrival(key)):
            config = dataset.config
            with measuring(memory.budget()) as measurement:
                ensure_store(config.store_uri, ctx=storage.ctx)
                hold_pseudonyms(config.store_uri, release_of(config).mark, ctx=storage.ctx)
                zone = dataset.landing(storage)
                zone.held(key)  # on S3, copies make room for each other
                plan = plan_of(dataset, storage, key)
                tables = dataset.tables(storage)
                earlier = kept_outcomes(tables, key, name)
                withdrawn = 0
                if has_failed(context.instance, context.asset_key, key) or key in unsound(tables, name):
                    withdrawn = withdraw_unsound(
                        config.store_uri,
                        selected,
                        arrival=key,
                        can_be_made=plan.obs_ids_with_files(),
                        outcomes=earlier,
                        ctx=storage.ctx,
                    )
                    if tables.has(tables.verified(name)):
                        # the check on this partition says next whether it is sound now
                        table_of = tables.frame(tables.verified(name))
                        tables.put_frame(tables.verified(name), looked_at_anew(table_of, key))
                report = run_ingest(
                    plan,
                    config.store_uri,
                    collections=selected,
                    present=zone.keys() - vanished(tables),
                    budget=memory.budget(),
                    compute=compute.compute(),
                )
                moved = withdraw_moved(plan, config.store_uri, selected, storage.ctx)
                waiting = waiting_labels(plan, report.outcomes, selected)
                if waiting:
                    tables.put_frame(tables.waiting(key, name), waiting_rows(waiting))
                else:
                    tables.remove(tables.waiting(key, name))
            outcomes = [o for o in report.outcomes if selected is None or o.collection in selected]
            named = config.subjects.key != "pseudonym"
            kept = outcomes_table(outcomes, identifiers=True, sources=named)
            rows = read_inventory(config.store_uri, collections=selected, arrival=key, ctx=storage.ctx)
            tables.put_frame(tables.outcomes(key, name), with_row_digests(kept, rows, earlier))
            counts = report.counts
            return dg.MaterializeResult(
                data_version=dg.DataVersion(content_digest(config.store_uri, selected, key, storage.ctx)),
                metadata={
                    "volumes": len(rows),
                    "written": counts["written"],
                    "updated": counts["updated"],
                    "unchanged": counts["unchanged"],
                    "withdrawn": withdrawn + moved.withdrawn,
                    "quarantined": sum(o.status == "quarantined" for o in outcomes),
                    "quarantined_but_stored": moved.in_doubt,
                    "waiting_for_their_image": len(waiting),
                    "bytes": int(rows["voxel_bytes"].sum()),
                    "stored_bytes": int(rows["stored_bytes"].sum()),
                    "store": dg.MetadataValue.text(config.store_uri),
                    **preview_metadata(
                        config.store_uri, selected, key, dataset.work.preview(name, key), storage.ctx
                    ),
                    "series": table(public_outcomes(outcomes)),
                    **measurement.metadata(),
                },
            )

    return volumes


def _kind(collection: CollectionConfig | None) -> str:
    if collection is None:
        return "volume"
    if collection.kind == "labels":
        return "labels"
    modalities = collection.match.modalities
    return modalities[0].lower() if len(modalities) == 1 else "volume"


def _description(name: str, collection: CollectionConfig | None) -> str:
    if collection is None:
        return "The volumes of an arrival, each in the collection that is named after its modality."
    if collection.description:
        return collection.description
    if collection.kind == "labels":
        return (
            f"Label volumes of an arrival{f' for `{collection.labels_of}`' if collection.labels_of else ''}."
        )
    return f"Image volumes of an arrival that belong to `{name}`."
