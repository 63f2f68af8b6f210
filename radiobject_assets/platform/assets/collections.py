"""One asset for each collection of dataset.yaml: its volumes of one arrival, in the store."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import dagster as dg

from radiobject_assets.dataset.collection_section import CollectionConfig
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest.settings import settings_version
from radiobject_assets.platform.arrivals.arrival_table import vanished
from radiobject_assets.platform.assets import asset_pages
from radiobject_assets.platform.assets.arrival import plan_of
from radiobject_assets.platform.assets.arrivals_of_run import arrivals_of, how_many, of_each
from radiobject_assets.platform.assets.history import has_failed
from radiobject_assets.platform.assets.materialization_metadata import (
    content_digest,
    in_words,
    measuring,
    megabytes,
    some,
    table,
    unusual,
    with_unit,
)
from radiobject_assets.platform.assets.partitions import (
    ALL_VOLUMES,
    STORE_GROUP,
    arrival_partitions,
    asset_key,
    collection_names,
)
from radiobject_assets.platform.assets.pictures import preview_metadata
from radiobject_assets.platform.assets.privacy import shielded, shown_outcomes
from radiobject_assets.platform.memory_pool import MEMORY_POOL
from radiobject_assets.platform.own_names import with_own_resources
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
    from radiobject_assets.ingest.report import SeriesOutcome

_UNSOUND = "unsound"


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


def holders_of_copies(
    tables: WorkingTables, asset: str, made: "Mapping[str, Sequence[SeriesOutcome]]", collection: str
) -> dict[tuple[str, str], set[str]]:
    """Arrivals that have copies of volumes which another brought: by subject and id, for one collection.

    Parameters
    ----------
    asset
        Name of the asset that keeps the collection: its own, or that of all volumes.
    made
        What became of the arrivals of this run that have had their turn: that is kept at its end.
    """
    from radiobject_assets.ingest.stored.recognised import COPY

    found: dict[tuple[str, str], set[str]] = {}
    for name in tables.below("arrivals"):
        arrival = PurePosixPath(name).parent.name
        if name != tables.copies(arrival, asset):
            continue
        rows = kept_outcomes(tables, arrival, asset)
        if rows is None:
            continue
        copies = rows.loc[
            (rows["detail"] == COPY) & (rows["collection"] == collection), ["subject_id", "obs_id"]
        ]
        for subject, obs_id in copies.itertuples(index=False):
            found.setdefault((str(subject), str(obs_id)), set()).add(arrival)
    for arrival, outcomes in made.items():
        for outcome in outcomes:
            if outcome.detail == COPY and outcome.collection == collection:
                found.setdefault((outcome.subject_id, str(outcome.obs_id)), set()).add(arrival)
    return found


def unsound(tables: WorkingTables, collection: str) -> set[str]:
    """Arrivals of which a volume was found unsound: by the standing verification, or in their own run."""
    from radiobject_assets.diagnostics.verification_portions import unsound_arrivals

    name = tables.verified(collection)
    marked = {name.rpartition("/")[2] for name in tables.below(f"{_UNSOUND}/{collection}")}
    return marked | (unsound_arrivals(tables.frame(name)) if tables.has(name) else set())


def note_sound(
    tables: WorkingTables, collection: str, arrivals: Collection[str], found_unsound: Collection[str]
) -> None:
    """Keep what the check in a run found of its arrivals, until they are looked at again.

    Dagster remembers one evaluation for each partition, and several arrivals may share it.
    """
    known = set(tables.below(f"{_UNSOUND}/{collection}"))
    for key in arrivals:
        name = f"{_UNSOUND}/{collection}/{key}"
        if key in found_unsound:
            tables.put_text(name, "")
        elif name in known:
            tables.remove(name)


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
        description=asset_pages.of_collection(settings, name),
    )
    @with_own_resources(settings)
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
        from radiobject_assets.ingest.stored.recognised import COPY
        from radiobject_assets.ingest.together import divided, independent, joined
        from radiobject_assets.store import ensure_store, hold_pseudonyms

        tables = dataset.tables(storage)
        run = arrivals_of(context.partition_key, context.run.tags, tables)
        with shielded(dataset.work.arrival(run.partition)):
            config = dataset.config
            uri = config.store_uri
            with measuring(memory.budget()) as measurement:
                ensure_store(uri, ctx=storage.ctx)
                hold_pseudonyms(uri, release_of(config).mark, ctx=storage.ctx)
                zone = dataset.landing(storage)
                there = zone.those_of(run.keys)
                of_each(dataset, run.keys, lambda key: zone.held(there.get(key, key)))
                plans = of_each(dataset, run.keys, lambda key: plan_of(dataset, storage, key))
                earlier = {key: kept_outcomes(tables, key, name) for key in run.keys}
                doubted = unsound(tables, name)
                if has_failed(context.instance, context.asset_key, run.partition):
                    doubted |= {run.partition}
                withdrawn = 0
                for key in doubted.intersection(run.keys):
                    withdrawn += withdraw_unsound(
                        uri,
                        selected,
                        arrival=key,
                        can_be_made=plans[key].obs_ids_with_files(),
                        outcomes=earlier[key],
                        ctx=storage.ctx,
                    )
                    if tables.has(tables.verified(name)):
                        # the check on this partition says next whether it is sound now
                        tables.change_frame(tables.verified(name), partial(looked_at_anew, arrival=key))
                present = zone.keys() - vanished(tables)
                made: dict[str, Sequence[SeriesOutcome]] = {}
                waits = in_doubt = 0
                for number, group in enumerate(independent([plans[key] for key in run.keys])):
                    keys = [run.keys[position] for position in group]
                    if number:  # what came before may have brought the images of these labels
                        plans |= {key: plan_of(dataset, storage, key) for key in keys}
                    own = [plans[key] for key in keys]
                    report = run_ingest(
                        joined(own),
                        uri,
                        collections=selected,
                        present=present,
                        refuse_forgotten=config.subjects.refuse_forgotten,
                        holders=partial(holders_of_copies, tables, name, dict(made)),
                        budget=memory.budget(),
                        compute=compute.compute(),
                    )
                    made |= {k: one.outcomes for k, one in zip(keys, divided(report, own), strict=True)}
                    for plan in own:
                        moved = withdraw_moved(plan, uri, selected, storage.ctx)
                        withdrawn += moved.withdrawn
                        in_doubt += moved.in_doubt
                for key, plan in plans.items():
                    waiting = waiting_labels(plan, made[key], selected)
                    waits += len(waiting)
                    if waiting:
                        tables.put_frame(tables.waiting(key, name), waiting_rows(waiting))
                    else:
                        tables.remove(tables.waiting(key, name))
            theirs = {
                key: [o for o in made[key] if selected is None or o.collection in selected]
                for key in run.keys
            }
            outcomes = [outcome for mine in theirs.values() for outcome in mine]
            named = config.subjects.key != "pseudonym"
            rows = read_inventory(uri, collections=selected, arrivals=run.all_keys, ctx=storage.ctx)
            for key, mine in theirs.items():
                if mine or earlier[key] is not None:  # most arrivals have nothing of most collections
                    kept = outcomes_table(mine, identifiers=True, sources=named)
                    own_rows = rows[rows["arrival"] == key]
                    tables.put_frame(
                        tables.outcomes(key, name), with_row_digests(kept, own_rows, earlier[key])
                    )
                    if any(outcome.detail == COPY for outcome in mine):
                        tables.put_text(tables.copies(key, name), "")
                    else:
                        tables.remove(tables.copies(key, name))
            counts = Counter(o.status for outcomes_of in made.values() for o in outcomes_of)
            n_bytes, n_stored = int(rows["voxel_bytes"].sum()), int(rows["stored_bytes"].sum())
            held = Counter(o.reason for o in outcomes if o.status == "quarantined")
            rare = {
                "updated": counts["updated"],
                "withdrawn": withdrawn,
                "quarantined_but_stored": in_doubt,
                "waiting_for_their_image": waits,
            }
            summary = in_words(
                {
                    "written": counts["written"],
                    "left as they were": counts["unchanged"],
                    **{what.replace("_", " "): count for what, count in rare.items()},
                    f"series quarantined ({', '.join(map(str, held))})": held.total(),
                }
            )
            summary = f"{some(len(rows), 'volume')}, {with_unit(n_bytes)}: {summary or 'nothing came'}"
            context.log.info(summary)
            return dg.MaterializeResult(
                data_version=dg.DataVersion(content_digest(uri, selected, run.all_keys, storage.ctx)),
                metadata={
                    "summary": summary,
                    **how_many(run),
                    **preview_metadata(
                        uri, selected, run.keys, dataset.work.preview(name, run.partition), storage.ctx
                    ),
                    "volumes": len(rows),
                    "quarantined": held.total(),
                    **unusual(rare),
                    "size": f"{with_unit(n_bytes)} of voxels take {with_unit(n_stored)} in the store",
                    **({"series": table(shown_outcomes(outcomes, name))} if outcomes else {}),
                    "voxels_mb": megabytes(n_bytes),
                    "stored_mb": megabytes(n_stored),
                    **measurement.metadata(),
                    "store": dg.MetadataValue.text(uri),
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
