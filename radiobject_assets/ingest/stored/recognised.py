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
- An image that is replaced where another delivery has a copy of the old one: the volume is that delivery's
  from now on, and the new image gets an id of its own.
- Two subjects are never merged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
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
COPY = "a copy of what the store has from another place"
Holders = Callable[[str], Mapping[tuple[str, str], Collection[str]]]


@dataclass(frozen=True)
class Recognised:
    """A plan in which images that the store has under another path have the id that they have there."""

    plan: IngestPlan
    copies: Mapping[Series, str]
    """Of those whose old source is there still: what is to be told."""
    handed_on: Mapping[tuple[str, str, str], str]
    """Volumes (collection, subject, id) that are another arrival's from now on: its key."""


def recognised(
    plan: IngestPlan,
    collections: Collection[str] | None,
    store_uri: str,
    digest: Callable[[Series], str | None],
    present: Collection[str] | None,
    ctx: TileDBContext,
    holders: Holders = lambda collection: {},
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
    holders
        Of a collection, the arrivals that have copies of volumes of another: by subject and id of the volume.
    """
    mine = [p for p in plan.selected(collections) if not p.series.series_uid]
    if any(p.is_labels for p in mine):
        images = [p for p in plan.selected(None) if not p.is_labels and not p.series.series_uid]
        mine = [*images, *(p for p in mine if p.is_labels)]
    if not mine:
        return Recognised(plan, {}, {})
    finder = _Finder(plan, _rows(store_uri, mine, ctx), digest, present, holders)
    for planned in sorted(mine, key=lambda p: p.is_labels):  # images first: labels go by theirs
        finder.find(planned)
    ids = finder.ids
    renamed = tuple(replace(p, obs_id=ids[id(p)]) if id(p) in ids else p for p in plan.planned)
    return Recognised(replace(plan, planned=renamed), finder.copies, finder.handed_on)


class _Finder:
    def __init__(
        self,
        plan: IngestPlan,
        rows: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
        digest: Callable[[Series], str | None],
        present: Collection[str] | None,
        holders: Holders,
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
        self.handed_on: dict[_Place, str] = {}
        self._holders = cache(holders)

    def find(self, planned: PlannedSeries) -> None:
        collection, subject = planned.collection or "", planned.subject_id
        rows = self._rows.get((collection, subject), ())
        by_id = {row[OBS_ID]: row for row in rows}
        key, own_id = volume_key(planned.series, planned.arrival), planned.obs_id or ""
        # an id that is another delivery's stays so: the next image of this path goes by what it had before
        while (taken := by_id.get(own_id)) is not None and self._is_anothers(planned, taken):
            key = f"{key}\0{taken['source_digest']}"
            own_id = obs_id_of(subject, collection, key)
        if taken is not None:
            if own_id != planned.obs_id:
                self._is(planned, own_id)
            return
        possible = [row for row in rows if self._may_be(planned, row)]
        digest = self._digest(planned.series) if possible else None
        same = [row for row in possible if digest is not None and row["source_digest"] == digest]
        if not same:
            if own_id != planned.obs_id:
                self.ids[id(planned)] = own_id
            return
        row = min(same, key=lambda row: (not self._has_its_path(planned, row), row[OBS_ID]))
        self._is(planned, row[OBS_ID])
        if not self._is_gone(planned, row):
            self.copies[planned.series] = COPY

    def _is(self, planned: PlannedSeries, obs_id: str) -> None:
        place = planned.collection or "", planned.subject_id, obs_id
        self._taken.add(place)
        self.ids[id(planned)] = obs_id
        if not planned.is_labels:
            self._images.add(place)

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
        """Whether the volume of this id is that of a delivery which had this name before, and was renamed, or
        of one which has a copy of what was replaced here."""
        if not planned.arrival or not own["arrival"]:
            return False
        holder = self._holder(planned, own) if own["arrival"] == planned.arrival else ""
        if holder is None:
            return False
        digest = self._digest(planned.series)
        if digest is None or digest == own["source_digest"]:
            return False
        if holder:
            self.handed_on[planned.collection or "", planned.subject_id, own[OBS_ID]] = holder
        return True

    def _holder(self, planned: PlannedSeries, row: Mapping[str, Any]) -> str | None:
        """The arrival that has a copy of a volume of this one, and is there still."""
        holding = self._holders(planned.collection or "").get((planned.subject_id, row[OBS_ID]), ())
        there = {key for key in holding if self._present is None or key in self._present} - {planned.arrival}
        return min(there, default=None)

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
