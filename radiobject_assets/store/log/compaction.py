"""Fewer segments: small ones merged as commits come, all of them on demand; each time by one commit.

What is merged stays as it is for whoever reads an earlier state. A merge that is killed, paused or overtaken
leaves files that no state names, which are in nobody's way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa

from radiobject_assets.errors import SchemaError, StorageError
from radiobject_assets.store.log.commit_log import Log
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.merging import LiveRows, live_rows, read_columns
from radiobject_assets.store.log.segments import DELETED, LARGEST, column_names, read_segment
from radiobject_assets.store.log.state import RowSegment, State, TableState
from radiobject_assets.store.storage import Storage

_log = logging.getLogger(__name__)

# Segments that a table may have beside full ones before the next commit merges some.
MANY = 4


def compact_if_many(log: Log, state: State, name: str) -> None:
    """Merge the small, newest segments of a table that has many; a failure is left to the next commit.

    As many of the newest are merged as are together at least half as large as the one before them: so a row
    is written again about log2(rows) times, and a table of any size has few segments.
    """
    if _to_merge(state.table(name)) is None:
        return

    def merge(draft: Draft) -> None:
        run = _to_merge(draft.state.table(name))
        if run is not None:
            _merge_run(draft, name, run)

    try:
        log.commit("compact", merge, start=state)
    except StorageError as error:
        _log.warning("%s: its segments were not merged: %s", name, error)


def compact_all_if_many(log: Log, state: State) -> None:
    """`compact_if_many` for all tables."""
    for name in state.tables:
        compact_if_many(log, state, name)


def _to_merge(table: TableState) -> tuple[RowSegment, ...] | None:
    """The newest segments that are to become one, oldest first."""
    small = 0
    for segment in reversed(table.segments):
        if segment.rows >= LARGEST // 2:
            break
        small += 1
    if small <= MANY:
        return None
    run, rows = 0, 0
    for segment in reversed(table.segments[-small:]):
        if (run > MANY // 2 and segment.rows > 2 * rows) or rows + segment.rows > LARGEST:
            break
        run, rows = run + 1, rows + segment.rows
    return table.segments[-run:] if run > 1 else None


def _merge_run(draft: Draft, name: str, run: Sequence[RowSegment]) -> None:
    table = draft.state.table(name)
    first = table.segments.index(run[0])
    part = replace(table, segments=tuple(run))
    oldest = first == 0

    def rows() -> pa.Table:
        # Deletions still hide rows of older segments.
        live = live_rows(draft.storage, name, part, keep_deletions=not oldest)
        return _with_marks(_rows_of(draft.storage, name, part, live), live)

    merged = draft.write(name, tuple(s.name for s in run), rows)
    segments = [*table.segments[:first], *([merged] if merged.rows else [])]
    draft.set_segments(name, [*segments, *table.segments[first + len(run) :]])


def _with_marks(rows: pa.Table, live: LiveRows) -> pa.Table:
    return rows if live.deleted is None else rows.append_column(DELETED, pa.array(live.deleted))


def _rows_of(storage: Storage, name: str, table: TableState, live: LiveRows) -> pa.Table:
    columns = [*table.keys, *(column.name for column in table.columns)]
    return pa.table(read_columns(storage, name, table, live, columns))


def consolidate_table(draft: Draft, name: str) -> None:
    """Let a table consist of segments with rows that count alone, none of them small but the last.

    Segments that need no change stay. At most two of them are in memory at once.
    """
    table = draft.state.table(name)
    if len(table.segments) < 2 and not any(s.deletions for s in table.segments):
        return
    live = live_rows(draft.storage, name, table)
    parts = list(_parts(live))
    segments = []
    for number, part in enumerate(parts):
        whole = len(part.segments) == 1 and part.order is None and len(part) == part.segments[0].rows
        if whole and not part.segments[0].deletions:
            segments.append(part.segments[0])
            continue
        key = ("all", tuple(s.name for s in table.segments), number)
        rows = partial(_rows_of, draft.storage, name, table, part)
        segments.append(draft.write(name, key, rows))
    draft.set_segments(name, segments)


def _parts(live: LiveRows) -> Iterator[LiveRows]:
    """Sorted rows in groups of up to `LARGEST`, each with what it takes of every segment."""
    total = len(live)
    if live.order is None:
        yield from _in_order(live)
        return
    order = live.order.to_numpy()
    ends = np.cumsum([0, *map(len, live.rows)])
    for start in range(0, total, LARGEST):
        chosen = order[start : start + LARGEST]
        segments, rows = [], []
        places = np.empty(len(chosen), np.int64)
        count = 0
        for segment, held, low, high in zip(live.segments, live.rows, ends[:-1], ends[1:], strict=True):
            inside = (chosen >= low) & (chosen < high)
            if inside.any():
                segments.append(segment)
                rows.append(held[chosen[inside] - low])
                places[inside] = count + np.arange(inside.sum())
                count += int(inside.sum())
        sorted_already = bool((places == np.arange(len(places))).all())
        yield LiveRows(tuple(segments), tuple(rows), None if sorted_already else pa.array(places))


def _in_order(live: LiveRows) -> Iterator[LiveRows]:
    """Segments whose ranges of keys follow each other: full ones stay, small ones become one."""
    segments: list[RowSegment] = []
    rows: list[np.ndarray] = []
    for segment, held in zip(live.segments, live.rows, strict=True):
        if rows and sum(map(len, rows)) + len(held) > LARGEST:
            yield LiveRows(tuple(segments), tuple(rows), None)
            segments, rows = [], []
        segments.append(segment)
        rows.append(held)
    if rows:
        yield LiveRows(tuple(segments), tuple(rows), None)


def without_columns(draft: Draft, name: str, names: Sequence[str]) -> None:
    """Let a table have some columns no more: segments that have them are written anew."""
    table = draft.state.table(name)
    fixed = [column for column in names if column in table.keys]
    if fixed:
        raise SchemaError(f"column {fixed[0]!r} is a key: it cannot be dropped")
    gone = set(names)
    segments = []
    for segment in table.segments:
        there = column_names(draft.storage, name, segment)
        kept = [column for column in there if column not in gone]
        if kept == there:
            segments.append(segment)
            continue
        key = ("without", tuple(sorted(gone)), segment.name)

        def rows(segment: RowSegment = segment, kept: Sequence[str] = kept) -> pa.Table:
            read = read_segment(draft.storage, name, segment, kept)
            return pa.table({column: read[column] for column in kept})

        segments.append(draft.write(name, key, rows))
    draft.set_segments(name, segments)
    columns = tuple(column for column in table.columns if column.name not in gone)
    draft.state = draft.state.with_table(name, replace(draft.state.table(name), columns=columns))


def consolidate_tables(log: Log, names: Sequence[str] | None = None, more_than: int = 1) -> dict[str, int]:
    """Consolidate tables of more than so many segments; returns how many were merged, by table."""
    merged: dict[str, int] = {}
    state = log.newest()
    for name in state.tables if names is None else names:
        count = len(state.table(name).segments)
        if count > max(1, more_than):
            after = log.commit("consolidate", partial(consolidate_table, name=name))
            if after.table(name).segments != state.table(name).segments:
                merged[name] = count
    return merged
