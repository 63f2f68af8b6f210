"""Folders and files into a store, in one call: scan, plan, run, and the subjects' own tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import IngestError, SchemaError
from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.files.unreadable import Unreadable
from radiobject_assets.imaging.nifti.header import NiftiFile
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.release.deidentification import Release
from radiobject_assets.imaging.scanning.scan import ScanResult, find_files, scan
from radiobject_assets.ingest.dataset_release import release_of
from radiobject_assets.ingest.labels_on_images.waiting import WaitingLabels, files_of, waiting_labels
from radiobject_assets.ingest.labels_on_images.waiting_list import WaitingList, files_on_disk
from radiobject_assets.ingest.naming.doubtful_subjects import doubtful_subjects
from radiobject_assets.ingest.naming.subject_table import read_subject_tables, subject_tables_among
from radiobject_assets.ingest.plan import IngestPlan, plan_ingest
from radiobject_assets.ingest.refused import refused_subjects, without_refused
from radiobject_assets.ingest.report import IN_STORE, IngestReport, SeriesOutcome
from radiobject_assets.ingest.run import OnProgress, run_ingest, start_decoders
from radiobject_assets.ingest.stored.holdings import images_for_labels
from radiobject_assets.store import ensure_store, hold_pseudonyms, local_path, upsert_subjects
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.system.resource_monitor import ResourceMonitor


def ingest_sources(
    sources: Sequence[Path],
    store_uri: str,
    dataset: DatasetSettings,
    *,
    budget: MemoryBudget,
    compute: Compute,
    on_progress: OnProgress | None = None,
) -> IngestReport:
    """Scan folders or files and take everything into a store: what `radiobject-assets ingest` does.

    Raises
    ------
    IngestError
        A source is absent, or the sources hold no file at all.
    ConfigurationError
        Pseudonyms are asked for without a secret, or the store's subjects are named in another way.
    StorageError
        The store can't be opened or written.
    """
    started = time.monotonic()
    for source in sources:
        if not Path(source).exists():
            raise IngestError(f"{source}: no such file or folder")
    sources = _each_once(sources)
    release = release_of(dataset)
    if all(next(find_files(Path(source)), None) is None for source in sources):
        raise _no_files(sources)  # and no store is made for nothing
    ensure_store(store_uri)  # a wrong URI is said before hours of scanning
    hold_pseudonyms(store_uri, release.mark)
    with ResourceMonitor() as scanning:
        files = scan(sources, _scan_progress(on_progress))
        found = release.scan(_own_files_named(_without_store(files, sources, store_uri), dataset))
        if not (found.instances or found.niftis or found.unreadable):
            raise _no_files(sources)
        refused = refused_subjects(dataset, store_uri)
        found = without_refused(found, dataset, "", refused)
        start_decoders(found.instances, budget, compute)
        plan = plan_ingest(found, dataset, known_images=images_for_labels(store_uri, found))
    refuse = dataset.subjects.refuse_forgotten
    report = run_ingest(
        plan, store_uri, refuse_forgotten=refuse, budget=budget, compute=compute, on_progress=on_progress
    )

    def again(labels: Sequence[WaitingLabels]) -> tuple[IngestPlan, IngestReport]:
        files = {name for one in labels for name in one.files}
        on_disk = sorted({Path(name) for one in labels for name in files_on_disk(one)})
        found = without_refused(release.scan(scan(on_disk)), dataset, "", refused)
        plan = plan_ingest(found, dataset, known_images=images_for_labels(store_uri, found))
        plan = replace(plan, planned=tuple(p for p in plan.planned if not files.isdisjoint(files_of(p))))
        return plan, run_ingest(plan, store_uri, refuse_forgotten=refuse, budget=budget, compute=compute)

    doubts = doubtful_subjects((nifti.told_name for nifti in found.niftis), dataset.subjects)
    report = replace(report, doubts=doubts)
    report = _with_subjects(report, store_uri, dataset, release)
    report = _with_waiting(report, plan, WaitingList(store_uri, dataset), again)
    peak_memory_mb = max(scanning.peak_mb, report.peak_memory_mb)
    return replace(report, seconds=time.monotonic() - started, peak_memory_mb=peak_memory_mb)


def _no_files(sources: Sequence[Path]) -> IngestError:
    return IngestError(f"{', '.join(map(str, sources))}: holds no files; name a folder with DICOM or NIfTI")


def _own_files_named(found: ScanResult, dataset: DatasetSettings) -> ScanResult:
    """The scan with the subjects' table and the mark of a complete arrival told as what they are."""
    tables = subject_tables_among((item.path for item in found.unreadable), dataset.subjects)

    def named(item: Unreadable) -> Unreadable:
        if item.path in tables and item.reason is Reason.NOT_AN_IMAGE:
            return replace(item, reason=Reason.SUBJECTS_TABLE, detail="the table of subjects")
        empty_or_text = item.reason in (Reason.EMPTY_FILE, Reason.NOT_AN_IMAGE)
        if item.path.name == dataset.arrivals.complete_marker and empty_or_text:
            return replace(item, reason=Reason.COMPLETE_MARKER, detail="says that the arrival is complete")
        return item

    return replace(found, unreadable=tuple(map(named, found.unreadable)))


