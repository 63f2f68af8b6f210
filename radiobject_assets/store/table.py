"""A versioned table on a sparse TileDB array: string keys, upserts as one atomic fragment, time travel.

Rows are addressed by their keys, never by position. A write of existing keys replaces those rows whole; a
handle that was opened keeps showing what it saw then (TileDB lists fragments at open), so columns that are
read one after another belong together.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import tiledb

from radiobject_assets.errors import SchemaError, StorageError
from radiobject_assets.store.checksums import check_small_files, note_checksum, note_fragments
from radiobject_assets.store.columns import Column, ColumnType, parse_attribute
from radiobject_assets.store.context import ctx_for_small_objects, keep_for_ever
from radiobject_assets.store.deadline import DeadlineError, is_remote, on_storage
from radiobject_assets.store.evolution import beside, evolve, schema_names
from radiobject_assets.store.patience import while_tidied
from radiobject_assets.store.pins import newest_stamp, settle
from radiobject_assets.store.table_cells import ROW_MARK, OneOf, decode, merge, read_columns, write_rows
from radiobject_assets.store.table_fragment import columns_alike, encode_rows, schema_of, write_fragment
from radiobject_assets.store.uris import local_path

_DELETE_BATCH = 500
_ATTEMPTS = 20


def now_ms() -> int:
    """This machine's clock in milliseconds since 1970, as TileDB stamps fragments."""
    return time.time_ns() // 1_000_000


