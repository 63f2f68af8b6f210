"""People who were forgotten do not come in again: their files are set apart before anything is kept of them.

Who they are the store says, by keyed marks (`store.forgotten_subjects`). What is set apart is one record a
file, with the reason `subject_forgotten` and nothing else: no name, no id, no UID.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.files.archives import file_on_disk
from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.files.unreadable import Unreadable
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import ScanResult
from radiobject_assets.ingest.plan import PlannedSeries, plan_ingest
from radiobject_assets.store import ForgottenSubjects, TileDBContext, forgotten_subjects, is_store

Refuses = Callable[[str], bool]
"""Whether a subject, by its id, may not come in."""

_DETAIL = "somebody who was forgotten"


def refused_subjects(
    dataset: DatasetSettings, store_uri: str, ctx: TileDBContext | None = None
) -> ForgottenSubjects:
    """Who may not come in, as `subjects.refuse_forgotten` and the store say."""
    if not dataset.subjects.refuse_forgotten or not is_store(store_uri, ctx):
        return ForgottenSubjects(b"")
    return forgotten_subjects(store_uri, ctx)


def files_of_subjects(
    found: ScanResult,
    dataset: DatasetSettings,
    arrival: str,
    wanted: Refuses,
    named: Callable[[str], bool] = lambda text: False,
) -> tuple[frozenset[Path], tuple[PlannedSeries, ...]]:
    """The files of some subjects in a scan, and their series.

    What is no image, but lies in a folder in which all images are theirs, is taken for theirs: sidecars,
    reports, pictures of documents.

    Parameters
    ----------
    found
        As the data set's release lets it out.
    named
        Whether a path names them: so do files that are no images.
    """
    planned = plan_ingest(found, dataset, arrival=arrival).planned
    theirs = tuple(p for p in planned if wanted(p.subject_id))
    files = {path for p in theirs for path in _files(p)}
    others = {path.parent for p in planned if not wanted(p.subject_id) for path in _files(p)}
    folders = {path.parent for path in files} - others
    files.update(
        item.path
        for item in found.unreadable
        if not folders.isdisjoint(item.path.parents) or named(path_text(item.path))
    )
    return frozenset(files), theirs


def without_refused(
    found: ScanResult,
    dataset: DatasetSettings,
    arrival: str,
    refused: ForgottenSubjects,
    place: Path | None = None,
) -> ScanResult:
    """The scan with every file of the refused subjects set apart.

    Parameters
    ----------
    place
        Where they are said to lie, with a number for each; None: where they do, for what is shown to a person
        who named the files, and never kept.
    """
    if not refused.marks:
        return found
    files, _ = files_of_subjects(found, dataset, arrival, refused.refuses)
    return set_apart(found, files, place)


def set_apart(found: ScanResult, files: Collection[Path], place: Path | None) -> ScanResult:
    """The scan with one record in the place of each of these files."""
    if not files:
        return found
    # every file is accounted for, a sidecar too
    paths = dict.fromkeys(
        [i.path for i in found.instances if i.path in files]
        + [u.path for u in found.unreadable if u.path in files]
        + [path for n in found.niftis if n.path in files for path in (n.path, *n.files)]
    )
    if place is not None:
        # as they lie on disk: the members of an archive are one, which is others' as well where it holds more
        everything = [*(i.path for i in found.instances), *(n.path for n in found.niftis)]
        everything += [u.path for u in found.unreadable]
        others = {file_on_disk(path) for path in everything if path not in files}
        paths = dict.fromkeys(one for path in paths if (one := file_on_disk(path)) not in others)
    apart = [
        Unreadable(path if place is None else place / f"set-apart-{n}", Reason.SUBJECT_FORGOTTEN, _DETAIL)
        for n, path in enumerate(paths, start=sum(u.detail == _DETAIL for u in found.unreadable))
    ]
    return ScanResult(
        tuple(i for i in found.instances if i.path not in files),
        tuple(n for n in found.niftis if n.path not in files),
        (*(u for u in found.unreadable if u.path not in files), *apart),
    )


def _files(planned: PlannedSeries) -> tuple[Path, ...]:
    nifti = planned.series.nifti
    opened = () if nifti is None else (nifti.path, *nifti.files)
    return (*planned.series.files, *(i.path for i in planned.series.instances), *opened)
