"""Narrow rows in TileDB (prototype of design a): keys, a dozen typed columns, and the rest as JSON.

The schema never changes. Snapshots are timestamps; deletes, merges and purges are TileDB's own, in the
order in which its documentation has them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
import tiledb
from tiledb.main import PyQuery

from benchmarks.table_designs.design import Place
from benchmarks.table_designs.rows import KEY, SCHEMA, SUBJECT

_TYPED = (
    "volume", "kind", "modality", "dtype", "size_x", "size_y", "size_z", "spacing_x_mm", "spacing_y_mm",
    "spacing_z_mm", "series_uid", "voxel_digest", "written_at",
)  # fmt: skip
_REST = "rest"
_IN_REST = [field for field in SCHEMA if field.name not in (KEY, SUBJECT, *_TYPED)]


class Narrow:
    """The table."""

    def __init__(self, place: Place) -> None:
        self.place = place
        config: dict[str, Any] = {
            "sm.mem.malloc_trim": "false",
            # Taken whole for each of some 30 buffers, however few the rows are; by default 50 MB.
            "sm.consolidation.buffer_size": str(1 << 20),
        }
        if place.on_s3:
            config |= {
                "vfs.s3.scheme": "http",
                "vfs.s3.endpoint_override": place.endpoint.removeprefix("http://"),
                "vfs.s3.use_virtual_addressing": "false",
                "vfs.s3.aws_access_key_id": place.access_key,
                "vfs.s3.aws_secret_access_key": place.secret_key,
                "vfs.s3.region": "us-east-1",
            }
        self._ctx = tiledb.Ctx(config)

    def _config(self, more: dict[str, str]) -> tiledb.Config:
        return tiledb.Config({**self._ctx.config().dict(), **more})

    def _stamp(self) -> int:
        """A moment after every commit and after the clock of a moment ago."""
        known = self._fragments().timestamp_range
        return max(time.time_ns() // 1_000_000, 1 + max((last for _, last in known), default=0))

    def _fragments(self) -> Any:
        return tiledb.array_fragments(self.place.uri, ctx=self._ctx)

    def _array(self, mode: str = "r", timestamp: int | None = None) -> Any:
        return tiledb.open(self.place.uri, mode, ctx=self._ctx, timestamp=timestamp)

    def create(self, rows: pa.Table) -> None:
        ctx = self._ctx
        bare = tiledb.FilterList([tiledb.ChecksumSHA256Filter(ctx=ctx)], ctx=ctx)
        filters = tiledb.FilterList(
            [tiledb.ZstdFilter(3, ctx=ctx), tiledb.ChecksumSHA256Filter(ctx=ctx)], ctx=ctx
        )
        dims = [tiledb.Dim(name, dtype="ascii", filters=bare, ctx=ctx) for name in (SUBJECT, KEY)]
        attributes = [
            tiledb.Attr(
                name, dtype=self._dtype(name), var=self._dtype(name) == np.str_, filters=filters, ctx=ctx
            )
            for name in (*_TYPED, _REST)
        ]
        schema = tiledb.ArraySchema(
            tiledb.Domain(*dims, ctx=ctx), attributes, sparse=True, offsets_filters=filters, ctx=ctx
        )
        tiledb.Array.create(self.place.uri, schema, ctx=ctx)
        self.put(rows)

    def _dtype(self, name: str) -> Any:
        if name == _REST or SCHEMA.field(name).type == pa.string():
            return np.dtype(np.str_)
        return np.dtype(SCHEMA.field(name).type.to_pandas_dtype())

    def put(self, rows: pa.Table, *, new: bool = True) -> None:
        rest = rows.select([field.name for field in _IN_REST]).to_pylist()
        values = {name: rows[name].to_numpy().astype(self._dtype(name)) for name in _TYPED}
        values[_REST] = np.array([json.dumps(each) for each in rest], dtype=np.str_)
        with self._array("w", self._stamp()) as array:
            array[rows[SUBJECT].to_pylist(), rows[KEY].to_pylist()] = values

    def delete(self, keys: list[str]) -> None:
        self._drop(f"{KEY} in {keys!r}" if len(keys) > 1 else f"{KEY} == {keys[0]!r}")

    def _drop(self, condition: str) -> None:
        with self._array("d", self._stamp()) as array:
            array.query(cond=condition).submit()

    def snapshot(self, name: str) -> None:
        moment = self._stamp()
        time.sleep(0.002)  # the next commit is after it
        with self._array("w") as array:
            array.meta[f"snapshot:{name}"] = moment

    def _moment(self, snapshot: str | None) -> int | None:
        if snapshot is None:
            return None
        with self._array() as array:
            return int(array.meta[f"snapshot:{snapshot}"])

    def read(self, snapshot: str | None = None) -> pa.Table:
        with self._array(timestamp=self._moment(snapshot)) as array:
            found = self._query(array, (*_TYPED, _REST), (SUBJECT, KEY))
        typed = pa.table({name: self._text(found[name]) for name in (SUBJECT, KEY, *_TYPED)})
        for field in (rest := self._rest(found[_REST])).schema:
            typed = typed.append_column(field, rest[field.name])
        return typed.select(SCHEMA.names)

    def _query(self, array: Any, names: Sequence[str], dims: Sequence[str], condition: str = "") -> pa.Table:
        # PyQuery rather than Array.query, as the store does: Arrow buffers, no object for every string.
        query = PyQuery(self._ctx, array, tuple(names), tuple(dims), 3, True)
        query.set_subarray(tiledb.Subarray(array, ctx=self._ctx))
        if condition:
            query.set_cond(tiledb.QueryCondition(condition, ctx=self._ctx))
        query.submit()
        return query._buffers_to_pa_table()

    def _text(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        kinds = (pa.large_binary(), pa.binary(), pa.large_string())
        return column.cast(pa.string()) if column.type in kinds else column

    def _rest(self, column: pa.ChunkedArray, fields: list[pa.Field] = _IN_REST) -> pa.Table:
        lines = "\n".join(self._text(column).to_pylist()).encode()
        options = pj.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore")
        return pj.read_json(pa.BufferReader(lines), pj.ReadOptions(block_size=1 << 24), options)

    def count(self) -> int:
        with self._array() as array:
            return len(self._query(array, (), (KEY,)))

    def at_least(self, column: str, low: float) -> int:
        with self._array() as array:
            if column in _TYPED:
                return len(self._query(array, (column,), (KEY,), f"{column} >= {low}"))
            rest = self._query(array, (_REST,), ())[_REST]
        values = self._rest(rest, [SCHEMA.field(column)])[column]
        return int(np.sum(values.to_numpy() >= low))

    def compact(self) -> None:
        # Not "commits": the merged commit file would keep delete conditions, ids and all.
        for mode in ("fragment_meta", "fragments"):
            tiledb.consolidate(
                self.place.uri, ctx=self._ctx, config=self._config({"sm.consolidation.mode": mode})
            )

    def vacuum(self) -> None:
        for mode in ("fragment_meta", "fragments"):
            tiledb.vacuum(self.place.uri, ctx=self._ctx, config=self._config({"sm.vacuum.mode": mode}))

    def forget(self, subject: str) -> None:
        self._drop(f"{SUBJECT} == {subject!r}")
        # One row is written again: with a single fragment there is nothing to merge, and nothing is purged.
        self.put(self.read().slice(0, 1))
        purge = {"sm.consolidation.mode": "fragments", "sm.consolidation.purge_deleted_cells": "true"}
        tiledb.consolidate(self.place.uri, ctx=self._ctx, config=self._config(purge))
        self.vacuum()
        for path in Path(self.place.uri).glob("__commits/*.del"):  # they spell out the id
            path.unlink()
