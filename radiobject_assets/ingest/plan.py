"""Which series goes where: a scan and a dataset description in, a plan out. Nothing is read or written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from radiobject_assets.dataset.collection_section import CollectionConfig
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import SchemaError
from radiobject_assets.imaging.axes import AXIS, COLUMNS, axis_attributes
from radiobject_assets.imaging.dicom.tags import ISSUER_COLUMN
from radiobject_assets.imaging.files.archives import file_on_disk
from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.files.unreadable import Unreadable
from radiobject_assets.imaging.files.volume_names import without_ending
from radiobject_assets.imaging.policy import SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.release.known_words import names_a_structure
from radiobject_assets.imaging.scanning.scan import ScanResult
from radiobject_assets.imaging.series.label_images import LabelledImage
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.ingest.identity import obs_id_of, subject_id_of, token, volume_key
from radiobject_assets.ingest.matching import collection_by_modality, matching_collection
from radiobject_assets.ingest.naming.file_place import FilePlace, segment_of
from radiobject_assets.ingest.report import SeriesOutcome, Status, source_of
from radiobject_assets.orientation import spacing_mm
from radiobject_assets.store import validate_id

_NAMED = 4


@dataclass(frozen=True)
class PlannedSeries:
    """One series with its verdict, its subject, and the collection and id that its volume gets."""

    series: Series
    subject_id: str
    collection: str | None
    obs_id: str | None
    settings: CollectionConfig | None
    """The collection's settings; None for collections that are made by modality."""
    arrival: str = ""
    """Key of the arrival that its files came in with."""

    @property
    def is_labels(self) -> bool:
        """Whether the volume holds labels, by configuration or because the object is a segmentation."""
        if self.settings is not None:
            return self.settings.kind == "labels"
        return self.series.kind == "labels"

    @property
    def file_place(self) -> FilePlace | None:
        """Folder and name of a NIfTI image, as far as they say what it is of."""
        return None if self.series.nifti is None else FilePlace.of(self.series.nifti.path)

    @property
    def series_token(self) -> str:
        """Digest that names the series where identifiers must not be shown."""
        return token(self.series.key, 10)

    def quarantined(self, reason: Reason | str, detail: str) -> SeriesOutcome:
        """The outcome when the series can't enter the store."""
        held = replace(
            self.series, verdict="quarantined", reason=Reason(reason), detail=detail or self.series.detail
        )
        return replace(self, series=held).outcome("quarantined")

    def outcome(self, status: Status) -> SeriesOutcome:
        """The outcome with the series' own verdict."""
        series = self.series
        ingestable = series.verdict == "ingestable"
        return SeriesOutcome(
            series_uid=series.series_uid,
            subject_id=self.subject_id,
            collection=self.collection,
            obs_id=self.obs_id if ingestable else None,
            verdict=series.verdict,
            reason=None if series.reason is None else str(series.reason),
            detail=series.detail,
            n_instances=len(series.files),
            shape=series.shape,
            dtype=None if series.dtype is None else str(series.dtype),
            source=source_of(series.files or _opened_files(series)),
            status=status,
            modality=series.modality,
            series_token=self.series_token,
            voxel_bytes=series.decoded_bytes if ingestable else 0,
            spacing_mm=None if series.affine is None else spacing_mm(series.affine),
            also=tuple((str(problem.reason), problem.detail) for problem in series.also),
            flat=[(i.n_frames, i.tiles) for i in series.instances] == [(1, 0)],
        )


@dataclass(frozen=True)
class IngestPlan:
    """All series of one arrival with where each goes, and the files that belong to none."""

    planned: tuple[PlannedSeries, ...]
    unreadable: tuple[Unreadable, ...]
    arrival: str
    """Its key; "" where none is known, and in a plan for several (`ingest.together`)."""

    @property
    def collections(self) -> tuple[str, ...]:
        """Collections that at least one ingestable series goes to, in order of name."""
        return tuple(
            sorted({p.collection for p in self.planned if p.collection and p.series.verdict == "ingestable"})
        )

    def outcomes(self) -> tuple[SeriesOutcome, ...]:
        """The verdicts before anything is ingested."""
        return tuple(
            p.outcome("quarantined" if p.series.verdict == "quarantined" else "not_selected")
            for p in self.planned
        )

    def selected(self, collections: Collection[str] | None) -> tuple[PlannedSeries, ...]:
        """The ingestable series that go to one of `collections` (None: to any)."""
        return tuple(
            p
            for p in self.planned
            if p.series.verdict == "ingestable"
            and p.collection is not None
            and (collections is None or p.collection in collections)
        )

    def obs_ids_with_files(self) -> frozenset[str]:
        """Ids of the volumes that can be made (again): all of their files are there."""
        return frozenset(
            p.obs_id
            for p in self.selected(None)
            if p.obs_id is not None and all(file_on_disk(path).is_file() for path in p.series.files)
        )


def plan_ingest(
    scan: ScanResult,
    dataset: DatasetSettings,
    *,
    arrival: str = "",
    known_images: Sequence[LabelledImage] = (),
) -> IngestPlan:
    """Decide for every series of a scan where it goes.

    Parameters
    ----------
    scan
        What was found, as the data set's release lets it out (`dataset_release.release_of(dataset).scan`).
    dataset
        With no collections listed, a series goes to the collection named after its modality.
    arrival
        Key of the arrival that the files came in with; part of the identity of NIfTI volumes.
    known_images
        Images that the store holds already (`holdings.images_for_labels`): labels may come in a later
        arrival than their image.
    """
    policy = SeriesPolicy(**dict(dataset.imaging))
    planned = [_plan_one(series, dataset, arrival) for series in build_series(scan, known_images, policy)]
    return IngestPlan(_of_one_issuer(_each_id_once(planned)), scan.unreadable, arrival)


