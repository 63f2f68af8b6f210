"""What stores and collections have in common: rows of a table, all of them or, in a view, some."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import pandas as pd

from radiobject_assets.errors import ViewError
from radiobject_assets.store.context import ContextRef
from radiobject_assets.store.indexing import Index, resolve_positions
from radiobject_assets.store.names import SUBJECT
from radiobject_assets.store.radiobject_array import read_only
from radiobject_assets.store.radiobject_format import RadiObjectRows
from radiobject_assets.store.rows import Positions, Rows

T = TypeVar("T")


class Indexer(Generic[T]):
    """`thing[key]`: what `pick` makes of the key."""

    def __init__(self, pick: Callable[[Any], T]) -> None:
        self._pick = pick

    def __getitem__(self, key: Any) -> T:
        return self._pick(key)


class RowChoice(ABC):
    """Rows that an object shows, and the views of some of them."""

    _KEY: ClassVar[str]
    """The key column that ids refer to."""

    _uri: str
    _ctx: ContextRef
    _rows: Rows
    _positions: Positions | None
    _chosen: frozenset[int] | None

    def _show(self, uri: str, ctx: ContextRef, rows: Rows) -> None:
        self._uri, self._ctx, self._rows = uri, ctx, rows
        self._positions = self._chosen = None

    def _at(self, positions: Positions | None) -> Self:
        view = type(self).__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._positions, view._chosen = positions, None
        return view

    @property
    @abstractmethod
    def _described(self) -> str:
        """What it is called in errors."""

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """Where it is stored."""
        return self._uri

    @property
    def timestamp(self) -> int | None:
        """The moment shown, in milliseconds since 1970; None for now."""
        moment = self._rows.timestamp
        return self._rows.picture.state.committed_ms if isinstance(moment, str) else moment

    @property
    def is_view(self) -> bool:
        """Whether this shows a part only."""
        return self._positions is not None

    @property
    def is_radiobjects(self) -> bool:
        """Whether the RadiObject package wrote it: it can be read here and not changed."""
        return isinstance(self._rows, RadiObjectRows)

    @property
    def _where(self) -> Positions:
        return np.arange(len(self._rows), dtype=np.intp) if self._positions is None else self._positions

    def __len__(self) -> int:
        return len(self._rows) if self._positions is None else len(self._positions)

    def _column(self, name: str) -> list[Any]:
        values = self._rows.column(name)
        taken: list[Any] = (values if self._positions is None else values.take(self._positions)).to_pylist()
        return taken

    @property
    def obs_subject_ids(self) -> list[str]:
        """Subject of each row, in order."""
        return self._column(SUBJECT)

    @property
    def index(self) -> Index:
        """Index of the ids, in order."""
        return Index.build(self._column(self._KEY), self._KEY)

    # -- choosing -----------------------------------------------------------------------------------

    def _position(self, key: str) -> int:
        try:
            position = self._rows.position(key, self._KEY)
        except KeyError:
            position = -1
        if position < 0 or not self._shows(position):
            raise KeyError(f"{self._KEY} {key!r} not found in {self._described}")
        return position

    def _shows(self, position: int) -> bool:
        if self._positions is None:
            return True
        if self._chosen is None:
            self._chosen = frozenset(self._positions.tolist())
        return position in self._chosen

    def _row(self, key: str) -> pd.DataFrame:
        return self._rows.frame(None, np.asarray([self._position(key)], np.intp))

    def _by_positions(self, key: Any) -> Self:
        if isinstance(key, str):
            raise TypeError("iloc takes positions; use loc for ids")
        return self._at(self._where[resolve_positions(key, len(self))])

    def _by_ids(self, ids: Any) -> Self:
        if np.asarray(ids).dtype == np.bool_:  # a mask, as in pandas
            return self._by_positions(ids)
        if not all(isinstance(key, str) for key in ids):
            raise TypeError("loc takes ids; use iloc for positions")
        return self._at(np.asarray([self._position(key) for key in ids], np.intp))

    def _of_subjects(self, subjects: set[str]) -> Self:
        keep = np.asarray([subject in subjects for subject in self.obs_subject_ids], np.bool_)
        return self._at(self._where[keep])

    def filter(self, expr: str) -> Self:
        """A view of the rows that meet a condition, e.g. `"age >= 50"` or `"spacing_z_mm <= 1.5"`."""
        return self._at(self._rows.matching(expr, self._where))

    def head(self, n: int = 5) -> Self:
        """A view of the first `n`; with a negative `n`, of all but the last, as in pandas."""
        return self._at(self._where[:n])

    def tail(self, n: int = 5) -> Self:
        """A view of the last `n`; with a negative `n`, of all but the first, as in pandas."""
        return self._at(self._where[-n:] if n else self._where[:0])

    def sample(self, n: int = 5, seed: int | None = None) -> Self:
        """A view of `n` drawn without replacement (all if there are fewer), in order."""
        drawn = np.random.default_rng(seed).choice(len(self), size=min(n, len(self)), replace=False)
        return self._at(self._where[np.sort(drawn)])

    # -- changing -----------------------------------------------------------------------------------

    def _for_writing(self, action: str) -> None:
        """Raise where this cannot be changed; `action` is e.g. `append to`."""
        if self.is_radiobjects:
            raise read_only(self._uri, action)
        if self.is_view:
            raise ViewError(f"Cannot {action} a view: {action} the whole, or write() the view first")
        if self._rows.timestamp is not None:
            raise ViewError(f"Cannot {action} a snapshot: open the store without a timestamp")
