"""What a collection shows: some of its volumes, in one state."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import tiledb

from radiobject_assets.store.format.layout import COLLECTION_FORMAT, OBS_CORE, SIZE_COLUMNS
from radiobject_assets.store.format.volume_header import HEADER_COLUMNS
from radiobject_assets.store.legacy.radiobject_format import radiobject_collection_name
from radiobject_assets.store.log.segments import RemovedError
from radiobject_assets.store.log.state import CollectionState
from radiobject_assets.store.names import OBS, OBS_ID, VOLUMES
from radiobject_assets.store.objects.chosen_rows import ChosenRows, open_rows
from radiobject_assets.store.objects.volume import Volume
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.uris import join, last_part, normalise


@dataclass(frozen=True, eq=False)
class ChosenVolumes:
    """Volumes of one collection in one state. It never changes: what is chosen out of it is another value."""

    uri: str
    """Of the collection."""
    rows: ChosenRows
    """Of obs."""

    @classmethod
    def opened(
        cls, uri: str | os.PathLike[str], ctx: tiledb.Ctx | None = None, moment: int | str | None = None
    ) -> Self:
        """All volumes of a collection at a moment (ms since 1970, a snapshot's name, or None for now)."""
        where = normalise(uri)
        rows = open_rows(join(where, OBS), ContextRef(ctx), COLLECTION_FORMAT, moment, OBS_CORE)
        return cls(where, rows)

    @property
    def ctx(self) -> ContextRef:
        """The context to read with."""
        return self.rows.all.ctx

    @property
    def _entry(self) -> CollectionState:
        picture = self.rows.all.picture
        directory = "" if picture.place.root == self.uri else last_part(self.uri)
        return picture.state.collections[directory]

    @cached_property
    def name(self) -> str:
        """Name of the collection."""
        if self.rows.is_radiobjects:
            return radiobject_collection_name(self.uri, self.ctx.get())
        return self._entry.name

    @cached_property
    def shapes(self) -> frozenset[tuple[int, ...]]:
        """The different shapes of the volumes, time included."""
        names = ("ndim", *SIZE_COLUMNS)
        self.rows.all.load(names)
        rows = [row for row in zip(*map(self.rows.column, names), strict=True) if row[0] is not None]
        table = np.unique(np.asarray(rows, np.int64), axis=0) if rows else np.empty((0, 5), np.int64)
        return frozenset(tuple(int(v) for v in row[1 : 1 + row[0]]) for row in table)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(X, Y, Z) that all volumes share, or None; of an empty collection, what it was made for."""
        shapes = {shape[:3] for shape in self.shapes}
        if not shapes and self.rows.positions is None and not self.rows.is_radiobjects:
            return self._entry.shape
        return next(iter(shapes)) if len(shapes) == 1 else None

    @property
    def ids(self) -> list[str]:
        """Ids of the volumes, in order."""
        return self.rows.column(OBS_ID)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Volume]:
        return (volume for volume, _ in self.with_rows())

    def volume(self, position: int | np.intp) -> Volume:
        """The volume of the row at a position among all rows of obs.

        Raises
        ------
        RemovedError
            Its subject was erased since the rows were read.
        """
        row = self.rows.all.records(int(position), HEADER_COLUMNS)
        if row["volume"] is None:
            raise RemovedError(
                f"a volume of {self.uri} was erased since its row was read: refresh() shows what is there now"
            )
        return Volume.from_row(join(self.uri, VOLUMES, row["volume"]), row, self.ctx)

    def with_rows(self) -> Iterator[tuple[Volume, dict[str, Any]]]:
        """Each volume with its row of obs; those of subjects that were erased since are passed over."""
        for position in self.rows.where:
            try:
                volume = self.volume(position)
            except RemovedError:
                continue
            yield volume, self.rows.all.records(int(position))

    def at(self, rows: ChosenRows) -> Self:
        """The volumes of other rows of the same obs."""
        return replace(self, rows=rows)

    def anew(self) -> Self:
        """All volumes as they will be when they are looked at next; see `ChosenRows.anew`."""
        return replace(self, rows=self.rows.anew())