class Table:
    """A table opened for reading at one moment; writing methods act on the newest state.

    Parameters
    ----------
    core
        Columns that the format defines, by name; others are free columns.
    timestamp
        Milliseconds since 1970; None for now.
    """

    def __init__(
        self,
        uri: str,
        ctx: tiledb.Ctx,
        core: Mapping[str, Column] | None = None,
        timestamp: int | None = None,
    ) -> None:
        self.uri = uri
        self.timestamp = timestamp
        self._ctx = ctx
        self._core = {ROW_MARK.name: ROW_MARK, **(core or {})}
        self._array: Any = None
        self._physical: tuple[Column, ...] | None = None
        self._first_opened: int | None = None

    def _open(self) -> Any:
        if self._array is None:
            self._array = while_tidied(self._open_at)
        return self._array

    def _open_at(self) -> Any:
        if self._first_opened is None:
            self._first_opened = now_ms()
        check_small_files(self.uri)
        open_now = partial(tiledb.open, self.uri, "r", ctx=self._ctx, timestamp=self.timestamp)
        return on_storage("open the table", self.uri, self._ctx, open_now)

    def _reopen(self) -> Any:
        """The same moment again, from the fragments that there are now."""
        check_small_files(self.uri)
        moment = self._first_opened if self.timestamp is None else self.timestamp
        open_then = partial(tiledb.open, self.uri, "r", ctx=self._ctx, timestamp=moment)
        self._array = on_storage("open the table", self.uri, self._ctx, open_then)
        return self._array

    def close(self) -> None:
        """Close the handle; the next read sees the newest state."""
        if self._array is not None:
            self._array.close()
            self._array = None
        self._physical = None
        self._first_opened = None

    @property
    def index(self) -> tuple[str, ...]:
        """Names of the key columns."""
        return _key_names(self._open().schema)

    @property
    def physical(self) -> tuple[Column, ...]:
        """Columns as stored, siblings of one name apart."""
        if self._physical is None:  # 4 us for each attribute, and asked for again and again
            self._physical = self._columns_of(self._open().schema)
        return self._physical

    def _columns_of(self, schema: tiledb.ArraySchema) -> tuple[Column, ...]:
        return tuple(parse_attribute(schema.attr(i).name, self._core) for i in range(schema.nattr))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns beside the keys, in order of their creation."""
        return tuple(dict.fromkeys(c.name for c in self.physical if c != ROW_MARK))

    def read(
        self, columns: Sequence[str] | None = None, *, keys: Sequence[Sequence[str] | None] | None = None
    ) -> pa.Table:
        """Rows sorted by key.

        Parameters
        ----------
        columns
            Names to read beside the keys; None for all.
        keys
            Allowed values for each key column in turn; None, and what a shorter list leaves out, is free.

        Raises
        ------
        SchemaError
            If a column does not exist.
        """
        return self._read(columns, keys, None)

    def rows_where(
        self, column: str, values: Iterable[str], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Rows whose text column has one of these values, sorted by key; only they are taken out of
        the buffers of TileDB.

        Of 100,000 rows a few hundred are found in the time that reading the column alone takes.
        """
        wanted = sorted(set(values))
        physical = [c for c in self.physical if c.name == column]
        if not wanted:
            return self._read(columns, [[]], None)
        if not physical or any(c.type is not ColumnType.UTF8 for c in physical):
            raise SchemaError(f"no text column {column!r} to look in; there are {', '.join(self.columns)}")
        return self._read(columns, None, OneOf([c.attribute for c in physical], wanted))

    def _read(
        self,
        columns: Sequence[str] | None,
        keys: Sequence[Sequence[str] | None] | None,
        condition: OneOf | None,
    ) -> pa.Table:
        self._open()
        physical = self.physical
        wanted = list(dict.fromkeys(self.columns if columns is None else columns))
        unknown = [name for name in wanted if name not in {c.name for c in physical} | set(self.index)]
        if unknown:
            raise SchemaError(
                f"no column {unknown[0]!r}; there are {', '.join((*self.index, *self.columns))}"
            )
        selected = [column for column in physical if column.name in wanted]
        nowhere = keys is not None and any(allowed is not None and len(allowed) == 0 for allowed in keys)
        if nowhere or self._array.nonempty_domain() is None:
            return self._empty(selected, wanted)
        attributes, index = [c.attribute for c in selected], self.index
        far = is_remote(self.uri)

        def query() -> pa.Table:
            array = self._array if self._array is not None else self._reopen()
            read = partial(read_columns, array, self._ctx, attributes, index, keys, far, condition)
            try:
                return on_storage("read", self.uri, self._ctx, read)
            except DeadlineError:
                keep_for_ever(array)  # the call that was given up still uses it
                self._array = None
                raise
            except StorageError:
                array.close()
                self._array = None
                raise

        raw = while_tidied(query)
        arrays = {name: raw.column(name).combine_chunks() for name in self.index}
        for name in wanted:
            if name not in arrays:
                arrays[name] = merge([decode(raw, c) for c in selected if c.name == name])
        table = pa.table(arrays)
        return table.sort_by([(name, "ascending") for name in self.index])

    def _empty(self, selected: Sequence[Column], wanted: Sequence[str]) -> pa.Table:
        arrays: dict[str, pa.Array] = {name: pa.array([], pa.large_string()) for name in self.index}
        for name in wanted:
            if name not in arrays:
                arrays[name] = merge([pa.array([], c.type.arrow) for c in selected if c.name == name])
        return pa.table(arrays)

    def upsert(self, rows: pa.Table) -> None:
        """Write rows whole, adding columns that are missing, in one atomic fragment.

        `rows` has the key columns and any others; columns that it lacks become null for these rows.
        """
        if rows.num_rows == 0:
            return
        self.close()
        for _ in range(_ATTEMPTS):
            begun = now_ms()
            write = partial(self._write, rows, newest_stamp(self.uri, self._ctx))
            missing = on_storage("write to the table", self.uri, self._ctx, write, nbytes=rows.nbytes)
            if not missing:
                settle(self.uri, self._ctx, begun)
                return
            evolve(self.uri, self._ctx, self._core, add=missing)
        raise StorageError(f"columns of {self.uri} keep changing under this writer; try again")

    def _write(self, rows: pa.Table, newest: int) -> list[Column]:
        """Write rows in one fragment; or nothing, where the schema lacks some of their columns: these."""
        check_small_files(self.uri, "__schema")
        missing = self._write_here(rows, newest)
        if missing is not None:
            return missing
        ctx = ctx_for_small_objects(self._ctx, self.uri, rows.nbytes)
        # Of two rows with one key the later stamp wins: not that of a writer whose clock is ahead.
        stamp = newest + 1 if newest >= now_ms() else None
        with tiledb.open(self.uri, "w", ctx=ctx, timestamp=stamp) as array:
            schema = array.schema
            index, physical = _key_names(schema), self._columns_of(schema)
            written, missing = self._columns_to_write(rows, index, physical)
            if missing:
                return missing
            fragment = write_rows(array, rows, index, written, physical, ctx)
        note_fragments(self.uri, {fragment})
        return []

    def _write_here(self, rows: pa.Table, newest: int) -> list[Column] | None:
        """`_write` without TileDB, which takes 20 ms for one row; None where TileDB must do it."""
        folder = local_path(self.uri)
        if folder is None:
            return None
        names = schema_names(self.uri, self._ctx)
        if not names:
            return None  # TileDB says what is there instead
        schema = schema_of((folder / "__schema" / names[-1]).read_bytes(), names[-1], self._ctx)
        if schema is None:
            return None
        physical = [parse_attribute(attribute, self._core) for attribute, *_ in schema.attributes]
        if not columns_alike(schema, physical):
            return None
        written, missing = self._columns_to_write(rows, schema.keys, physical)
        if missing:
            return missing
        files = encode_rows(rows, written, physical, schema, names[-1])
        if files is None:
            return None
        write_fragment(folder, files, max(newest + 1, now_ms()))
        return []

    def _columns_to_write(
        self, rows: pa.Table, index: Sequence[str], physical: Sequence[Column]
    ) -> tuple[list[Column], list[Column]]:
        """The columns of rows beside the keys; and those of them that the table does not have."""
        written = [
            self._core[name] if name in self._core else Column(name, _kind(rows.column(name).type))
            for name in rows.column_names
            if name not in index
        ]
        there = {column.attribute for column in physical}
        return written, [column for column in written if column.attribute not in there]

    def add_columns(self, columns: Sequence[Column]) -> None:
        """Add columns; rows that are there get null.

        A column that was dropped and comes again shows what rows had that were not written since.
        """
        self.close()
        if self._missing(columns):
            self.close()
            evolve(self.uri, self._ctx, self._core, add=columns)
            self.close()

    def _missing(self, columns: Iterable[Column]) -> list[Column]:
        have = {column.attribute for column in self.physical}
        return [column for column in columns if column.attribute not in have]

    def drop_columns(self, names: Sequence[str]) -> None:
        """Remove columns with their values (earlier states keep them)."""
        self.close()
        gone = [column.attribute for column in self.physical if column.name in names]
        self.close()
        evolve(self.uri, self._ctx, self._core, drop=gone)

    def repair_columns(self) -> None:
        """Show columns again that were hidden when two writers added columns and one of them died."""
        self.close()
        evolve(self.uri, self._ctx, self._core)

    def delete(self, keys: Iterable[Sequence[str]]) -> None:
        """Delete rows from the newest state; earlier states keep them.

        `keys` are whole keys, or their first parts: `("s1",)` deletes all rows of subject s1.
        """
        self.close()
        by_start: dict[tuple[str, ...], list[str]] = {}
        for key in keys:
            by_start.setdefault(tuple(key[:-1]), []).append(key[-1])
        for start, lasts in by_start.items():
            for first in range(0, len(lasts), _DELETE_BATCH):
                terms = [f"{name} == {part!r}" for name, part in zip(self.index, start, strict=False)]
                terms.append(f"{self.index[len(start)]} in {lasts[first : first + _DELETE_BATCH]!r}")
                begun = now_ms()
                delete = partial(self._delete, " and ".join(terms))
                on_storage("delete from", self.uri, self._ctx, delete)
                settle(self.uri, self._ctx, begun)
        self.close()

    def _delete(self, condition: str) -> None:
        folder = local_path(self.uri)
        if folder is None:
            self._submit_delete(self.uri, condition)
            return
        # A delete condition is a file that TileDB creates empty and fills then: nobody can read a table that
        # has an empty one. So it is made beside the table and moved there in one step.
        with beside(folder) as aside:
            for part in ("__schema", "__commits", "__fragments"):
                (aside / part).mkdir(parents=True)
            newest = schema_names(self.uri, self._ctx)[-1]
            shutil.copy(folder / "__schema" / newest, aside / "__schema" / newest)
            self._submit_delete(str(aside), condition)
            for made in (aside / "__commits").iterdir():
                note_checksum(folder, f"__commits/{made.name}", made.read_bytes())
                os.rename(made, folder / "__commits" / made.name)

    def _submit_delete(self, uri: str, condition: str) -> None:
        with tiledb.scope_ctx(self._ctx), tiledb.open(uri, "d", ctx=self._ctx) as array:
            array.query(cond=condition).submit()

    def fragment_count(self) -> int:
        """Fragments that make up the newest state."""
        check_small_files(self.uri)
        count = partial(tiledb.array_fragments, self.uri, ctx=self._ctx)
        listing = partial(on_storage, "list fragments of", self.uri, self._ctx, count, holds_lock=True)
        return len(while_tidied(listing))


def _key_names(schema: tiledb.ArraySchema) -> tuple[str, ...]:
    domain = schema.domain
    return tuple(domain.dim(i).name for i in range(domain.ndim))


def _kind(arrow: pa.DataType) -> ColumnType:
    for kind in ColumnType:
        if kind.arrow == arrow:
            return kind
    raise SchemaError(f"values of type {arrow} cannot be stored in a table")
