"""What came in: the files of an arrival (`raw_dicom`), and the series that they form (`series`).

Headers are read once. `raw_dicom` keeps them as a table in the work folder, and everything after it plans
from that table.
"""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from radiobject_assets import __version__
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import NotMadeYetError
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason
from radiobject_assets.ingest.settings import scan_version, settings_version
from radiobject_assets.landing.local_zone import Arrival
from radiobject_assets.platform.arrivals.runs import SETTINGS_METADATA, VERSIONS_METADATA
from radiobject_assets.platform.assets import asset_pages
from radiobject_assets.platform.assets.arrivals_of_run import (
    ArrivalsOfRun,
    arrivals_of,
    how_many,
    of_each,
)
from radiobject_assets.platform.assets.materialization_metadata import (
    data_version_of,
    in_words,
    measuring,
    megabytes,
    some,
    table,
    unusual,
    with_unit,
)
from radiobject_assets.platform.assets.partitions import LANDING_GROUP, arrival_partitions, asset_key
from radiobject_assets.platform.assets.privacy import shielded, shown_outcomes
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import (
    DatasetResource,
    MemoryBudgetResource,
    StorageResource,
    WorkingTables,
)

if TYPE_CHECKING:
    import pandas as pd

    from radiobject_assets.imaging.scanning.scan import ScanResult
    from radiobject_assets.ingest.naming.doubtful_subjects import SubjectDoubt
    from radiobject_assets.ingest.plan import IngestPlan


def scan_of(tables: WorkingTables, key: str) -> "ScanResult":
    """The scan that `raw_dicom` kept for an arrival.

    Raises
    ------
    NotMadeYetError
        It kept none.
    """
    from radiobject_assets.imaging.scanning.scan import ScanResult

    if not tables.has(tables.scan(key)):
        raise NotMadeYetError(
            f"arrival {key}: there is no scan",
            public="the scan of this arrival is not there",
            advice="Materialize raw_dicom for this partition, then this again.",
        )
    return ScanResult.from_table(tables.arrow(tables.scan(key)))


def plan_of(dataset: DatasetResource, storage: StorageResource, key: str) -> "IngestPlan":
    """The plan for an arrival, from the kept scan: no file of the arrival is opened.

    Labels may belong to an image that came in earlier, so the store is asked for it. So it is for people who
    were forgotten after the scan was kept.
    """
    from radiobject_assets.ingest.plan import plan_ingest
    from radiobject_assets.ingest.refused import refused_subjects, without_refused
    from radiobject_assets.ingest.stored.holdings import images_for_labels

    config = dataset.config
    refused = refused_subjects(config, config.store_uri, storage.ctx)
    found = without_refused(scan_of(dataset.tables(storage), key), config, key, refused, Path(key))
    images = images_for_labels(config.store_uri, found)
    return plan_ingest(found, config, arrival=key, known_images=images)


def images_of(found: "ScanResult", arrival: Arrival, config: DatasetSettings) -> "ScanResult":
    """The scan without the files that are known to be no images: the marker and the subjects' tables."""
    from radiobject_assets.ingest.naming.subject_table import find_subject_tables

    marker = arrival.place / config.arrivals.complete_marker
    tables = set(find_subject_tables(arrival.place, config.subjects))
    kept = tuple(item for item in found.unreadable if item.path != marker and item.path not in tables)
    return replace(found, unreadable=kept)


