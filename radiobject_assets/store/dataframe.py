"""A stored table with string keys: obs, obs_meta, or one of the user's own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import tiledb

from radiobject_assets.errors import SchemaError, ViewError
from radiobject_assets.store.columns import (
    Column,
    to_arrow,
    type_of_arrow,
    type_of_dtype,
    validate_column_name,
)
from radiobject_assets.store.context import ContextRef
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.reading import read_table
from radiobject_assets.store.names import OBS_ID, SUBJECT
from radiobject_assets.store.rows import Positions, Rows
from radiobject_assets.store.table import Table, create_table
from radiobject_assets.store.uris import normalise

INDEX_COLUMNS = (SUBJECT, OBS_ID)


class Dataframe:
    """Rows with string keys, sorted by them.

    Parameters
    ----------
    uri
        Where the table is.
    ctx
        TileDB context; None for the process's own.
    """

    def __init__(self, uri: str | os.PathLike[str], ctx: tiledb.Ctx | None = None) -> None:
        self._rows = Rows(normalise(uri), ContextRef(ctx))
        self._positions: Positions | None = None
        self._core: Mapping[str, Column] = {}
        _ = self._rows.index  # so that a wrong URI fails here and now

    @classmethod
    def _of(cls, rows: Rows, core: Mapping[str, Column], positions: Positions | None = None) -> Dataframe:
        frame = cls.__new__(cls)
        frame._rows, frame._core, frame._positions = rows, core, positions
        return frame

    @property
    def uri(self) -> str:
        """Where the table is."""
        return self._rows.uri

    @property
    def is_view(self) -> bool:
        """Whether this shows some of the rows only."""
        return self._positions is not None

    @property
    def index_columns(self) -> tuple[str, ...]:
        """Names of the key columns."""
        return self._rows.index

    @property
    def columns(self) -> list[str]:
        """Names of the columns beside the keys."""
        return [name for name in self._rows.names if name not in self._rows.index]

    @property
    def all_columns(self) -> list[str]:
        """Names of all columns, keys first."""
        return list(self._rows.names)

    @property
    def dtypes(self) -> dict[str, Any]:
        """Dtype of each column beside the keys, as `read()` returns it."""
        empty = self._rows.frame(positions=np.empty(0, np.intp))
        return {name: empty[name].dtype for name in self.columns}

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns beside the keys)."""
        return len(self), len(self.columns)

    def __len__(self) -> int:
        return len(self._rows) if self._positions is None else len(self._positions)

    def __iter__(self) -> Any:
        return iter(self.columns)

    def __getitem__(self, name: str | list[str]) -> pd.DataFrame:
        """One or several columns, keys first."""
        return self.read(columns=[name] if isinstance(name, str) else list(name))

    def read(
        self,
        columns: Sequence[str] | None = None,
        value_filter: str | None = None,
        include_index: bool = True,
    ) -> pd.DataFrame:
        """Rows as a pandas DataFrame.

        Parameters
        ----------
        columns
            Columns beside the keys; None for all.
        value_filter
            Condition of the filter language, e.g. `"age >= 50 and sex == 'F'"`.
        include_index
            Whether the keys are there too, as the first columns.
        """
        chosen = self.columns if columns is None else [n for n in columns if n not in self._rows.index]
        wanted = [*self._rows.index, *chosen] if include_index else chosen
        if not include_index and columns is not None:
            wanted = list(columns)
        positions = self._positions
        if value_filter is not None:
            positions = self._rows.matching(value_filter, positions)
        return self._rows.frame(wanted, positions)

    def to_pandas(self) -> pd.DataFrame:
        """All rows and columns."""
        return self.read()

    def refresh(self) -> None:
        """Show what is stored now."""
        self._rows.refresh()

    # -- changing -----------------------------------------------------------------------------------

    def _for_writing(self) -> None:
        if self._positions is not None or self._rows.timestamp is not None:
            raise ViewError("a view or a snapshot of a table cannot be changed; change the table itself")

    def _refuse_core(self, names: Sequence[str], action: str) -> None:
        fixed = [name for name in names if name in self._core or name in self._rows.index]
        if fixed:
            raise SchemaError(f"column {fixed[0]!r} is kept by the store: it cannot be {action}")

    def add_column(self, name: str, dtype: Any, fill: Any = None) -> None:
        """Add a column; rows that are there get `fill`, or are missing a value."""
        self._for_writing()
        validate_column_name(name)
        if name in self._rows.names:
            raise ValueError(f"Column {name!r} already exists")
        column = Column(name, type_of_dtype(dtype))

        def add(draft: Draft, table: str) -> None:
            draft.add_columns(table, [column])
            if fill is not None:
                rows = read_table(draft.storage, table, draft.state.table(table))
                values = pa.array([fill] * rows.num_rows, column.type.arrow if column.type else None)
                draft.put(table, rows.set_column(rows.column_names.index(name), name, values))

        self._rows.new_table().commit("add a column", add)
        self.refresh()

    def drop_column(self, name: str) -> None:
        """Remove a column and its values."""
        self._for_writing()
        self._refuse_core([name], "dropped")
        if name not in self._rows.names:
            raise ValueError(f"Column {name!r} does not exist; there are {', '.join(self.columns)}")
        self._rows.new_table().drop_columns([name])
        self.refresh()

    def update(self, df: pd.DataFrame) -> None:
        """Write the columns of `df` into the rows with its keys; other columns of these rows stay.

        Keys come from columns or from the index of `df`. Rows with new keys are added, new columns too.
        """
        self._for_writing()
        frame = _with_keys(df, self._rows.index)
        self._refuse_core([n for n in frame.columns if n not in self._rows.index], "changed by hand")
        if self._core:
            self._only_known_keys(frame)
        upsert_frame(self._rows.new_table(), frame)
        self.refresh()

    def _only_known_keys(self, frame: pd.DataFrame) -> None:
        index = list(self._rows.index)
        have = set(map(tuple, self._rows.frame(index).itertuples(index=False)))
        new = [key for key in map(tuple, frame[index].itertuples(index=False)) if key not in have]
        if new:
            raise SchemaError(f"{len(new)} row(s) have no volume: rows of obs come with a volume only")

    def delete(self, cond: str) -> int:
        """Delete the rows that meet a condition of the filter language; returns how many they were."""
        self._for_writing()
        if self._core:
            raise SchemaError("rows of obs are deleted with their volumes: use the collection's delete")
        positions = self._rows.matching(cond)
        keys = self._rows.frame(list(self._rows.index), positions)
        self._rows.new_table().delete(list(keys.itertuples(index=False, name=None)))
        self.refresh()
        return len(positions)

    # -- making -------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike[str],
        schema: Mapping[str, Any],
        ctx: tiledb.Ctx | None = None,
        index_columns: Sequence[str] = INDEX_COLUMNS,
    ) -> Dataframe:
        """An empty table with columns `schema` (name to dtype) beside the string keys `index_columns`."""
        reference = ContextRef(ctx)
        uri = normalise(uri)
        for name in schema:
            if name in index_columns:
                raise ValueError(f"column {name!r} conflicts with index column {name!r}")
        columns = [Column(validate_column_name(name), type_of_dtype(dtype)) for name, dtype in schema.items()]
        create_table(uri, index_columns, columns, reference)
        return cls(uri, ctx)

    @classmethod
    def from_pandas(
        cls,
        uri: str | os.PathLike[str],
        df: pd.DataFrame,
        ctx: tiledb.Ctx | None = None,
        index_columns: Sequence[str] = INDEX_COLUMNS,
    ) -> Dataframe:
        """A table with the rows of `df`, whose columns or index hold the keys."""
        frame = _with_keys(df, index_columns)
        rows = frame_to_arrow(frame, index_columns)
        schema = {n: _kind_of(rows.schema.field(n).type) for n in rows.column_names if n not in index_columns}
        table = cls.create(uri, schema, ctx, index_columns)
        upsert_frame(table._rows.new_table(), frame)
        table.refresh()
        return table

    def __repr__(self) -> str:
        return f"Dataframe({len(self)} rows, keys {', '.join(self.index_columns)}; {', '.join(self.columns)})"


