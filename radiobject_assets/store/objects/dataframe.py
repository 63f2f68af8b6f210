"""A stored table with string keys: obs, obs_meta, or one of the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import tiledb

from radiobject_assets.errors import SchemaError
from radiobject_assets.store.log.columns import Column, type_of_dtype, validate_column_name
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.table_reading import read_table
from radiobject_assets.store.objects.chosen_rows import ChosenRows
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.uris import normalise
from radiobject_assets.store.tables.dataframe_rows import (
    INDEX_COLUMNS,
    dtype_of_arrow,
    frame_to_arrow,
    update_rows,
    upsert_frame,
    with_keys,
)
from radiobject_assets.store.tables.filters import Condition
from radiobject_assets.store.tables.rows import Rows
from radiobject_assets.store.tables.table import create_table


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
        self._show(ChosenRows(Rows(normalise(uri), ContextRef(ctx))))
        _ = self._rows.index  # so that a wrong URI fails here and now

    def _show(self, chosen: ChosenRows, changed: Callable[[], None] | None = None) -> None:
        self._chosen, self._changed = chosen, changed

    @classmethod
    def of(cls, chosen: ChosenRows, changed: Callable[[], None] | None = None) -> Dataframe:
        """A table that shows rows chosen before; `changed` is called after it has changed some."""
        frame = cls.__new__(cls)
        frame._show(chosen, changed)
        return frame

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_changed": None}  # in another process nobody waits for it

    @property
    def _rows(self) -> Rows:
        return self._chosen.all

    @property
    def uri(self) -> str:
        """Where the table is."""
        return self._rows.uri

    @property
    def is_view(self) -> bool:
        """Whether this shows some of the rows only."""
        return self._chosen.positions is not None

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
        return len(self._chosen)

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
        shown = self._chosen if value_filter is None else self._chosen.filter(value_filter)
        return self._rows.frame(wanted, shown.positions)

    def to_pandas(self) -> pd.DataFrame:
        """All rows and columns."""
        return self.read()

    def refresh(self) -> None:
        """Show what is stored now.

        Raises
        ------
        ViewError
            If this is a view or a snapshot.
        """
        self._chosen = self._chosen.anew()

    # -- changing -----------------------------------------------------------------------------------

    def _after_change(self) -> None:
        self.refresh()
        if self._changed is not None:
            self._changed()

    def _refuse_core(self, names: Sequence[str], action: str) -> None:
        fixed = [name for name in names if name in self._rows.core or name in self._rows.index]
        if fixed:
            raise SchemaError(f"column {fixed[0]!r} is kept by the store: it cannot be {action}")

    def add_column(self, name: str, dtype: Any, fill: Any = None) -> None:
        """Add a column; rows that are there get `fill`, or are missing a value."""
        self._chosen.check_writable("change")
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
        self._after_change()

    def drop_column(self, name: str) -> None:
        """Remove a column and its values."""
        self._chosen.check_writable("change")
        self._refuse_core([name], "dropped")
        if name not in self._rows.names:
            raise ValueError(f"Column {name!r} does not exist; there are {', '.join(self.columns)}")
        self._rows.new_table().drop_columns([name])
        self._after_change()

    def update(self, df: pd.DataFrame) -> None:
        """Write the columns of `df` into the rows with its keys; other columns of these rows stay.

        Keys come from columns or from the index of `df`. Rows with new keys are added, new columns too.
        """
        self._chosen.check_writable("change")
        frame = with_keys(df, self._rows.index)
        self._refuse_core([n for n in frame.columns if n not in self._rows.index], "changed by hand")
        # rows of obs come with a volume only
        unknown: Literal["add", "refuse"] = "refuse" if self._rows.core else "add"
        if len(frame):
            self._rows.new_table().commit(
                "update", lambda draft, name: update_rows(draft, name, frame, unknown)
            )
        self._after_change()

    def delete(self, cond: str) -> int:
        """Delete the rows that meet a condition of the filter language; returns how many they were."""
        self._chosen.check_writable("change")
        if self._rows.core:
            raise SchemaError("rows of obs are deleted with their volumes: use the collection's delete")
        condition = Condition(cond)
        found: list[int] = []

        def delete(draft: Draft, name: str) -> None:
            # In the state that is changed: another process may have changed rows since these were read.
            rows = read_table(draft.storage, name, draft.state.table(name), condition.columns)
            mask = condition.mask(lambda column: rows.column(column).combine_chunks(), rows.num_rows)
            found[:] = [int(mask.sum())]
            draft.delete(name, rows.filter(pa.array(mask)))

        self._rows.new_table().commit("delete", delete)
        self._after_change()
        return found[0]

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
        frame = with_keys(df, index_columns)
        rows = frame_to_arrow(frame, index_columns)
        schema = {
            n: dtype_of_arrow(rows.schema.field(n).type) for n in rows.column_names if n not in index_columns
        }
        table = cls.create(uri, schema, ctx, index_columns)
        upsert_frame(table._rows.new_table(), frame)
        table.refresh()
        return table

    def __repr__(self) -> str:
        return f"Dataframe({len(self)} rows, keys {', '.join(self.index_columns)}; {', '.join(self.columns)})"
