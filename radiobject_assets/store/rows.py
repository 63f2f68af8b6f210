"""The rows of a table as one object saw them: columns read when asked for, kept, addressed by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import tiledb
from blake3 import blake3
from numpy.typing import NDArray

from radiobject_assets.errors import AlignmentError, SchemaError, StorageError
from radiobject_assets.store.columns import Column
from radiobject_assets.store.context import ContextRef
from radiobject_assets.store.filters import Condition
from radiobject_assets.store.table import Table, now_ms

Positions = NDArray[np.intp]


class Rows:
    """A consistent picture of a table, sorted by its keys; `refresh` takes a new one.

    Columns are read on first use and kept, so that a filter over 100,000 rows touches one column. In another
    process (pickled or forked) the same moment is read again, and must show the same keys: views are
    positions in this picture, and a write that sorts earlier would shift them to other patients.
    """

    def __init__(
        self,
        uri: str,
        ctx: ContextRef,
        core: Mapping[str, Column] | None = None,
        timestamp: int | None = None,
    ) -> None:
        self.uri = uri
        self.timestamp = timestamp
        self._ctx = ctx
        self._core = dict(core or {})
        self._forget()

    def _forget(self) -> None:
        self._table: Table | None = None
        self._made_with: tiledb.Ctx | None = None
        self._opened_ms: int | None = None
        self._key_names: tuple[str, ...] = ()
        self._columns: dict[str, pa.Array] = {}
        self._positions: dict[str, int] | None = None
        self._moment: int | None = None
        self._keys_digest: str | None = None

    def _pin(self) -> None:
        """Bind to the moment and the keys of what was read, to be read again elsewhere."""
        if self._columns:
            self._moment, self._keys_digest = self._opened_ms, _digest(self._columns, self._key_names)

    def refresh(self) -> None:
        """Forget what was read: the next access shows the present state."""
        if self._table is not None:
            self._table.close()
        self._forget()

    @property
    def table(self) -> Table:
        """The table, opened with a context of this process."""
        ctx = self._ctx.get()
        if self._table is None or self._made_with is not ctx:
            # Another process or configuration: the picture is taken anew, of the same moment.
            self._pin()
            self._columns, self._positions = {}, None
            self._opened_ms = now_ms() if self._moment is None else self._moment
            moment = self._moment if self.timestamp is None else self.timestamp
            self._table, self._made_with = self._open_table(moment), ctx
        return self._table

    def _open_table(self, moment: int | None) -> Table:
        return Table(self.uri, self._ctx.get(), self._core, moment)

    def new_table(self) -> Table:
        """A handle for writing."""
        return Table(self.uri, self._ctx.get(), self._core)

    @property
    def index(self) -> tuple[str, ...]:
        """Names of the key columns."""
        return self.table.index

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
        """Read columns that are not there yet, in one query."""
        index = self.index
        missing = [name for name in names if name not in self._columns]
        if not missing:
            return
        unknown = [name for name in missing if name not in self.names]
        if unknown:
            raise SchemaError(f"no column {unknown[0]!r}; there are {', '.join(self.names)}")
        wanted = [name for name in missing if name not in index]
        try:
            table = self.table.read(wanted)
        except StorageError:
            # The fragments that this handle knew may have been merged and vacuumed meanwhile: the same
            # moment, opened again, shows the same rows from the merged ones.
            table = self._reopened().read(wanted)
        if not self._columns and self._keys_digest not in (None, _digest(table, index)):
            raise StorageError(f"{self.uri} changed while this view went to another process: call refresh()")
        self._key_names = index
        known = self._columns.get(index[0])
        if known is not None and any(
            not table.column(name).combine_chunks().equals(self._columns[name]) for name in index
        ):
            raise StorageError(f"{self.uri} changed in a way that this view cannot follow: call refresh()")
        for name in table.column_names:
            if name not in self._columns:
                self._columns[name] = table.column(name).combine_chunks()

    def _reopened(self) -> Table:
        moment = self.timestamp if self.timestamp is not None else self._opened_ms
        fresh = self._open_table(moment)
        if self._table is not None:
            self._table.close()
        self._table = fresh
        return fresh

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
        self._pin()
        return {
            "uri": self.uri,
            "timestamp": self.timestamp,
            "_ctx": self._ctx,
            "_core": self._core,
            "pinned": (self._moment, self._keys_digest),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        moment, digest = state.pop("pinned")
        self.__dict__.update(state)
        self._forget()
        self._moment, self._keys_digest = moment, digest


def _digest(columns: Mapping[str, pa.Array] | pa.Table, names: Sequence[str]) -> str:
    """A digest of the key columns, the same for the same keys in the same order."""
    digest = blake3()
    for name in names:
        column = columns[name]
        for value in column.to_pylist():
            encoded = value.encode()
            digest.update(len(encoded).to_bytes(4, "little") + encoded)
    return str(digest.hexdigest())


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Arrow to pandas: text as pandas strings, integers with gaps as nullable integers."""
    mapping = {
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
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        nullable = mapping.get(column.type) if column.null_count else None
        columns[name] = column.to_pandas(
            types_mapper=None if nullable is None else {column.type: nullable}.get
        )
    return pd.DataFrame(columns)
