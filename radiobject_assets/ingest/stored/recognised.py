"""Images without a UID that the store has already: a file that comes again is no second volume.

A DICOM series is known by its UID, wherever it lies. An image in a file of its own (NIfTI, MGH, NRRD,
MetaImage) is known by its arrival and its path, so a delivery that was renamed or moved would double it. Here
it is known by its content: the same subject, collection and bytes are the same volume, and keep its id.

- Its old source is gone: it has moved, and its row follows (`Holdings.change`).
- Its old source is there still: what has the same name is a copy, and is told as one. What is named as an
  image of another session, run... is taken in, since only a person can say which name is wrong; the checks
  find two volumes with one content.
- Labels are those of their image: masks of many images are equal (all empty, say), so they are known only
  where the image that they lie on is, or by their path.
- A name that is used again by another delivery: its image gets an id of its own, and takes nothing away from
  the one that was renamed.
- Two subjects are never merged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from radiobject_assets.imaging.series.record import Series
from radiobject_assets.ingest.identity import obs_id_of, volume_key
from radiobject_assets.ingest.labels_on_images.labelled_image import TELLING
from radiobject_assets.ingest.plan import IngestPlan, PlannedSeries
from radiobject_assets.store import (
    OBS_ID,
    SIZE_COLUMNS,
    SUBJECT,
    TileDBContext,
    list_collections,
    obs_table,
)

_READ = (
    "series_uid", "component", "kind", "arrival", "source_digest", "labels_of", "labels_of_collection",
    "ndim", *SIZE_COLUMNS, *TELLING,
)  # fmt: skip

_Place = tuple[str, str, str]
"""Collection, subject and id of a volume."""


@dataclass(frozen=True)
class Recognised:
    """A plan in which images that the store has under another path have the id that they have there."""

    plan: IngestPlan
    copies: Mapping[Series, str]
    """Of those whose old source is there still: what is to be told."""


def recognised(
    plan: IngestPlan,
    collections: Collection[str] | None,
    store_uri: str,
    digest: Callable[[Series], str | None],
    present: Collection[str] | None,
    ctx: TileDBContext,
) -> Recognised:
    """Find the volumes of a plan's images by content.

    Files are read only where the store has a volume of their subject, collection and size that no file of the
    plan accounts for.

    Parameters
    ----------
    collections
        Those that are taken in; of others only the images that labels may lie on.
    digest
        The `source_digest` of a series, from its files; None if they can't be read.
    present
        Keys of the arrivals whose files are there still; None: that is not known (the command line). Then
        what has the same name is the same image.
    """
    mine = [p for p in plan.selected(collections) if not p.series.series_uid]
    if any(p.is_labels for p in mine):
        images = [p for p in plan.selected(None) if not p.is_labels and not p.series.series_uid]
        mine = [*images, *(p for p in mine if p.is_labels)]
    if not mine:
        return Recognised(plan, {})
    finder = _Finder(plan, _rows(store_uri, mine, ctx), digest, present)
    for planned in sorted(mine, key=lambda p: p.is_labels):  # images first: labels go by theirs
        finder.find(planned)
    ids = finder.ids
    renamed = tuple(replace(p, obs_id=ids[id(p)]) if id(p) in ids else p for p in plan.planned)
    return Recognised(replace(plan, planned=renamed), finder.copies)


class _Finder:
    def __init__(
        self,
        plan: IngestPlan,
        rows: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
        digest: Callable[[Series], str | None],
        present: Collection[str] | None,
    ) -> None:
        self._rows = rows
        self._digest = digest
        self._present = present
        self._planned = {(p.collection or "", p.subject_id, p.obs_id or "") for p in plan.planned}
        self._with_images = {p.subject_id for p in plan.planned if not p.is_labels}
        self._images = {
            (p.collection or "", p.subject_id, p.obs_id or "") for p in plan.planned if not p.is_labels
        }
        self._taken: set[_Place] = set()
        self.ids: dict[int, str] = {}
        self.copies: dict[Series, str] = {}

    def find(self, planned: PlannedSeries) -> None:
        collection, subject = planned.collection or "", planned.subject_id
        rows = self._rows.get((collection, subject), ())
        own = next((row for row in rows if row[OBS_ID] == planned.obs_id), None)
        if own is not None and not self._is_anothers(planned, own):
            return
        possible = [row for row in rows if self._may_be(planned, row)]
        digest = self._digest(planned.series) if possible else None
        same = [row for row in possible if digest is not None and row["source_digest"] == digest]
        if not same:
            if own is not None:
                key = f"{volume_key(planned.series, planned.arrival)}\0{self._digest(planned.series)}"
                self.ids[id(planned)] = obs_id_of(subject, collection, key)
            return
        row = min(same, key=lambda row: (not self._has_its_path(planned, row), row[OBS_ID]))
        self._taken.add((collection, subject, row[OBS_ID]))
        self.ids[id(planned)] = row[OBS_ID]
        if not planned.is_labels:
            self._images.add((collection, subject, row[OBS_ID]))
        if not self._is_gone(planned, row):
            self.copies[planned.series] = "a copy of what the store has from another place"

    def _may_be(self, planned: PlannedSeries, row: Mapping[str, Any]) -> bool:
        place = (planned.collection or "", planned.subject_id, row[OBS_ID])
        if row["series_uid"] or place in self._planned or place in self._taken:
            return False
        is_labels = row["kind"] == "labels"
        if is_labels != planned.is_labels or (row["component"] or "") != planned.series.component:
            return False
        if planned.series.shape is None or (
            len(planned.series.shape) == 3
            and row["ndim"] == 3
            and math.prod(planned.series.shape) != math.prod(int(row[name]) for name in SIZE_COLUMNS[:3])
        ):
            return False
        if is_labels and not self._of_its_image(planned, row):
            return False
        return self._is_gone(planned, row) or _is_named_alike(planned, row)

    def _is_anothers(self, planned: PlannedSeries, own: Mapping[str, Any]) -> bool:
        """Whether the volume of this id is that of a delivery which had this name before, and was renamed."""
        if not planned.arrival or (own["arrival"] or "") in ("", planned.arrival):
            return False
        digest = self._digest(planned.series)
        return digest is not None and digest != own["source_digest"]

    def _of_its_image(self, labels: PlannedSeries, row: Mapping[str, Any]) -> bool:
        image = (row["labels_of_collection"] or "", labels.subject_id, row["labels_of"] or "")
        if image in self._images:
            return True
        return labels.subject_id not in self._with_images and self._has_its_path(labels, row)

    def _has_its_path(self, planned: PlannedSeries, row: Mapping[str, Any]) -> bool:
        """Whether the file lies in its arrival where the row's file lay in another one."""
        arrival = row["arrival"] or ""
        key = volume_key(planned.series, arrival)
        return bool(arrival) and row[OBS_ID] == obs_id_of(planned.subject_id, planned.collection or "", key)

    def _is_gone(self, planned: PlannedSeries, row: Mapping[str, Any]) -> bool:
        """Whether the file that a row was made of is known to be there no more."""
        arrival = row["arrival"] or ""
        if not arrival or not planned.arrival or self._present is None:
            return False
        # of this arrival, but under none of the names that it has now (`_may_be`)
        return arrival == planned.arrival or arrival not in self._present


def _is_named_alike(planned: PlannedSeries, row: Mapping[str, Any]) -> bool:
    told = planned.series.attributes
    return all(str(told.get(name) or "") == str(row.get(name) or "") for name in TELLING)


def _rows(
    store_uri: str, planned: Iterable[PlannedSeries], ctx: TileDBContext
) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    subjects: dict[str, set[str]] = {}
    for one in planned:
        subjects.setdefault(one.collection or "", set()).add(one.subject_id)
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in list_collections(store_uri, ctx):
        if entry.name in subjects:
            table = obs_table(entry.uri, ctx)
            columns = [name for name in _READ if name in table.columns]
            for row in table.read(columns, keys=[sorted(subjects[entry.name])]).to_pylist():
                found.setdefault((entry.name, row[SUBJECT]), []).append(row)
    return found
