"""DataFrames as rows of tables: their keys, what of them is stored, and updates of rows that are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from radiobject_assets.errors import SchemaError
from radiobject_assets.store.log.columns import (
    Column,
    to_arrow,
    type_of_arrow,
    validate_column_name,
    validate_id,
)
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.table_reading import read_table
from radiobject_assets.store.names import OBS_ID, SUBJECT
from radiobject_assets.store.tables.table import Table

INDEX_COLUMNS = (SUBJECT, OBS_ID)
_KINDS = {"double": "float64", "float": "float32", "halffloat": "float32"}


def dtype_of_arrow(arrow: pa.DataType) -> str:
    """The dtype, by name, of a column that holds values of an Arrow type."""
    if pa.types.is_large_string(arrow):
        return "utf8"
    if pa.types.is_timestamp(arrow):
        return "time_ms"
    return _KINDS.get(str(arrow), str(arrow))


def with_keys(df: pd.DataFrame, index: Sequence[str]) -> pd.DataFrame:
    """`df` with its keys as columns, wherever it has them.

    Raises
    ------
    ValueError
        If it has not.
    """
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
        for value in columns[name].to_pylist():
            validate_id(value, name)
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


def update_rows(
    draft: Draft, name: str, frame: pd.DataFrame, unknown: Literal["add", "refuse", "leave"] = "add"
) -> None:
    """`upsert_frame` in a draft.

    Parameters
    ----------
    unknown
        What to do with rows whose keys are not there (any more): add them, raise, or leave them out.

    Raises
    ------
    SchemaError
        If there are such rows, and they are to be refused.
    """
    table = draft.state.table(name)
    rows = frame_to_arrow(with_keys(frame, table.keys), table.keys)
    old = read_table(draft.storage, name, table, None, [rows.column(table.keys[0]).to_pylist()])
    rows, where = _keep_other_columns(rows, old, table.keys)
    if unknown == "refuse" and None in where:
        count = where.count(None)
        raise SchemaError(f"{count} row(s) have no volume (any more): rows of obs come with a volume only")
    if unknown == "leave" and None in where:
        there = [number for number, place in enumerate(where) if place is not None]
        rows, where = rows.take(pa.array(there, pa.int64())), [where[number] for number in there]
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


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _as_stored(rows: pa.Table, index: Sequence[str], have: Sequence[Column]) -> pa.Table:
    """Numbers in the type their column already has, where nothing is lost by it."""
    for column in have:
        if column.name in rows.column_names and column.name not in index:
            values = rows.column(column.name)
            if column.type is not None and values.type != column.type.arrow:
                # Arrow finds it safe to make True of 2, and 5 ms after 1970 of 5.
                if not (_is_number(values.type) and _is_number(column.type.arrow)):
                    continue
                try:
                    cast = values.cast(column.type.arrow, safe=True)
                    if not cast.cast(values.type, safe=True).equals(values):
                        continue
                except pa.ArrowInvalid:  # it does not fit
                    continue
                rows = rows.set_column(rows.column_names.index(column.name), column.name, cast)
    return rows
