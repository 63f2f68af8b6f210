"""What a commit is about to change: a draft of the next state, and the segments written for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from radiobject_assets.errors import SchemaError
from radiobject_assets.store.log.columns import Column, ColumnType, kind_of_arrow
from radiobject_assets.store.log.merging import fits, join_keys, live_rows, read_columns, with_columns
from radiobject_assets.store.log.segments import DELETED, write_segment
from radiobject_assets.store.log.state import RowSegment, State, TableState
from radiobject_assets.store.storage import Storage


@dataclass
class DraftMemory:
    """Segments that the attempts of one commit wrote, so that a later attempt need not write them again."""

    storage: Storage
    written: dict[tuple[str, object], tuple[object, RowSegment]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    """Those that the state which was committed names."""

    def segment(
        self, table: str, key: object, rows: Callable[[], pa.Table], state: State, kept: object
    ) -> RowSegment:
        """The segment of `rows()`, known by `key`; `kept` lives as long as the key must not be reused."""
        known = self.written.get((table, key))
        # One whose base is below `cleared` may have been taken for a left-over.
        if known is not None and known[1].base >= state.cleared:
            return known[1]
        segment = write_segment(self.storage, table, rows(), state.number)
        if known is not None:
            self.storage.remove(f"{table}/{known[1].name}")
        self.written[table, key] = (kept, segment)
        return segment

    def discard_unnamed(self) -> None:
        """Remove the segments that no state names: nobody else knows of them."""
        for (table, _), (_, segment) in self.written.items():
            if segment.name not in self.named:
                self.storage.remove(f"{table}/{segment.name}")


class Draft:
    """The next state, while a change is made on `state`, the newest one."""

    def __init__(self, state: State, memory: DraftMemory) -> None:
        self.base = state
        self.state = state
        self._memory = memory

    @property
    def storage(self) -> Storage:
        """Where the segments are."""
        return self._memory.storage

    def segments_written(self) -> set[str]:
        """Names of the segments of this draft that its commit wrote."""
        mine = {segment.name for _, segment in self._memory.written.values()}
        there = {s.name for table in self.state.tables.values() for s in table.segments}
        there |= {s.name for names in self.state.replaced.values() for s in names.values()}
        return mine & there

    # -- rows ---------------------------------------------------------------------------------------

    def put(self, name: str, rows: pa.Table) -> None:
        """Put rows, each key once: those that are there with the same keys are replaced whole."""
        table = self.state.table(name)
        if rows.num_rows == 0:
            return
        columns = [Column(n, kind_of_arrow(rows.column(n))) for n in rows.column_names if n not in table.keys]
        segment = self._segment(name, rows, lambda: _sorted(rows, table.keys))
        self.state = self.state.with_table(
            name,
            replace(table, columns=self._widened(name, columns, rows), segments=(*table.segments, segment)),
        )

    def delete(self, name: str, keys: pa.Table) -> None:
        """Delete the rows with these whole keys; earlier states keep them."""
        table = self.state.table(name)
        if keys.num_rows == 0:
            return

        def marks() -> pa.Table:
            chosen = _sorted(keys.select(list(table.keys)), table.keys)
            return chosen.append_column(DELETED, pa.array(np.ones(chosen.num_rows, np.bool_)))

        segment = self._segment(name, keys, marks)
        self.state = self.state.with_table(name, replace(table, segments=(*table.segments, segment)))

    def _segment(self, name: str, rows: pa.Table, make: Callable[[], pa.Table]) -> RowSegment:
        return self._memory.segment(name, id(rows), make, self.base, rows)

    def write(self, name: str, key: object, rows: Callable[[], pa.Table]) -> RowSegment:
        """A segment of `rows()` that `change` will put in its place itself; written once for each `key`."""
        return self._memory.segment(name, key, rows, self.base, None)

    def set_segments(self, name: str, segments: Sequence[RowSegment]) -> None:
        """Let a table consist of other segments."""
        table = self.state.table(name)
        self.state = self.state.with_table(name, replace(table, segments=tuple(segments)))

    # -- everything else ----------------------------------------------------------------------------

    def add_columns(self, name: str, columns: Sequence[Column]) -> None:
        """Add columns without values; those that are there become as wide as needed."""
        table = self.state.table(name)
        self.state = self.state.with_table(name, replace(table, columns=self._widened(name, columns)))

    def _widened(
        self, name: str, given: Sequence[Column], rows: pa.Table | None = None
    ) -> tuple[Column, ...]:
        """The columns of a table with others, and perhaps `rows`; as text where a number would lose digits.

        It is settled here, with all values at hand, so that no later merge or reader sees them otherwise.
        """
        table = self.state.table(name)
        before = {column.name: column.type for column in table.columns}
        columns = list(with_columns(table, given))
        for place, column in enumerate(columns):
            if column.type not in (ColumnType.INT64, ColumnType.FLOAT64):
                continue
            values = []
            if rows is not None and column.name in rows.column_names:
                values.append(rows.column(column.name).combine_chunks())
            if before.get(column.name) not in (None, column.type):
                live = live_rows(self.storage, name, table)
                values.append(read_columns(self.storage, name, table, live, [column.name])[column.name])
            if not fits(values, column.type):
                columns[place] = Column(column.name, ColumnType.UTF8)
        return tuple(columns)

    def add_table(self, name: str, keys: Sequence[str], columns: Sequence[Column] = ()) -> None:
        """Add an empty table, unless it is there."""
        if name not in self.state.tables:
            self.state = self.state.with_table(name, TableState(tuple(keys), tuple(columns)))

    def set(self, **changed: object) -> None:
        """Change other fields of the state."""
        self.state = replace(self.state, **changed)  # type: ignore[arg-type]  # names are those of State

    def with_entry(self, field_name: str, entries: Mapping[str, object]) -> None:
        """Add or replace entries of one of the state's mappings."""
        self.set(**{field_name: {**getattr(self.state, field_name), **entries}})


def _sorted(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    texts = join_keys([rows.column(key).combine_chunks() for key in keys]).to_pylist()
    if len(set(texts)) != len(texts):
        raise SchemaError(f"{len(texts) - len(set(texts))} row(s) of one commit have the same keys")
    order = sorted(range(len(texts)), key=texts.__getitem__)
    if order == list(range(len(order))):
        return rows
    return rows.take(pa.array(order, pa.int64()))
