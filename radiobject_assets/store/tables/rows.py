"""The rows of a table as one object saw them: columns read when asked for, kept, addressed by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from radiobject_assets.errors import AlignmentError, SchemaError
from radiobject_assets.store.log.columns import Column
from radiobject_assets.store.log.table_reading import Picture, key_positions, places_of_table
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.tables.filters import Condition
from radiobject_assets.store.tables.table import Table

Positions = NDArray[np.intp]


class Rows:
    """A consistent picture of a table, sorted by its keys; it always shows the same state.

    Columns are read on first use and kept, so that a filter over 100,000 rows touches one column. Where
    somebody was erased since, the rows of others stay in their places, and those of the erased have nothing
    in the columns that are read from then on.

    Parameters
    ----------
    uri
        Of the table.
    ctx
        Context of TileDB, for the settings of S3.
    picture
        The state of the store to show; objects of one store share it. Without one, a picture of its own.
    core
        Columns that the store keeps itself, where the table has such.
    only
        Key columns of some rows, sorted by key: they are all that is shown, and of others nothing is read.
    """

    def __init__(
        self,
        uri: str,
        ctx: ContextRef,
        picture: Picture | None = None,
        moment: int | str | None = None,
        core: Mapping[str, Column] | None = None,
        only: Mapping[str, pa.Array] | None = None,
    ) -> None:
        self.uri = uri
        self.ctx = ctx
        self.core = dict(core or {})
        self.picture = picture or Picture(places_of_table(uri), ctx, moment)
        self._table: Any = None
        self._columns: dict[str, pa.Array] = dict(only or {})
        self._only = None if only is None else [values.to_pylist() for values in only.values()]
        self._positions: dict[str, int] | None = None

    def anew(self) -> Self:
        """The rows of the same table in the state that is the newest when they are first looked at."""
        return type(self)(self.uri, self.ctx, core=self.core)

    @property
    def table(self) -> Any:
        """The table that the rows are read from."""
        if self._table is None:
            self._table = self._open_table()
        return self._table

    def _open_table(self) -> Any:
        return Table(self.uri, self.ctx, picture=self.picture)

    def new_table(self) -> Table:
        """A handle for writing."""
        return Table(self.uri, self.ctx)

    @property
    def timestamp(self) -> int | str | None:
        """The moment that was asked for; None for the present."""
        return self.picture.moment

    @property
    def index(self) -> tuple[str, ...]:
        """Names of the key columns."""
        index: tuple[str, ...] = self.table.index
        return index

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, keys first."""
        return (*self.index, *self.table.columns)

    def __len__(self) -> int:
        return len(self.column(self.index[0]))

    def column(self, name: str) -> pa.Array:
        """All values of one column, in key order."""
        self.load([name])
        return self._columns[name]

    def load(self, names: Sequence[str]) -> None:
        """Read columns that are not there yet, together."""
        index = self.index
        missing = [name for name in names if name not in self._columns]
        if not missing:
            return
        known = self.names
        unknown = sorted(set(missing).difference(known))
        if unknown:
            raise SchemaError(f"no column {unknown[0]!r}; there are {', '.join(known)}")
        others = [name for name in missing if name not in index]
        table = self.table.read(others) if self._only is None else self.table.read(others, keys=self._only)
        read = {name: table.column(name).combine_chunks() for name in table.column_names}
        if self._columns and any(not read[key].equals(self._columns[key]) for key in index):
            places = key_positions([self._columns[key] for key in index], [read[key] for key in index])
            read = {name: values.take(places) for name, values in read.items()}
        for name, values in read.items():
            self._columns.setdefault(name, values)

    def only(self, column: str, values: Iterable[str]) -> Rows:
        """The rows of the same state whose text column, or key, has one of these values.

        Read is that column of all segments, and nothing else of other rows.
        """
        if column in self.index:
            asked = sorted(set(values))
            found = self.table.read([], keys=[asked if name == column else None for name in self.index])
        else:
            found = self.table.rows_where(column, values, [])
        keys = {name: found.column(name).combine_chunks() for name in self.index}
        return Rows(self.uri, self.ctx, self.picture, core=self.core, only=keys)

    def keys(self, name: str) -> list[str]:
        """All values of a key column."""
        values: list[str] = self.column(name).to_pylist()
        return values

    def position(self, key: str, name: str) -> int:
        """Position of the row whose key column `name` is `key`.

        Raises
        ------
        KeyError
            Where no row has it.
        AlignmentError
            Where several rows share an id that must be unique.
        """
        if self._positions is None:
            keys = self.keys(name)
            self._positions = {value: i for i, value in enumerate(keys)}
            if len(self._positions) != len(keys):
                twice = len(keys) - len(self._positions)
                self._positions = None
                raise AlignmentError(f"{twice} {name}(s) in {self.uri} belong to more than one subject")
        return self._positions[key]

    def frame(self, names: Sequence[str] | None = None, positions: Positions | None = None) -> pd.DataFrame:
        """Columns as a DataFrame, of all rows or those at `positions`, in that order."""
        wanted = list(self.names if names is None else names)
        self.load(wanted)
        table = pa.table({name: self._columns[name] for name in wanted})
        if positions is not None:
            table = table.take(pa.array(positions))
        return to_frame(table)

    def records(self, position: int, names: Sequence[str] | None = None) -> dict[str, Any]:
        """One row as a dict of Python values; missing values are None."""
        wanted = list(self.names if names is None else names)
        self.load(wanted)
        return {name: self._columns[name][position].as_py() for name in wanted}

    def matching(self, expression: str, positions: Positions | None = None) -> Positions:
        """Positions (of all rows, or out of `positions`) that meet a filter expression."""
        condition = Condition(expression)
        self.load(condition.columns)
        mask = condition.mask(self.column, len(self))
        if positions is None:
            return np.flatnonzero(mask)
        return positions[mask[positions]]

    def __getstate__(self) -> dict[str, Any]:
        _ = self.picture.state  # the other process shows the same
        keys = {name: self._columns[name] for name in self.index if name in self._columns}
        state = {**self.__dict__, "_table": None, "_positions": None, "_columns": {}}
        # Positions of a view count by these keys, should somebody be erased on the way.
        return {**state, "_columns": keys if len(keys) == len(self.index) else {}}


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Arrow to pandas: text as pandas strings, integers with gaps as nullable integers.

    Whole tables at once: 50 columns one by one take four times as long.
    """
    gaps = [
        name
        for name in table.column_names
        if table[name].null_count and table.schema.field(name).type in _NULLABLE
    ]
    frame: pd.DataFrame = table.drop_columns(gaps).to_pandas(ignore_metadata=True)
    if not gaps:
        return frame
    nullable = table.select(gaps).to_pandas(ignore_metadata=True, types_mapper=_NULLABLE.get)
    both: pd.DataFrame = pd.concat([frame, nullable], axis=1)
    return both.reindex(columns=table.column_names)


_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}
"""What pandas has for integers and truth values of which some are missing."""
