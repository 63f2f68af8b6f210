"""Cells of a table between Arrow and TileDB's buffers: queries that read columns, one that writes rows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tiledb
import tiledb.libtiledb as lt
from tiledb.main import TILEDB_IN, TILEDB_OR, PyQuery, PyQueryCondition

from radiobject_assets.errors import SchemaError
from radiobject_assets.store.columns import Column, ColumnType
from radiobject_assets.store.deadline import begin
from radiobject_assets.store.uris import last_part

# TileDB wants at least one attribute, and a table of subjects may have no column at all.
ROW_MARK = Column("_row", ColumnType.UINT8, nullable=False, free=False)

_LAYOUT_ROW_MAJOR = 0
_QUERIES_AT_ONCE = 8


@dataclass(frozen=True)
class OneOf:
    """Meets rows with one of these values in one of these text attributes."""

    attributes: Sequence[str]
    values: Sequence[str]

    def compiled(self, ctx: tiledb.Ctx) -> _Compiled:
        """The condition as `PyQuery.set_cond` takes it."""
        make, values = PyQueryCondition.create_string, list(self.values)
        first, *others = [make(ctx, name, values, TILEDB_IN) for name in self.attributes]
        for other in others:
            first = first.combine(other, TILEDB_OR)
        return _Compiled(first)


@dataclass(frozen=True)
class _Compiled:
    """What a `tiledb.QueryCondition` is when its text was translated.

    To translate it, TileDB-Py opens the array once more only to look up types: on S3 that is 4 requests.
    """

    c_obj: Any

    def init_query_condition(self, uri: str, attributes: Sequence[str], ctx: tiledb.Ctx) -> None:
        """Nothing is left to translate."""


def read_columns(
    array: Any,
    ctx: tiledb.Ctx,
    attributes: Sequence[str],
    index: Sequence[str],
    keys: Sequence[Sequence[str] | None] | None,
    far: bool,
    condition: OneOf | None = None,
) -> pa.Table:
    """Attributes of an array opened for reading, with its keys, in the order of the keys.

    With a `condition`, of the rows that meet it.

    TileDB reads the files of one attribute after another. Where the array is `far` (on S3) that is a round
    trip for each, so several queries on the same handle go side by side: 31 files at 50 ms took 1.4 s in
    one query.
    """
    if not far or len(attributes) < 3:
        return query_columns(array, ctx, attributes, index, keys, condition)
    # The keys come first: their files are then in TileDB's read-ahead cache for the others.
    whole = query_columns(array, ctx, attributes[:1], index, keys, condition)
    rest = attributes[1:]
    shares = [rest[n::_QUERIES_AT_ONCE] for n in range(min(_QUERIES_AT_ONCE, len(rest)))]
    begun = [begin(partial(query_columns, array, ctx, share, index, keys, condition)) for share in shares]
    wait(begun)  # whatever fails, no query goes on behind the caller's back
    for part in [future.result() for future in begun]:
        for name in part.column_names:
            if name not in index:
                whole = whole.append_column(name, part.column(name))
    return whole


def query_columns(
    array: Any,
    ctx: tiledb.Ctx,
    attributes: Sequence[str],
    index: Sequence[str],
    keys: Sequence[Sequence[str] | None] | None,
    condition: OneOf | None = None,
) -> pa.Table:
    # PyQuery rather than Array.query: it hands over Arrow buffers without a Python object for every string.
    query = PyQuery(ctx, array, tuple(attributes), tuple(index), _LAYOUT_ROW_MAJOR, True)
    subarray = tiledb.Subarray(array, ctx=ctx)
    if keys is not None:
        for position, allowed in enumerate(keys):
            for value in sorted(set(allowed or ())):
                subarray.add_dim_range(position, (value.encode(), value.encode()))
    query.set_subarray(subarray)
    if condition is not None:
        query.set_cond(condition.compiled(ctx))
    query.submit()
    return query._buffers_to_pa_table()


def decode(raw: pa.Table, column: Column) -> pa.Array:
    values = raw.column(column.attribute).combine_chunks()
    if column.type is ColumnType.BOOL:
        return pc.not_equal(values, 0)
    if values.type != column.type.arrow:
        values = values.cast(pa.int64()) if column.type is ColumnType.TIME_MS else values
        return values.cast(column.type.arrow)
    return values


def merge(siblings: Sequence[pa.Array]) -> pa.Array:
    """One column from its siblings: the same type if alone, a number that holds all of them, or text."""
    if len(siblings) == 1:
        return siblings[0]
    filled = [s for s in siblings if s.null_count < len(s)] or list(siblings[:1])
    if len(filled) == 1:
        return filled[0]
    if all(pa.types.is_integer(s.type) or pa.types.is_boolean(s.type) for s in filled):
        target = pa.int64()
    elif not any(pa.types.is_large_string(s.type) or pa.types.is_timestamp(s.type) for s in filled):
        filled = [s.cast(pa.int8()) if pa.types.is_boolean(s.type) else s for s in filled]
        target = pa.float64()
    else:
        target = pa.large_string()
    try:
        same = [s.cast(target) for s in filled]
    except pa.ArrowInvalid:  # an integer that is too large for the others' type
        same = [s.cast(pa.large_string()) for s in filled]
    return pc.coalesce(*same)


def write_rows(
    array: Any,
    rows: pa.Table,
    index: Sequence[str],
    written: Sequence[Column],
    physical: Sequence[Column],
    ctx: tiledb.Ctx,
) -> str:
    """Write rows in one fragment; returns its name."""
    buffers: list[Cells] = []  # TileDB reads them until finalize
    given = {column.attribute for column in written}
    query = lt.Query(ctx, lt.Array(ctx, array), lt.QueryType.WRITE)
    query.layout = lt.LayoutType.UNORDERED
    for name in index:
        buffers.append(_set(query, name, text_cells(name, rows.column(name), nullable=False)))
    for column in physical:
        values = rows.column(column.name) if column.attribute in given else None
        cells = cells_of(column, values, rows.num_rows)
        buffers.append(_set(query, column.attribute, cells))
    query._submit()
    query.finalize()
    return last_part(query.fragment_uri(0))


@dataclass(frozen=True)
class Cells:
    """The values of one column as TileDB takes them."""

    data: Any
    """Values of a fixed size; or bytes of text, at least one: TileDB refuses a null pointer."""
    nbytes: int
    """Of `data` that count."""
    offsets: Any = None
    """Of each text in `data`, uint64; None for values of a fixed size."""
    valid: Any = None
    """Where there is a value, uint8; None for columns that always have one."""


def cells_of(column: Column, values: Any, count: int) -> Cells:
    """The cells of a column; `values` of None: `count` times nothing.

    Raises
    ------
    SchemaError
        If a value is missing that must not be.
    """
    if column.type is ColumnType.UTF8:
        text = pa.nulls(count, pa.large_string()) if values is None else values
        return text_cells(column.attribute, text, column.nullable)
    return _fixed_cells(column, values, count)


def _set(query: Any, name: str, cells: Cells) -> Cells:
    if cells.offsets is None:
        query.set_data_buffer(name, cells.data, cells.data.size)
    else:
        query.set_offsets_buffer(name, cells.offsets, cells.offsets.size)
        query.set_data_buffer(name, cells.data, cells.nbytes)
    if cells.valid is not None:
        query.set_validity_buffer(name, cells.valid, cells.valid.size)
    return cells


def _validity(array: pa.Array) -> Any:
    return np.ascontiguousarray(array.is_valid().to_numpy(zero_copy_only=False), dtype=np.uint8)


def text_cells(name: str, values: Any, nullable: bool) -> Cells:
    """The cells of a text column, or of a key."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    array = array.cast(pa.large_string())
    if array.offset:
        array = pa.concat_arrays([array, pa.array([], pa.large_string())])
    if not nullable and array.null_count:
        raise SchemaError(f"column {name!r} may not be empty in any row")
    valid = _validity(array) if nullable else None
    array = array.fill_null("")
    _, offset_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.uint64)[array.offset : array.offset + len(array)]
    end = int(np.frombuffer(offset_buffer, dtype=np.uint64)[array.offset + len(array)])
    offsets, begin = offsets - offsets[0], int(offsets[0])
    data = np.frombuffer(data_buffer or b"", dtype=np.uint8)[begin:end]
    data = data.copy() if data.size else np.zeros(1, dtype=np.uint8)
    return Cells(data, end - begin, offsets, valid)


def _fixed_cells(column: Column, values: Any, count: int) -> Cells:
    dtype = column.type.disk_dtype
    if values is None:
        data, valid = np.zeros(count, dtype), np.zeros(count, np.uint8)
    else:
        array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        array = array.cast(column.type.arrow)
        valid = _validity(array)
        if column.type is ColumnType.TIME_MS:
            array = array.cast(pa.int64())
        if column.type is ColumnType.BOOL:
            array = array.cast(pa.uint8())
        data = np.ascontiguousarray(array.fill_null(0).to_numpy(zero_copy_only=False)).astype(dtype)
    if not column.nullable and column != ROW_MARK and not valid.all():
        raise SchemaError(f"column {column.name!r} may not be empty in any row")
    return Cells(data, data.nbytes, valid=valid if column.nullable else None)