def _of_one_issuer(planned: Sequence[PlannedSeries]) -> tuple[PlannedSeries, ...]:
    """A PatientID is a patient's only with its issuer: series that would merge two are held back."""
    issuers: dict[str, set[object]] = {}
    for item in planned:
        if (issuer := item.series.attributes.get(ISSUER_COLUMN)) is not None:
            issuers.setdefault(item.subject_id, set()).add(issuer)
    detail = "series of this PatientID name {} issuers (IssuerOfPatientID), who may mean as many patients"
    return tuple(
        replace(
            item,
            series=_held(item.series, Reason.SUBJECT_CONFLICT, detail.format(len(issuers[item.subject_id]))),
        )
        if item.series.verdict == "ingestable" and len(issuers.get(item.subject_id, ())) > 1
        else item
        for item in planned
    )


def _held(series: Series, reason: Reason, detail: str) -> Series:
    return replace(series, verdict="quarantined", reason=reason, detail=detail)


def _each_id_once(planned: Sequence[PlannedSeries]) -> tuple[PlannedSeries, ...]:
    """One series for each id: a NIfTI file that was reached by several paths (links) is one volume."""
    kept: dict[tuple[str | None, str | None] | int, PlannedSeries] = {}
    for item in planned:
        # quarantined series share no row, so they may share an id
        key = (item.collection, item.obs_id) if item.series.verdict == "ingestable" else id(item)
        first = kept.get(key)
        if first is not None:
            files = (*first.series.files, *item.series.files)
            item = replace(first, series=replace(first.series, files=files))
        kept[key] = item
    return tuple(kept.values())


def _unmatched(series: Series, dataset: DatasetSettings) -> str:
    """Why a series goes nowhere: what was tried."""
    number = len(dataset.collections)
    names = ", ".join([*list(dataset.collections)[:_NAMED], *(["..."] if number > _NAMED else [])])
    tried = f"{number} collection{'s' * (number != 1)} ({names})"
    if series.nifti is None:
        return (
            f"this {series.modality} series of {len(series.files)} files fits the `match` of none of {tried}"
        )
    told = f"the file's name and folder fit the `match.files` of none of {tried}"
    if dataset.layout is None:
        return told
    return f"{told}; for `layout: {dataset.layout}` hand in the folder that docs/layouts.md begins with"


def _plan_one(series: Series, dataset: DatasetSettings, arrival: str) -> PlannedSeries:
    subject_id = subject_id_of(series, dataset.subjects)
    if dataset.subjects.issuer == "ignore" or dataset.subjects.key == "study":
        told = {name: value for name, value in series.attributes.items() if name != ISSUER_COLUMN}
        series = replace(series, attributes=told)
    name, settings = matching_collection(series, dataset)
    if name is None and dataset.collects_by_modality:
        name = collection_by_modality(series, dataset.layout)
    if name is None:
        planned = PlannedSeries(series, subject_id, None, None, None, arrival)
        if series.verdict == "quarantined":
            return planned
        return replace(planned, series=_held(series, Reason.NO_COLLECTION, _unmatched(series, dataset)))
    if settings is not None and settings.segment_name is not None and series.nifti is not None:
        path = series.nifti.path
        # with pseudonyms a name of a file that may be anybody's is no name of a structure
        if dataset.subjects.key != "pseudonym" or names_a_structure(without_ending(path_text(path.name))):
            series = replace(series, attributes={**series.attributes, "segments": segment_of(path)})
    if settings is not None and not series.instances:
        series = _with_axis(series, settings)
    obs_id = obs_id_of(subject_id, name, volume_key(series, arrival))
    if series.verdict == "ingestable":
        try:
            validate_id(subject_id, "the subject's id")
            validate_id(obs_id, "the volume's id")
        except SchemaError as error:
            series = _held(series, Reason.DAMAGED_HEADER, str(error))
    return PlannedSeries(series, subject_id, name, obs_id, settings, arrival)


def _with_axis(series: Series, settings: CollectionConfig) -> Series:
    """A series with the fourth axis that its collection says; what no header tells is the user's to say."""
    told = {name: value for name, value in series.attributes.items() if name not in COLUMNS}
    if settings.channels in ("one_hot", "one_hot_with_background"):
        return replace(series, attributes=told)  # the channels become values
    axis = settings.fourth_axis
    if axis is None or series.shape is None or len(series.shape) != 4:
        return series
    if not axis.values and series.attributes.get(AXIS) == axis.name:
        return series  # its header, or a dataset.json, has the values as well
    if axis.values and len(axis.values) != series.shape[3]:
        detail = f"{series.shape[3]} points along the fourth axis, and dataset.yaml names {len(axis.values)}"
        return _held(series, Reason.FOURTH_AXIS_DIFFERS, detail)
    return replace(series, attributes={**told, **axis_attributes(axis.name, axis.values)})


def _opened_files(series: Series) -> list[Path]:
    if series.nifti is not None:
        return [series.nifti.path]
    return [instance.path for instance in series.instances]