def build_raw_dicom(settings: DatasetSettings) -> dg.AssetsDefinition:
    """The asset `raw_dicom`: every file of an arrival, by content."""

    @dg.asset(
        key=asset_key(settings, "raw_dicom"),
        partitions_def=arrival_partitions(settings),
        group_name=LANDING_GROUP,
        kinds={"dicom", "nifti"},
        owners=settings.owners,
        code_version=f"1-{scan_version(settings)}",
        description=asset_pages.RAW_DICOM,
    )
    @with_own_resources(settings)
    def raw_dicom(
        context: dg.AssetExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.MaterializeResult[None]:
        from radiobject_assets.ingest.dataset_release import release_of
        from radiobject_assets.ingest.kept_scan import scan_again, to_keep
        from radiobject_assets.ingest.refused import refused_subjects, without_refused

        tables = dataset.tables(storage)
        run = arrivals_of(context.partition_key, context.run.tags, tables)
        with shielded(dataset.work.arrival(run.partition)):
            zone = dataset.landing(storage)
            there = zone.those_of(run.keys)
            version = f"{__version__} {scan_version(dataset.config)}"
            refused = refused_subjects(dataset.config, dataset.config.store_uri, storage.ctx)
            states = of_each(dataset, run.keys, lambda key: zone.state(there.get(key) or zone.find(key)))
            changed = {
                key: "the arrival has changed since it was asked for; it is taken in when it is quiet again"
                for key, state in states.items()
                if run.wanted(key) not in ("", state.version)
            }

            def take(key: str) -> "ScanResult":
                arrival, name = zone.fetch(there.get(key, key)), tables.scan(key)
                kept = tables.arrow(name) if tables.has(name) else None
                scanned, stamps = scan_again(arrival.place, release_of(dataset.config), kept, version)
                images = images_of(scanned, arrival, dataset.config)
                found = without_refused(images, dataset.config, key, refused, arrival.place)
                tables.put_arrow(name, to_keep(found, stamps, version))
                return found

            with measuring(memory.budget()) as measurement:
                found = of_each(dataset, run.keys, take, changed).values()
            reasons = Counter(item.reason for one in found for item in one.unreadable)
            versions = {key: state.version for key, state in states.items()}
            n_files = sum(state.n_files for state in states.values())
            n_bytes = sum(state.n_bytes for state in states.values())
            n_dicom = sum(len(one.instances) for one in found)
            n_nifti = sum(len(one.niftis) for one in found)
            summary = f"{some(n_files, 'file')} ({with_unit(n_bytes)}): " + in_words(
                {"DICOM": n_dicom, "NIfTI": n_nifti, "without an image": reasons.total()}
            )
            context.log.info(summary)
            return dg.MaterializeResult(
                data_version=dg.DataVersion(_version_of(run, versions)),
                metadata={
                    "summary": summary,
                    **how_many(run),
                    "files": n_files,
                    "dicom_instances": n_dicom,
                    "nifti_images": n_nifti,
                    "without_an_image": reasons.total(),
                    **_explained("why_without_an_image", reasons),
                    "mb": megabytes(n_bytes),
                    **({VERSIONS_METADATA: dg.MetadataValue.json(versions)} if run.is_shared else {}),
                    **measurement.metadata(),
                    SETTINGS_METADATA: settings_version(dataset.config),
                },
            )

    return raw_dicom


def build_series_asset(settings: DatasetSettings) -> dg.AssetsDefinition:
    """The asset `series`: one row for each series of an arrival, with its verdict."""

    @dg.asset(
        key=asset_key(settings, "series"),
        partitions_def=arrival_partitions(settings),
        deps=[asset_key(settings, "raw_dicom")],
        group_name=LANDING_GROUP,
        kinds={"parquet"},
        owners=settings.owners,
        code_version=f"1-{settings_version(settings)}",
        description=asset_pages.SERIES,
    )
    @with_own_resources(settings)
    def series(
        context: dg.AssetExecutionContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.MaterializeResult[None]:
        from radiobject_assets.ingest.naming.doubtful_subjects import doubtful_subjects
        from radiobject_assets.ingest.report import outcomes_table

        tables = dataset.tables(storage)
        run = arrivals_of(context.partition_key, context.run.tags, tables)
        with shielded(dataset.work.arrival(run.partition)):
            named = dataset.config.subjects.key != "pseudonym"

            def judge(key: str) -> "tuple[IngestPlan, list[dict[Hashable, Any]]]":
                plan = plan_of(dataset, storage, key)
                rows = outcomes_table(plan.outcomes(), identifiers=True, sources=named)
                tables.put_frame(tables.series(key), rows)
                return plan, _without_source(rows)

            with measuring(memory.budget()) as measurement:
                judged = of_each(dataset, run.keys, judge)
                told = [row for _, rows in judged.values() for row in rows]
                for key in run.others:
                    if tables.has(tables.series(key)):
                        told += _without_source(tables.frame(tables.series(key)))
            outcomes = [outcome for plan, _ in judged.values() for outcome in plan.outcomes()]
            planned = [one for plan, _ in judged.values() for one in plan.planned]
            names = [one.series.nifti.told_name for one in planned if one.series.nifti is not None]
            doubts = doubtful_subjects(names, dataset.config.subjects)
            held = [outcome for outcome in outcomes if outcome.verdict == "quarantined"]
            reasons = Counter(Reason(reason) for outcome in held for reason in outcome.reasons)
            summary = f"{len(outcomes)} series: " + in_words(
                {
                    "ingestable": len(outcomes) - len(held),
                    f"quarantined ({', '.join(reasons)})": len(held),
                }
            )
            context.log.info(summary)
            kept_at = tables.series(run.keys[0]) if len(run.keys) == 1 else "arrivals"
            return dg.MaterializeResult(
                data_version=dg.DataVersion(data_version_of(told)),
                metadata={
                    "summary": summary,
                    **how_many(run),
                    "series": len(outcomes),
                    "ingestable": len(outcomes) - len(held),
                    "quarantined": len(held),
                    **_explained("why_quarantined", reasons),
                    **unusual({"doubtful_subjects": sum(doubt.n_files for doubt in doubts)}),
                    **_what_looks_wrong(doubts),
                    "verdicts": table(shown_outcomes(outcomes)),
                    "every_verdict": dg.MetadataValue.path(tables.where(kept_at)),
                    "instances": sum(outcome.n_instances for outcome in outcomes),
                    "voxels_mb": megabytes(sum(outcome.voxel_bytes for outcome in outcomes)),
                    **measurement.metadata(),
                },
            )

    return series


def _version_of(run: ArrivalsOfRun, versions: Mapping[str, str]) -> str:
    """The data version of a partition: what was taken in of all its arrivals."""
    if not run.is_shared:
        return versions[run.partition]
    return data_version_of([[key, versions.get(key) or run.taken_in(key)] for key in run.all_keys])


def _without_source(rows: "pd.DataFrame") -> "list[dict[Hashable, Any]]":
    return rows.drop(columns="source", errors="ignore").to_dict(orient="records")


def _what_looks_wrong(doubts: "Sequence[SubjectDoubt]") -> dict[str, dg.MarkdownMetadataValue]:
    lines = [f"- {doubt.public.text}" for doubt in doubts]
    return {"subjects_that_look_wrong": dg.MetadataValue.md("\n".join(lines))} if lines else {}


def _explained(label: str, reasons: "Counter[Reason]") -> dict[str, dg.TableMetadataValue]:
    """Reasons with what they mean and what to do, most frequent first; Dagster folds no table away."""
    import pandas as pd

    rows = [
        {"reason": f"{reason} ({count})", "what_to_do": f"{told.meaning} {told.action}"}
        for reason, count in reasons.most_common()
        if (told := EXPLANATIONS.get(reason))
    ]
    return {label: table(pd.DataFrame(rows))} if rows else {}
