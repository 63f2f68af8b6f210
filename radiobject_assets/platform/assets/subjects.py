"""Who the volumes belong to: the subjects of an arrival, in obs_meta."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest.settings import settings_version
from radiobject_assets.platform.assets import asset_pages
from radiobject_assets.platform.assets.arrival import plan_of
from radiobject_assets.platform.assets.arrivals_of_run import arrivals_of, how_many, of_each
from radiobject_assets.platform.assets.materialization_metadata import (
    data_version_of,
    in_words,
    measuring,
    some,
    unusual,
)
from radiobject_assets.platform.assets.partitions import STORE_GROUP, arrival_partitions, asset_key
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource

if TYPE_CHECKING:
    from radiobject_assets.ingest.naming.subject_table import SubjectTable
    from radiobject_assets.ingest.plan import IngestPlan


def build_subjects(settings: DatasetSettings) -> dg.AssetsDefinition:
    """The asset `subjects`: one row of obs_meta for each subject of an arrival."""

    @dg.asset(
        key=asset_key(settings, "subjects"),
        partitions_def=arrival_partitions(settings),
        deps=[asset_key(settings, "series")],
        group_name=STORE_GROUP,
        kinds={"tiledb", "table"},
        owners=settings.owners,
        code_version=f"1-{settings_version(settings)}",
        description=asset_pages.SUBJECTS,
    )
    @with_own_resources(settings)
    def subjects(
        context: dg.AssetExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.MaterializeResult[None]:
        import pandas as pd

        from radiobject_assets.ingest.dataset_release import release_of
        from radiobject_assets.ingest.naming.subject_table import (
            SubjectTable,
            find_subject_tables,
            in_turn,
            read_subject_tables,
            subject_tables_among,
            write_subjects,
        )
        from radiobject_assets.ingest.refused import refused_subjects
        from radiobject_assets.store import ensure_store, hold_pseudonyms

        run = arrivals_of(context.partition_key, context.run.tags, dataset.tables(storage))
        with shielded(dataset.work.arrival(run.partition)):
            config = dataset.config
            with measuring(memory.budget()) as measurement:
                zone = dataset.landing(storage)
                there = zone.those_of(run.keys)
                release = release_of(config)
                ensure_store(config.store_uri, ctx=storage.ctx)
                refused = refused_subjects(config, config.store_uri, storage.ctx)

                def read(key: str) -> "tuple[IngestPlan, SubjectTable]":
                    folder = zone.held(there.get(key, key)).place
                    plan = plan_of(dataset, storage, key)
                    paths = find_subject_tables(folder, config.subjects)
                    paths += subject_tables_among((item.path for item in plan.unreadable), config.subjects)
                    told = read_subject_tables(paths, config.subjects, release, refused.refuses)
                    _note_left_out(dataset.work.arrival(key), told.left_out)
                    return plan, told

                found = list(of_each(dataset, run.keys, read).values())
                imaged = sorted({p.subject_id for plan, _ in found for p in plan.selected(None)})
                tables = in_turn([told.rows for _, told in found])
                hold_pseudonyms(config.store_uri, release.mark, ctx=storage.ctx)
                for number, table in enumerate(tables):
                    write_subjects(config.store_uri, [] if number else imaged, table, storage.ctx)
                # the type is given, because an empty column would not merge with text
                images = pd.DataFrame({"obs_subject_id": pd.Series(imaged, dtype="str")})
                rows = images.merge(pd.concat(tables, ignore_index=True), how="outer", on="obs_subject_id")
            described = {str(one) for table in tables for one in table["obs_subject_id"]}
            all_told = SubjectTable(
                rows,
                tuple(heading for _, told in found for heading in told.left_out),
                sum(told.emptied for _, told in found),
            )
            rare = {
                "without_images": len(described - set(imaged)),
                "not_in_the_table": len(set(imaged) - described) if described else 0,
                "columns_left_out": len(all_told.left_out),
            }
            n_subjects = rows["obs_subject_id"].nunique()
            more = in_words(
                {"with images": len(imaged), **{name.replace("_", " "): n for name, n in rare.items()}}
            )
            summary = some(n_subjects, "subject") + (f", {more}" if more else "")
            context.log.info(summary)
            return dg.MaterializeResult(
                data_version=dg.DataVersion(data_version_of(rows.to_dict(orient="records"))),
                metadata={
                    "summary": summary,
                    **how_many(run),
                    "subjects": n_subjects,
                    "with_images": len(imaged),
                    **unusual(rare),
                    "columns": ", ".join(str(column) for column in rows.columns),
                    **({"left_out": all_told.told} if all_told.told else {}),
                    **measurement.metadata(),
                },
            )

    return subjects


def _note_left_out(folder: Path, headings: tuple[str, ...]) -> None:
    """Name the columns that were left out where it is as confidential as the landing zone."""
    note = folder / "columns-left-out.txt"
    if headings:
        note.write_text("\n".join(headings) + "\n", encoding="utf-8", errors="replace")
    else:
        note.unlink(missing_ok=True)
