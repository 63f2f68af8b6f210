"""Who the volumes belong to: the subjects of an arrival, in obs_meta."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from pathlib import Path

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest.settings import settings_version
from radiobject_assets.platform.assets import asset_pages
from radiobject_assets.platform.assets.arrival import plan_of
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
            find_subject_tables,
            read_subject_tables,
            subject_tables_among,
            write_subjects,
        )
        from radiobject_assets.ingest.refused import refused_subjects
        from radiobject_assets.store import ensure_store, hold_pseudonyms

        key = context.partition_key
        with shielded(dataset.work.arrival(key)):
            config = dataset.config
            with measuring(memory.budget()) as measurement:
                folder = dataset.landing(storage).held(key).place
                plan = plan_of(dataset, storage, key)
                paths = find_subject_tables(folder, config.subjects)
                paths += subject_tables_among((item.path for item in plan.unreadable), config.subjects)
                release = release_of(config)
                ensure_store(config.store_uri, ctx=storage.ctx)
                refused = refused_subjects(config, config.store_uri, storage.ctx)
                told = read_subject_tables(paths, config.subjects, release, refused.refuses)
                table = told.rows
                _note_left_out(dataset.work.arrival(key), told.left_out)
                imaged = sorted({p.subject_id for p in plan.selected(None)})
                # the type is given, because an empty column would not merge with text
                images = pd.DataFrame({"obs_subject_id": pd.Series(imaged, dtype="str")})
                rows = images.merge(table, how="outer", on="obs_subject_id")
                hold_pseudonyms(config.store_uri, release.mark, ctx=storage.ctx)
                write_subjects(config.store_uri, imaged, table, storage.ctx)
            described = set(table["obs_subject_id"])
            rare = {
                "without_images": len(described - set(imaged)),
                "not_in_the_table": len(set(imaged) - described) if described else 0,
                "columns_left_out": len(told.left_out),
            }
            more = in_words(
                {"with images": len(imaged), **{name.replace("_", " "): n for name, n in rare.items()}}
            )
            summary = some(len(rows), "subject") + (f", {more}" if more else "")
            context.log.info(summary)
            return dg.MaterializeResult(
                data_version=dg.DataVersion(data_version_of(rows.to_dict(orient="records"))),
                metadata={
                    "summary": summary,
                    "subjects": len(rows),
                    "with_images": len(imaged),
                    **unusual(rare),
                    "columns": ", ".join(str(column) for column in rows.columns),
                    **({"left_out": told.told} if told.told else {}),
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