def _each_once(sources: Sequence[Path]) -> list[Path]:
    """The sources without those that lie in another: a file belongs to one series, however it was named."""
    kept: dict[Path, Path] = {}
    for source in sources:
        kept.setdefault(Path(source).resolve(), Path(source))
    return [source for place, source in kept.items() if kept.keys().isdisjoint(place.parents)]


def _scan_progress(on_progress: OnProgress | None) -> Callable[[int, int], None] | None:
    if on_progress is None:
        return None
    return lambda done, total: on_progress(done, total, "reading headers")


def _without_store(found: ScanResult, sources: Sequence[Path], store_uri: str) -> ScanResult:
    """What was found, without the store's own files where the store lies in a source."""
    store = local_path(store_uri)
    if store is None:
        return found
    store = store.resolve()
    if not any(source.resolve() in (store, *store.parents) for source in sources):
        return found

    def outside(item: Instance | NiftiFile | Unreadable) -> bool:
        return store not in item.path.resolve().parents

    return ScanResult(
        tuple(filter(outside, found.instances)),
        tuple(filter(outside, found.niftis)),
        tuple(filter(outside, found.unreadable)),
    )


def _with_waiting(
    report: IngestReport,
    plan: IngestPlan,
    waiting: WaitingList,
    again: Callable[[Sequence[WaitingLabels]], tuple[IngestPlan, IngestReport]],
) -> IngestReport:
    """Note which labels wait for their image, and take in those of earlier calls whose image has come."""
    resolved: tuple[SeriesOutcome, ...] = ()
    problems = report.problems
    try:
        handled = [name for planned in plan.planned for name in files_of(planned)]
        waiting.settle(handled, waiting_labels(plan, report.outcomes))
        if ready := waiting.ready():
            plan, late = again(ready)
            waiting.settle(
                [name for labels in ready for name in labels.files], waiting_labels(plan, late.outcomes)
            )
            resolved = tuple(o for o in late.outcomes if o.status in IN_STORE)
    except OSError as error:
        problem = error.strerror or type(error).__name__
        problems += (
            f"labels wait for their image, and this can't be noted ({problem}: {error.filename}); hand them "
            "in again when the image is there",
        )
    return replace(report, resolved=resolved, problems=problems)


def _with_subjects(
    report: IngestReport, store_uri: str, dataset: DatasetSettings, release: Release
) -> IngestReport:
    """Take in what the tables say of the subjects that are in the store, and note it in the report."""
    tables = subject_tables_among((item.path for item in report.unreadable), dataset.subjects)
    known = {o.subject_id for o in report.outcomes if o.status in IN_STORE}
    if not tables or not known:
        return report
    try:
        read = read_subject_tables(
            tables, dataset.subjects, release, refused_subjects(dataset, store_uri).refuses
        )
        rows = read.rows
        imaged = rows[rows["obs_subject_id"].isin(known)]
        upsert_subjects(store_uri, imaged)
    except (IngestError, SchemaError) as error:  # the volumes are in, and a mended table can follow
        return replace(report, problems=(*report.problems, str(error)))
    if len(rows) and not len(imaged):
        problem = (
            f"{dataset.subjects.table}: none of its {len(rows)} subjects has images here; ids may differ"
        )
        report = replace(report, problems=(*report.problems, problem))
    told = "no image; read as a table of subjects"
    return replace(
        report,
        notes=(*report.notes, *filter(None, [read.told])),
        unreadable=tuple(replace(u, detail=told) if u.path in tables else u for u in report.unreadable),
    )