_KINDS = {"double": "float64", "float": "float32", "halffloat": "float32"}


def _kind_of(arrow: pa.DataType) -> str:
    if pa.types.is_large_string(arrow):
        return "utf8"
    if pa.types.is_timestamp(arrow):
        return "time_ms"
    return _KINDS.get(str(arrow), str(arrow))


def _with_keys(df: pd.DataFrame, index: Sequence[str]) -> pd.DataFrame:
    frame = df
    if not all(name in frame.columns for name in index):
        named = [name for name in frame.index.names if name is not None]
        if named and all(name in (*frame.columns, *named) for name in index):
            frame = frame.reset_index()
        elif len(index) == 1 and not named and frame.index.dtype.kind not in "iu":
            frame = frame.rename_axis(index[0]).reset_index()
    missing = [name for name in index if name not in frame.columns]
    if missing:
        raise ValueError(f"the DataFrame must contain index column(s) {', '.join(missing)}")
    return frame


def ensure_obs_columns(df: pd.DataFrame, require_obs_id: bool = False, context: str = "") -> pd.DataFrame:
    """`df` itself, if it has the key columns of subjects or, with `require_obs_id`, of volumes.

    Raises
    ------
    ValueError
        Naming the column that it lacks, and the `context`.
    """
    for name in INDEX_COLUMNS if require_obs_id else (SUBJECT,):
        if name not in df.columns:
            raise ValueError(f"{context or 'the DataFrame'} must contain the column {name!r}")
    return df


