"""What an opened store shows: some of its subjects and collections, in one state."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import tiledb

from radiobject_assets.store.format.layout import OBS_CORE, STORE_FORMAT, entries_of
from radiobject_assets.store.legacy.radiobject_format import RadiObjectRows, radiobject_collections
from radiobject_assets.store.names import OBS, OBS_META
from radiobject_assets.store.objects.chosen_rows import ChosenRows, open_rows
from radiobject_assets.store.objects.chosen_volumes import ChosenVolumes
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.uris import join, normalise
from radiobject_assets.store.tables.rows import Rows


@dataclass(frozen=True, eq=False)
class ChosenStore:
    """Subjects and collections of one store in one state. It never changes: a view is another value."""

    uri: str
    subjects: ChosenRows
    """Of obs_meta."""
    whole: Mapping[str, ChosenVolumes]
    """All collections by name, with the volumes of all subjects."""
    selected: tuple[str, ...] | None = None
    """Names of the collections chosen, in their order; None for all."""

    @classmethod
    def opened(
        cls, uri: str | os.PathLike[str], ctx: tiledb.Ctx | None = None, moment: int | str | None = None
    ) -> Self:
        """A whole store at a moment (milliseconds since 1970, a snapshot's name, or None for now)."""
        where, reference = normalise(uri), ContextRef(ctx)
        subjects = open_rows(join(where, OBS_META), reference, STORE_FORMAT, moment)
        whole = {}
        if subjects.is_radiobjects:
            for entry in radiobject_collections(where, reference.get()):
                theirs = RadiObjectRows(join(entry.uri, OBS), reference, OBS_CORE)
                whole[entry.name] = ChosenVolumes(entry.uri, ChosenRows(theirs))
        else:
            picture = subjects.all.picture
            for entry in entries_of(where, picture.state):
                rows = Rows(join(entry.uri, OBS), reference, picture, core=OBS_CORE)
                whole[entry.name] = ChosenVolumes(entry.uri, ChosenRows(rows))
        return cls(where, subjects, whole)

    @property
    def ctx(self) -> ContextRef:
        """The context to read with."""
        return self.subjects.all.ctx

    @property
    def is_view(self) -> bool:
        """Whether this is a choice of subjects or collections."""
        return self.subjects.positions is not None or self.selected is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the collections shown, in order."""
        return tuple(self.whole) if self.selected is None else self.selected

    def collection(self, name: str) -> ChosenVolumes:
        """The volumes of the subjects chosen in one of the collections chosen.

        Raises
        ------
        KeyError
            There is none of that name among them.
        """
        self.check_names([name])
        found = self.whole[name]
        if self.subjects.positions is None:
            return found
        return found.at(found.rows.of_subjects(self.subjects.subjects))

    def check_names(self, names: Sequence[str]) -> None:
        """Raise a KeyError for a name that is not of the collections chosen."""
        for name in names:
            if name not in self.names:
                there = ", ".join(self.names) or "none"
                raise KeyError(f"Collection {name!r} not found; there are {there}")

    def at(self, subjects: ChosenRows) -> Self:
        """Other subjects of the same store."""
        return replace(self, subjects=subjects)

    def select(self, names: Sequence[str]) -> Self:
        """Some of the collections."""
        self.check_names(names)
        return replace(self, selected=tuple(names))
