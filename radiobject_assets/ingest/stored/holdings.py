"""What the store already holds of the series in a plan: what is new, what replaces, what conflicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.split_uids import MEMBERS, members_of
from radiobject_assets.imaging.dicom.tags import ISSUER_COLUMN
from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.pixels.acceptance import kind_of
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import ScanResult
from radiobject_assets.imaging.series.label_images import LabelledImage
from radiobject_assets.ingest.labels_on_images.labelled_image import (
    TELLING,
    ImageCandidate,
    entities_of,
    image_of_labels,
    images_on_grid,
)
from radiobject_assets.ingest.naming.file_place import FilePlace
from radiobject_assets.ingest.plan import PlannedSeries
from radiobject_assets.ingest.stored.joined import rows_of_series
from radiobject_assets.ingest.stored.refresh import WITHDRAWABLE, RowChange, row_change
from radiobject_assets.orientation import affine_from_values
from radiobject_assets.store import (
    AFFINE_COLUMNS,
    OBS_ID,
    SIZE_COLUMNS,
    SUBJECT,
    get_tiledb_ctx,
    is_store,
    list_collections,
    obs_table,
)

_FRAME = "frame_of_reference_uid"
# Read for every plan.
_READ = (
    "series_uid", "study_uid", "modality", "component", "source_digest", "arrival", "kind", "n_instances",
    "labels_of_collection", "labels_of", "slope", "intercept", ISSUER_COLUMN, *SIZE_COLUMNS, *AFFINE_COLUMNS,
    *TELLING, "dtype", "ndim", "fourth_axis", MEMBERS,
)  # fmt: skip


@dataclass(frozen=True)
class Holdings:
    """Rows of the store that have to do with the series of one plan."""

    rows: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By collection: rows of the plan's subjects."""
    owners: Mapping[str, Mapping[str, frozenset[tuple[str, str]]]] = field(default_factory=dict)
    """By collection: subjects and arrivals under which each of the plan's series UIDs is held."""
    read_told: Callable[[str], Mapping[tuple[str, str], Mapping[str, Any]]] = lambda name: {}
    """Attributes of a collection's rows by subject and id. They are many columns, and only series whose files
    are unchanged ask for them."""
    files: Mapping[tuple[str, str, str], FilePlace] = field(default_factory=dict)
    """Of NIfTI images that are in the same plan, by collection, subject and id."""
    present: frozenset[str] | None = None
    """Keys of the arrivals whose files are there still; None: not known."""
    n_files: Mapping[str, int] = field(default_factory=dict)
    """Files that the plan has of each series UID, in whatever series and with whatever verdict."""
    _by_id: Mapping[tuple[str, str, str], Mapping[str, Any]] = field(init=False, repr=False)
    _issuers: Mapping[str, Sequence[tuple[str, str, str]]] = field(init=False, repr=False)
    _candidates: dict[tuple[str, str | None], tuple[ImageCandidate, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _by_series: dict[tuple[str, str | None], dict[str, list[ImageCandidate]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        by_id = {(name, row[SUBJECT], row[OBS_ID]): row for name, rows in self.rows.items() for row in rows}
        object.__setattr__(self, "_by_id", by_id)
        issuers: dict[str, list[tuple[str, str, str]]] = {}
        for row in (row for rows in self.rows.values() for row in rows):
            if row.get(ISSUER_COLUMN) is not None:
                told = (row[ISSUER_COLUMN], row["arrival"] or "", row[OBS_ID])
                issuers.setdefault(row[SUBJECT], []).append(told)
        object.__setattr__(self, "_issuers", issuers)

    @classmethod
    def read(
        cls,
        store_uri: str,
        batch: Sequence[PlannedSeries],
        plan: Sequence[PlannedSeries] = (),
        present: Collection[str] | None = None,
    ) -> Holdings:
        """Read the rows that concern `batch`, a part of `plan`, whatever else is in the store."""
        ctx = get_tiledb_ctx()
        subjects = sorted({planned.subject_id for planned in batch})
        uids = sorted({uid for p in batch for uid in p.series.series_uids})
        rows: dict[str, list[dict[str, Any]]] = {}
        owners: dict[str, dict[str, frozenset[tuple[str, str]]]] = {}
        tables = {e.name: obs_table(e.uri, ctx) for e in list_collections(store_uri, ctx)}
        for name, table in tables.items():
            there = set(table.columns)
            columns = [column for column in _READ if column in there]
            rows[name] = table.read(columns, keys=[subjects]).to_pylist()
            found: dict[str, set[tuple[str, str]]] = {}
            for row in rows_of_series(table, uids, ["arrival"]):
                for uid in members_of(row):
                    found.setdefault(uid, set()).add((row[SUBJECT], row["arrival"] or ""))
            owners[name] = {uid: frozenset(held) for uid, held in found.items()}
        said = {name for planned in batch for name in planned.series.attributes} | WITHDRAWABLE

        @cache
        def read_told(name: str) -> Mapping[tuple[str, str], Mapping[str, Any]]:
            table = tables[name]
            found = table.read([c for c in table.columns if c in said or c in _READ], keys=[subjects])
            return {(row[SUBJECT], row[OBS_ID]): row for row in found.to_pylist()}

        files: dict[tuple[str, str, str], FilePlace] = {}
        if any(planned.is_labels and planned.series.nifti is not None for planned in batch):
            for item in plan:
                if (file := item.file_place) is not None:
                    files[item.collection or "", item.subject_id, item.obs_id or ""] = file
        n_files: Counter[str] = Counter()
        for item in plan:
            n_files[item.series.series_uid] += len(item.series.files)
        still = None if present is None else frozenset(present)
        return cls(rows, owners, read_told, files, still, n_files)

    def _row(self, planned: PlannedSeries) -> Mapping[str, Any] | None:
        return self._by_id.get((planned.collection or "", planned.subject_id, planned.obs_id or ""))

    def source_digest(self, planned: PlannedSeries) -> str | None:
        """Digest of the files that the stored volume of this id was made from.

        None if there is none, or if it must be written anew although its files are the same: an image that
        dataset.yaml now calls labels (or the other way round), an image that is now understood to lie
        elsewhere or to have another scale, labels whose image is another one now.
        """
        row = self._row(planned)
        if row is None or (row["kind"] == "labels") != planned.is_labels:
            return None
        grid = _grid(row)
        if planned.is_labels:
            named = (row["labels_of_collection"], row["labels_of"])
            if named not in {
                (image.collection, image.obs_id) for image in self._images_on(grid, planned, row)
            }:
                return None
            if planned.series.kind == "image" and not _whole(row):
                return None
        elif not _same_place_and_scale(planned, row, grid):
            return None
        return str(row["source_digest"])

    def _images_on(
        self, grid: Grid, planned: PlannedSeries, row: Mapping[str, Any]
    ) -> Sequence[ImageCandidate]:
        """The images that labels, which are stored on a grid, may be those of; NIfTI labels: the one."""
        images = self.image_candidates(planned)
        if planned.series.is_drawn:
            return [image for image in images if image.grid.same_as(grid)]
        told = entities_of(planned.series.attributes, self._arrival_of(planned, row))
        study = planned.series.study_uid
        # asked with the axes of their file, as on first reading: those of the row are their image's
        asked = planned.series.grid or grid
        try:
            image = image_of_labels(asked, told, images, planned.file_place, study)
        except ImageReadError:
            return []  # read again, they get their reason
        return [image] if image.grid.same_as(grid) else []

    def _arrival_of(self, planned: PlannedSeries, row: Mapping[str, Any]) -> str:
        """The arrival that a volume of this plan belongs to: its own, while that is there."""
        own = row["arrival"] or ""
        is_gone = self.present is not None and own != "" and own not in self.present
        return planned.arrival if is_gone and planned.arrival else own

    def change(self, planned: PlannedSeries) -> RowChange | None:
        """What the stored row of this id should say and does not; None if it is right or not there."""
        row = self.read_told(planned.collection or "").get((planned.subject_id, planned.obs_id or ""))
        return (
            None if row is None else row_change(planned, row, planned.arrival, self._arrival_of(planned, row))
        )

    def conflict(self, planned: PlannedSeries) -> tuple[Reason, str] | None:
        """Why a series must not be written over what is there, if so.

        A later arrival may complete a series; one that holds less of it must not replace it. One series
        under two subjects means that one of them has another patient's images.
        """
        series, arrival = planned.series, planned.arrival
        if not series.series_uid:
            return None
        owners = self.owners.get(planned.collection or "", {})
        held = {owner for uid in series.series_uids for owner in owners.get(uid, ())}
        # the same arrival may correct itself: what it said before is withdrawn (`moved`)
        if any(subject != planned.subject_id and (not arrival or by != arrival) for subject, by in held):
            detail = "the store holds this series under another subject: its PatientID has changed"
            return (Reason.SUBJECT_CONFLICT, f"{detail}, or one UID was used for two people")
        issuer = series.attributes.get(ISSUER_COLUMN)
        if issuer is not None and any(
            other != issuer and obs_id != planned.obs_id and (not arrival or by != arrival)
            for other, by, obs_id in self._issuers.get(planned.subject_id, ())
        ):
            return (Reason.SUBJECT_CONFLICT, "the subject's other volumes have a PatientID of another issuer")
        if (part := self._part_of_joined(planned)) is not None:
            return (Reason.PARTIAL_RESEND, part)
        row = self._row(planned)
        if row is None:
            return None
        stored = row.get("n_instances")
        if (row["arrival"] or "") == arrival:
            if stored is None or not self._has_lost_slices(planned, row):
                return None
            return (
                Reason.PARTIAL_RESEND,
                f"{len(series.files)} files are there now, and the stored volume, which is kept, was made of "
                f"{stored}",
            )
        if stored is not None and len(series.files) < stored:
            return (
                Reason.PARTIAL_RESEND,
                f"{len(series.files)} files came, the stored volume has {stored}",
            )
        return None

    def _has_lost_slices(self, planned: PlannedSeries, row: Mapping[str, Any]) -> bool:
        """Whether an image would become smaller because files of its series are no longer there."""
        shape = planned.series.shape
        if planned.is_labels or shape is None or self.n_files.get(planned.series.series_uid, 0) == 0:
            return False
        now = (*shape, 1)[:4]
        stored = (*_grid(row).shape, int(row["size_t"] or 1))
        return (
            self.n_files[planned.series.series_uid] < int(row["n_instances"])
            and now != stored
            and all(one <= other for one, other in zip(now, stored, strict=True))
        )

    def _part_of_joined(self, planned: PlannedSeries) -> str | None:
        """Of which volume in the store a series is only a part, if it was joined to one.

        Whatever the arrival: alone, a part has the id of the whole, or would be a second copy of its images.
        """
        own = planned.series.series_uids
        for row in self.rows.get(planned.collection or "", ()):
            whole = members_of(row)
            if row[SUBJECT] == planned.subject_id and own & whole and not whole <= own:
                return (
                    f"the stored volume was joined of {len(whole)} series, and this has {len(own & whole)} "
                    "of them"
                )
        return None

    def image_candidates(self, planned: PlannedSeries) -> tuple[ImageCandidate, ...]:
        """Image volumes that labels may lie on: those that a SEG or RTSTRUCT refers to; else those of the
        subject on their voxels, or any where there is none."""
        target = planned.settings.labels_of if planned.settings else None
        images = self._images_of(planned.subject_id, target)
        if planned.series.is_drawn:
            by_series = self._images_by_series(planned.subject_id, target)
            references = dict.fromkeys(planned.series.references)
            found = {id(image): image for uid in references for image in by_series.get(uid, ())}
            return tuple(found.values())
        grid = planned.series.grid
        # a task carries its candidates: of all images of a subject with thousands, each label has few
        return tuple(images_on_grid(grid, images) if grid is not None else ()) or images

    @cached_property
    def _rows_of(self) -> Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]:
        """Collection and row of the images of each subject."""
        found: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
        for name, rows in self.rows.items():
            for row in rows:
                if row["kind"] == "image":
                    found.setdefault(row[SUBJECT], []).append((name, row))
        return found

    def _images_of(self, subject_id: str, target: str | None) -> tuple[ImageCandidate, ...]:
        known = self._candidates.get((subject_id, target))
        if known is None:
            known = tuple(
                self._candidate(name, row)
                for name, row in self._rows_of.get(subject_id, ())
                if target in (None, name)
            )
            self._candidates[subject_id, target] = known
        return known

    def _images_by_series(
        self, subject_id: str, target: str | None
    ) -> Mapping[str, Sequence[ImageCandidate]]:
        known = self._by_series.get((subject_id, target))
        if known is None:
            known = {}
            rows = [row for name, row in self._rows_of.get(subject_id, ()) if target in (None, name)]
            for row, image in zip(rows, self._images_of(subject_id, target), strict=True):
                for uid in {image.series_uid, *members_of(row)}:
                    known.setdefault(uid, []).append(image)
            self._by_series[subject_id, target] = known
        return known

    def _candidate(self, name: str, row: Mapping[str, Any]) -> ImageCandidate:
        return ImageCandidate(
            obs_id=str(row[OBS_ID]),
            collection=name,
            grid=_grid(row),
            entities=entities_of(row, row["arrival"] or ""),
            file=self.files.get((name, row[SUBJECT], str(row[OBS_ID]))),
            series_uid=str(row["series_uid"] or ""),
            study_uid=str(row["study_uid"] or ""),
            n_points=int(row["size_t"] or 1) if row.get("ndim") == 4 else 1,
            fourth_axis=str(row.get("fourth_axis") or ""),
        )

    def left_behind(self, planned: PlannedSeries) -> list[tuple[str, str]]:
        """Collection and id of stored labels of an image that do not lie on it as it is now."""
        grid = planned.series.grid
        named = (planned.subject_id, planned.collection or "", planned.obs_id or "")
        return [
            (name, row[OBS_ID])
            for name, row in self._labels_of.get(named, ())
            if grid is not None and not _grid(row).same_as(grid)
        ]

    @cached_property
    def _labels_of(self) -> Mapping[tuple[str, str, str], Sequence[tuple[str, Mapping[str, Any]]]]:
        """Collection and row of the labels of each image, by its subject, collection and id."""
        found: dict[tuple[str, str, str], list[tuple[str, Mapping[str, Any]]]] = {}
        for name, rows in self.rows.items():
            for row in rows:
                if row["kind"] == "labels":
                    image = (row[SUBJECT], row["labels_of_collection"] or "", row["labels_of"] or "")
                    found.setdefault(image, []).append((name, row))
        return found


def _whole(row: Mapping[str, Any]) -> bool:
    """Whether stored labels are integers without a scaling, as they are taken in today."""
    return (row["slope"], row["intercept"]) == (1.0, 0.0) and np.dtype(row["dtype"]).kind in "iu"


def _same_place_and_scale(planned: PlannedSeries, row: Mapping[str, Any], grid: Grid) -> bool:
    series = planned.series
    if series.affine is None or not np.allclose(series.affine, grid.affine, rtol=1e-9, atol=1e-9):
        return False
    slope = 1.0 if series.slope is None else series.slope
    intercept = 0.0 if series.intercept is None else series.intercept
    return bool(row["slope"] == slope and row["intercept"] == intercept)


def images_for_labels(store_uri: str, scan: ScanResult) -> tuple[LabelledImage, ...]:
    """The store's images that labels in a scan may lie on: those that they name, and those of their study.

    What obs has of the frame of reference (if dataset.yaml lists `FrameOfReferenceUID`) is known of them too.
    """
    labels = [instance for instance in scan.instances if kind_of(instance) == "labels"]
    ctx = get_tiledb_ctx()
    if not labels or not is_store(store_uri, ctx):
        return ()
    named = sorted({uid for instance in labels for uid in instance.references if uid})
    studies = sorted({instance.study_uid for instance in labels if instance.study_uid})
    found: dict[str, LabelledImage] = {}
    for entry in list_collections(store_uri, ctx):
        table = obs_table(entry.uri, ctx)
        optional = [name for name in (_FRAME,) if name in table.columns]
        columns = ["study_uid", "kind", "volume", *optional, *SIZE_COLUMNS, *AFFINE_COLUMNS]
        rows = [
            *rows_of_series(table, named, columns),
            *rows_of_series(table, studies, columns, column="study_uid"),
        ]
        for row in rows:
            if row["kind"] == "image" and row["series_uid"]:
                found[row["volume"]] = LabelledImage(
                    grid=_grid(row),
                    series_uid=row["series_uid"],
                    study_uid=row["study_uid"] or "",
                    frame_of_reference_uid=row.get(_FRAME) or "",
                    joined_uids=members_of(row) - {row["series_uid"]},
                )
    return tuple(found[token] for token in sorted(found))


def _grid(row: Mapping[str, Any]) -> Grid:
    affine = affine_from_values([row[name] for name in AFFINE_COLUMNS])
    return Grid((int(row["size_x"]), int(row["size_y"]), int(row["size_z"])), affine)