def validate_no_column_collisions(given: Iterable[str], kept: Iterable[str], context: str = "") -> None:
    """Raise a ValueError where columns beside the keys are in both."""
    both = (set(given) & set(kept)) - set(INDEX_COLUMNS)
    if both:
        raise ValueError(
            f"{context or 'the DataFrame'}: column(s) {sorted(both)} collide with those of the images"
        )


def frame_to_arrow(frame: pd.DataFrame, index: Sequence[str]) -> pa.Table:
    """A DataFrame as rows of a table: keys as text, each once; other columns of types a table holds.

    Raises
    ------
    SchemaError
        For missing keys and columns that cannot be stored.
    ValueError
        For keys that occur twice.
    """
    columns: dict[str, pa.Array] = {}
    for name in index:
        if frame[name].isna().any():
            raise SchemaError(f"key column {name!r} may not be empty in any row")
        columns[name] = pa.array([str(value) for value in frame[name]], pa.large_string())
    keys = list(zip(*(columns[name].to_pylist() for name in index), strict=True))
    if len(set(keys)) != len(keys):
        raise ValueError(f"{len(keys) - len(set(keys))} row(s) have a key that occurs twice")
    for name in frame.columns:
        if name not in index:
            columns[validate_column_name(name)] = to_arrow(name, frame[name])[1]
    return pa.table(columns)


def upsert_frame(table: Table, frame: pd.DataFrame) -> None:
    """Write the columns of `frame` into the rows with its keys, keeping the other columns of these rows.

    Rows that are there already as they would be written are not written again.
    """
    if len(frame):
        table.commit("update", lambda draft, name: update_rows(draft, name, frame))


def update_rows(draft: Draft, name: str, frame: pd.DataFrame) -> None:
    """`upsert_frame` in a draft."""
    table = draft.state.table(name)
    rows = frame_to_arrow(_with_keys(frame, table.keys), table.keys)
    old = read_table(draft.storage, name, table, None, [rows.column(table.keys[0]).to_pylist()])
    rows, where = _keep_other_columns(rows, old, table.keys)
    rows = _as_stored(rows, table.keys, table.columns)
    changed = _changed(rows, old, where)
    new = [n for n in rows.column_names if n not in old.column_names]
    draft.add_columns(name, [Column(n, type_of_arrow(n, rows.schema.field(n).type)) for n in new])
    if changed:
        draft.put(name, rows.take(pa.array(changed)))


def _keep_other_columns(
    rows: pa.Table, old: pa.Table, index: Sequence[str]
) -> tuple[pa.Table, list[int | None]]:
    """The rows with the columns that they lack, and the place of each in `old` (None where it is new)."""
    place = {key: i for i, key in enumerate(zip(*(old.column(n).to_pylist() for n in index), strict=True))}
    keys = zip(*(rows.column(name).to_pylist() for name in index), strict=True)
    where = [place.get(key) for key in keys]
    for name in old.column_names:
        if name not in rows.column_names:
            kept = old.column(name).combine_chunks().take(pa.array(where, pa.int64()))
            rows = rows.append_column(name, kept)
    return rows, where


def _changed(rows: pa.Table, old: pa.Table, where: Sequence[int | None]) -> list[int]:
    """Positions of the rows that are new, or differ from what is in their place."""
    before = [None if place is None else row for place, row in zip(where, _rows_at(old, where), strict=True)]
    found = []
    for number, (row, was) in enumerate(zip(rows.to_pylist(), before, strict=True)):
        if was is None or any(
            type(value) is not type(was.get(name)) or value != was.get(name) for name, value in row.items()
        ):
            found.append(number)
    return found


def _rows_at(table: pa.Table, where: Sequence[int | None]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.take(pa.array(where, pa.int64())).to_pylist()
    return rows


def _as_stored(rows: pa.Table, index: Sequence[str], have: Sequence[Column]) -> pa.Table:
    """Numbers in the type their column already has, where nothing is lost by it."""
    for column in have:
        if column.name in rows.column_names and column.name not in index:
            values = rows.column(column.name)
            if column.type is not None and values.type != column.type.arrow:
                try:
                    cast = values.cast(column.type.arrow, safe=True)
                    # Arrow finds it safe to make True of 2, and text of anything.
                    if not cast.cast(values.type, safe=True).equals(values):
                        continue
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                    continue
                rows = rows.set_column(rows.column_names.index(column.name), column.name, cast)
    return rows
