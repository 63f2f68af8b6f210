"""Rows of a table that an object shows: all of them or, in a view, some."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

import numpy as np
import pandas as pd

from radiobject_assets.errors import StorageError, ViewError
from radiobject_assets.store.format.layout import check_format
from radiobject_assets.store.legacy.radiobject_array import read_only
from radiobject_assets.store.legacy.radiobject_format import RadiObjectRows, is_radiobjects
from radiobject_assets.store.log.columns import Column
from radiobject_assets.store.log.table_reading import Picture, places_of_table
from radiobject_assets.store.names import ROWS, SUBJECT
from radiobject_assets.store.objects.indexing import Index, resolve_positions
from radiobject_assets.store.storage import DeadlineError
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.tables.rows import Positions, Rows

T = TypeVar("T")


class Indexer(Generic[T]):
    """`thing[key]`: what `pick` makes of the key."""

    def __init__(self, pick: Callable[[Any], T]) -> None:
        self._pick = pick

    def __getitem__(self, key: Any) -> T:
        return self._pick(key)


@dataclass(frozen=True, eq=False)
class ChosenRows:
    """Rows of one table in one state. It never changes: what is chosen out of it is another value.

    Raises
    ------
    KeyError
        By methods that take an id, where no row of these has it.
    """

    all: Rows
    """All rows of the table in that state."""
    positions: Positions | None = None
    """Of the rows chosen, in their order; None for all."""

    # -- what they are ------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """The key column that ids refer to."""
        return self.all.index[-1]

    @property
    def timestamp(self) -> int | None:
        """The moment shown, in milliseconds since 1970; None for what was the present."""
        moment = self.all.timestamp
        return self.all.picture.state.committed_ms if isinstance(moment, str) else moment

    @property
    def is_radiobjects(self) -> bool:
        """Whether the RadiObject package wrote them."""
        return isinstance(self.all, RadiObjectRows)

    @property
    def where(self) -> Positions:
        """Position of each among all rows, in order."""
        return np.arange(len(self.all), dtype=np.intp) if self.positions is None else self.positions

    def __len__(self) -> int:
        return len(self.all) if self.positions is None else len(self.positions)

    def column(self, name: str) -> list[Any]:
        """Values of one column, in order."""
        values = self.all.column(name)
        taken: list[Any] = (values if self.positions is None else values.take(self.positions)).to_pylist()
        return taken

    @property
    def subjects(self) -> list[str]:
        """Subject of each row, in order."""
        return self.column(SUBJECT)

    @cached_property
    def index(self) -> Index:
        """Index of the ids, in order."""
        return Index.build(self.column(self.key), self.key)

    def frame(self) -> pd.DataFrame:
        """All columns."""
        return self.all.frame(None, self.positions)

    # -- choosing -----------------------------------------------------------------------------------

    def position(self, key: str) -> int:
        """Position among all rows of the one with this id."""
        try:
            position = self.all.position(key, self.key)
        except KeyError:
            position = -1
        if position < 0 or not (self.positions is None or position in self._chosen):
            part = "" if self.positions is None else ", of which a view is shown"
            raise KeyError(f"{self.key} {key!r} not found in {self.all.uri}{part}")
        return position

    @cached_property
    def _chosen(self) -> frozenset[int]:
        return frozenset(() if self.positions is None else self.positions.tolist())

    def row(self, key: str) -> pd.DataFrame:
        """The row with this id, as a DataFrame with one row."""
        return self.all.frame(None, np.asarray([self.position(key)], np.intp))

    def at(self, positions: Positions) -> Self:
        """Those at positions among all rows."""
        return replace(self, positions=positions)

    def by_positions(self, key: Any) -> Self:
        """Those that an `iloc` key means."""
        if isinstance(key, str):
            raise TypeError("iloc takes positions; use loc for ids")
        return self.at(self.where[resolve_positions(key, len(self))])

    def by_ids(self, ids: Any) -> Self:
        """Those that a `loc` key other than a single id means."""
        if np.asarray(ids).dtype == np.bool_:  # a mask, as in pandas
            return self.by_positions(ids)
        if not all(isinstance(key, str) for key in ids):
            raise TypeError("loc takes ids; use iloc for positions")
        return self.at(np.asarray([self.position(key) for key in ids], np.intp))

    def of_subjects(self, subjects: Collection[str]) -> Self:
        """Those of some subjects; others are passed over."""
        wanted = set(subjects)
        return self.at(self.where[np.asarray([subject in wanted for subject in self.subjects], np.bool_)])

    def filter(self, expr: str) -> Self:
        """Those that meet a condition of the filter language."""
        return self.at(self.all.matching(expr, self.where))

    def with_values(self, column: str, values: Collection[str]) -> Self:
        """Those whose text column, or key, has one of these values, sorted by key."""
        if self.positions is not None or self.is_radiobjects:
            wanted = frozenset(values)
            return self.at(self.where[np.asarray([one in wanted for one in self.column(column)], np.bool_)])
        found = self.all.only(column, values)
        return replace(self, all=found, positions=np.arange(len(found), dtype=np.intp))

    def head(self, n: int) -> Self:
        """The first `n`; with a negative `n`, all but the last."""
        return self.at(self.where[:n])

    def tail(self, n: int) -> Self:
        """The last `n`; with a negative `n`, all but the first."""
        return self.at(self.where[-n:] if n else self.where[:0])

    def sample(self, n: int, seed: int | None = None) -> Self:
        """`n` drawn without replacement (all if there are fewer), in order."""
        drawn = np.random.default_rng(seed).choice(len(self), size=min(n, len(self)), replace=False)
        return self.at(self.where[np.sort(drawn)])

    # -- changing -----------------------------------------------------------------------------------

    def anew(self) -> Self:
        """The whole table as it will be when it is looked at next.

        Raises
        ------
        ViewError
            These are a view's or a snapshot's.
        """
        if self.positions is not None or self.all.timestamp is not None:
            raise ViewError("a view or a snapshot keeps what it shows: open the whole again")
        return replace(self, all=self.all.anew())

    def check_writable(self, action: str) -> None:
        """Raise where what is shown cannot be changed; `action` is e.g. `append to`."""
        if self.is_radiobjects:
            raise read_only(self.all.uri.rpartition("/")[0], action)
        if self.positions is not None:
            raise ViewError(f"Cannot {action} a view: {action} the whole, or write() the view first")
        if self.all.timestamp is not None:
            raise ViewError(f"Cannot {action} a snapshot: open the store without a timestamp")


def open_rows(
    table_uri: str,
    ctx: ContextRef,
    expected: str,
    moment: int | str | None = None,
    core: Mapping[str, Column] | None = None,
) -> ChosenRows:
    """All rows of the main table of a store or collection, whoever wrote it.

    Raises
    ------
    StorageError
        There is none of the `expected` format, or no such moment.
    """
    uri = table_uri.rpartition("/")[0]
    places = [place for place in places_of_table(table_uri) if place.folder != ROWS]
    picture = Picture(places, ctx, moment)
    try:
        if picture.place.folder not in picture.state.tables:
            check_format(uri, ctx, expected)  # says what is there instead
    except DeadlineError:
        raise
    except StorageError as error:
        if not is_radiobjects(uri, ctx.get(), expected):
            raise
        if moment is not None:
            raise StorageError(f"{uri}: the RadiObject package wrote it, without snapshots") from error
        return ChosenRows(RadiObjectRows(table_uri, ctx, core))
    return ChosenRows(Rows(table_uri, ctx, picture, core=core))
