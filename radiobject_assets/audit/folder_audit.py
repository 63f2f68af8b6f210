"""A folder's audit: headers, then voxels, then rules. Nothing is written, whatever is found.

1. `scan` reads every header; `plan_ingest` says what each series would become, as if the folder's layout
   stood in a dataset.yaml.
2. `look_at_voxels` goes once through each volume, in worker processes under the memory budget.
3. `FOLDER_RULES` look at what was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from radiobject_assets.audit.folder_contents import FolderContents, contents_of
from radiobject_assets.audit.folder_layout import layout_of_names, settings_of_layout
from radiobject_assets.audit.folder_rules import FOLDER_RULES
from radiobject_assets.audit.folder_view import (
    AuditedSeries,
    FolderView,
    name_below,
    series_name,
    splits_of,
)
from radiobject_assets.audit.identifier_rules import HeaderPersons
from radiobject_assets.audit.volume_look import LookTask, VolumeLook, look_at_voxels
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics.findings import Report
from radiobject_assets.errors import ImageReadError, IngestError
from radiobject_assets.imaging.files.archives import split_member
from radiobject_assets.imaging.opening.members import in_archive, local_copy
from radiobject_assets.imaging.opening.unpacking import unpacked_together
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import ScanResult, find_files, scan
from radiobject_assets.ingest.dataset_release import release_of
from radiobject_assets.ingest.plan import PlannedSeries, plan_ingest
from radiobject_assets.ingest.run import IN_PROCESS_BYTES, needs_native_codec, workers_that_fit
from radiobject_assets.ingest.work.volume_pool import Failure, Task, run_tasks
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MB, MemoryBudget

OnAudit = Callable[[int, int, str], None]

# More than this at once is no faster: the look reads each voxel a few times, best in a core's cache.
_MOST_AT_ONCE = 4 * MB
_LEAST_AT_ONCE = 1 * MB
_SHARES = 8


@dataclass(frozen=True)
class FolderAudit:
    """What an audit found."""

    view: FolderView
    contents: FolderContents
    reports: tuple[Report, ...]


def audit_folder(
    folder: Path,
    *,
    voxels: bool = True,
    budget: MemoryBudget | None = None,
    compute: Compute | None = None,
    on_progress: OnAudit | None = None,
) -> FolderAudit:
    """Look at a folder of DICOM, NIfTI and its neighbours as it is.

    Parameters
    ----------
    voxels
        False reads headers alone: of values, copies and contents nothing is said then.
    on_progress
        Called with what is done, what there is in all, and what is being done.

    Raises
    ------
    IngestError
        There is no such folder, or it holds no file.
    """
    tell = on_progress or (lambda done, total, what: None)
    if not folder.is_dir():
        raise IngestError(f"{folder}: no such folder; name one with DICOM or NIfTI files")
    found = scan([folder], lambda done, total: tell(done, total, "reading headers"))
    if not found.n_files:
        raise IngestError(f"{folder}: holds no files; name a folder with DICOM or NIfTI")
    names = tuple(sorted({name_below(path, folder) for path in (*find_files(folder), *_members(found))}))
    told_names = [nifti.told_name for nifti in found.niftis]
    layout = layout_of_names(told_names)
    settings = settings_of_layout(layout, told_names)
    items = [
        AuditedSeries(planned, series_name(planned.series, folder), splits_of(planned.series, folder))
        for planned in _planned(found, settings)
    ]
    persons = _persons(found, items, tell)
    if voxels:
        items = _looked(items, budget or MemoryBudget(), compute or Compute(), tell)
    view = FolderView(
        folder, layout, settings, tuple(items), found.unreadable, names, frozenset(persons.names)
    )
    reports = [*(rule.look(view) for rule in FOLDER_RULES), persons.findings(view)]
    of_something = tuple(report for report in reports if report.looked_at or report.findings)
    return FolderAudit(view, contents_of(view, found.n_files), of_something)


def _members(found: ScanResult) -> list[Path]:
    """Paths of what lies in archives: their names are looked at as those of files are."""
    paths = [
        *(instance.path for instance in found.instances),
        *(nifti.path for nifti in found.niftis),
        *(item.path for item in found.unreadable),
    ]
    return [path for path in paths if split_member(path) is not None]


def _persons(found: ScanResult, items: Sequence[AuditedSeries], tell: OnAudit) -> HeaderPersons:
    """Who the headers say was examined; members of archives are unpacked for it, series by series."""
    persons = HeaderPersons()
    for done, instance in enumerate(found.instances):
        if done % 256 == 0:
            tell(done, len(found.instances), "looking for persons in headers")
        if not instance.gzipped and split_member(instance.path) is None:
            persons.look(instance, instance.path)
    packed = [item.series for item in items if item.series.instances and in_archive(item.series)]
    with unpacked_together(packed) as unpacked:
        for series, told in zip(unpacked, packed, strict=True):
            with suppress(ImageReadError), local_copy(series) as local:
                for instance, known in zip(local.instances, told.instances, strict=True):
                    persons.look(known, instance.path)
    return persons


def _planned(found: ScanResult, settings: DatasetSettings) -> list[PlannedSeries]:
    """What each series would become: files of a layout by the layout, DICOM and all else by modality."""
    plain = DatasetSettings()
    planned: list[PlannedSeries] = []
    dicom = release_of(plain).scan(replace(found, niftis=(), unreadable=()))
    planned += plan_ingest(dicom, plain).planned
    files = release_of(settings).scan(replace(found, instances=(), unreadable=()))
    laid_out = plan_ingest(files, settings).planned
    outside = [p for p in laid_out if p.series.reason is Reason.NO_COLLECTION]
    planned += [p for p in laid_out if p.series.reason is not Reason.NO_COLLECTION]
    if outside:
        left = {p.series.nifti.path for p in outside if p.series.nifti is not None}
        rest = replace(files, niftis=tuple(n for n in files.niftis if n.path in left))
        planned += plan_ingest(rest, plain).planned
    return planned


def _looked(
    items: Sequence[AuditedSeries], budget: MemoryBudget, compute: Compute, tell: OnAudit
) -> list[AuditedSeries]:
    todo = [number for number, item in enumerate(items) if item.series.verdict == "ingestable"]
    workers = min(workers_that_fit(compute.workers, budget), max(1, len(todo)))
    share = budget.tasks_bytes // workers // _SHARES
    slab_bytes = min(_MOST_AT_ONCE, max(_LEAST_AT_ONCE, share))
    series = [items[number].series for number in todo]
    total = sum(one.decoded_bytes for one in series)
    # damaged bytes may crash a C library, so that compressed series are never decoded here
    in_process = (total <= IN_PROCESS_BYTES or workers == 1) and not any(map(needs_native_codec, series))
    looks: dict[int, VolumeLook] = {}
    with unpacked_together(series) as local:
        tasks = [
            LookTask(one, items[number].planned.is_labels, slab_bytes)
            for number, one in zip(todo, local, strict=True)
        ]
        results = run_tasks(
            look_at_voxels,
            [Task(task, task.needed_bytes) for task in tasks],
            compute=replace(compute, workers=workers),
            budget=budget,
            in_process=in_process,
        )
        for done, (index, result) in enumerate(results):
            tell(done + 1, len(todo), "looking at voxels")
            if isinstance(result, Failure):
                result = VolumeLook(reason=result.reason, detail=result.detail)
            looks[todo[index]] = result
    return [replace(item, look=looks.get(number)) for number, item in enumerate(items)]
