"""Reading tables of one state, and the picture of a store that an object keeps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from radiobject_assets.errors import SchemaError
from radiobject_assets.store.log.columns import ColumnType
from radiobject_assets.store.log.commit_log import Log, NoLogError
from radiobject_assets.store.log.merging import Keys, join_keys, live_rows, read_columns, unite
from radiobject_assets.store.log.segments import read_segment
from radiobject_assets.store.log.state import State, TableState
from radiobject_assets.store.names import COLLECTIONS, OBS, OBS_META, ROWS
from radiobject_assets.store.storage import Storage, open_storage
from radiobject_assets.store.storage.context import ContextRef


def read_table(
    storage: Storage,
    name: str,
    table: TableState,
    columns: Sequence[str] | None = None,
    keys: Keys | None = None,
) -> pa.Table:
    """Rows of a table in one state, sorted by key; its keys and `columns` (None: all).

    Raises
    ------
    SchemaError
        If a column does not exist.
    RemovedError
        If what the state names is there no more.
    """
    wanted = [*table.keys, *(name for name in checked_columns(table, columns) if name not in table.keys)]
    if keys is not None and any(allowed is not None and not len(allowed) for allowed in keys):
        table = TableState(table.keys, table.columns)
    live = live_rows(storage, name, table, keys)
    return pa.table(read_columns(storage, name, table, live, wanted))


def checked_columns(table: TableState, columns: Sequence[str] | None) -> list[str]:
    """Names of columns beside the keys, each once; all of them for None."""
    there = [column.name for column in table.columns]
    wanted = list(dict.fromkeys(there if columns is None else columns))
    unknown = [column for column in wanted if column not in there and column not in table.keys]
    if unknown:
        raise SchemaError(f"no column {unknown[0]!r}; there are {', '.join((*table.keys, *there))}")
    return wanted


def rows_where(
    storage: Storage,
    name: str,
    table: TableState,
    column: str,
    values: Iterable[str],
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Rows whose text column has one of these values, sorted by key.

    Only they are taken out of the segments: of 100,000 rows a few are found in the time that reading one
    column takes.
    """
    kinds = {c.name: c.type for c in table.columns}
    if column not in kinds or kinds[column] not in (None, ColumnType.UTF8):
        there = ", ".join(kinds)
        raise SchemaError(f"no text column {column!r} to look in; there are {there}")
    wanted = pa.array(sorted(set(values)), pa.large_string())
    keys: list[set[str]] = [set() for _ in table.keys]
    for segment in table.segments if len(wanted) else ():
        read = read_segment(storage, name, segment, [*table.keys, column])
        if column not in read:
            continue
        found = pc.is_in(unite([read[column]], ColumnType.UTF8), value_set=wanted)
        if pc.any(found).as_py():
            for position, key in enumerate(table.keys):
                keys[position].update(read[key].filter(found).to_pylist())
    chosen = None if columns is None else list(dict.fromkeys([*columns, column]))
    rows = read_table(storage, name, table, chosen, [sorted(found) for found in keys])
    rows = rows.filter(pc.is_in(rows.column(column), value_set=wanted))
    return rows if columns is None or column in columns else rows.drop_columns([column])


def key_positions(keys: Sequence[pa.Array], among: Sequence[pa.Array]) -> pa.Array:
    """For each of `keys` its position in `among`, null where it is not there."""
    return pc.index_in(join_keys(keys), value_set=join_keys(among))


@dataclass(frozen=True)
class Place:
    """A place in a log: a folder under its root."""

    root: str
    folder: str
    """"" for the root itself."""


_IN_STORE = re.compile(rf"(.+)/{COLLECTIONS}/([^/]+)")


def places_of_collection(uri: str) -> list[Place]:
    """Where a collection may be kept: in the store that its URI lies in, or on its own."""
    match = _IN_STORE.fullmatch(uri)
    inside = [Place(match[1], f"{COLLECTIONS}/{match[2]}")] if match else []
    return [*inside, Place(uri, "")]


def places_of_table(uri: str) -> list[Place]:
    """Where a table may be kept: in a store, in a collection, or on its own."""
    parent, _, last = uri.rpartition("/")
    found = []
    if last == OBS_META:
        found.append(Place(parent, OBS_META))
    if last == OBS:
        found += [Place(p.root, f"{p.folder}/{OBS}".lstrip("/")) for p in places_of_collection(parent)]
    return [*found, Place(uri, ROWS)]


class Picture:
    """One state of a log, taken when it is first asked for and kept until `refresh`.

    Objects of one store share it, so that what they show belongs together. In another process it is the same
    state: its list of segments goes along.
    """

    def __init__(
        self,
        places: Sequence[Place],
        ctx: ContextRef,
        moment: int | str | None = None,
        state: State | None = None,
    ) -> None:
        self._places = tuple(places)
        self._ctx = ctx
        self.moment = moment
        self._state = state
        self._place: Place | None = None if state is None else places[0]

    @property
    def place(self) -> Place:
        """Where it was found.

        Raises
        ------
        NoLogError
            If there is nothing.
        """
        _ = self.state
        assert self._place is not None
        return self._place

    @property
    def log(self) -> Log:
        """The log."""
        return Log(open_storage(self.place.root, self._ctx))

    @property
    def state(self) -> State:
        """The state shown."""
        if self._state is None:
            self._place, self._state = find_state(self._places, self._ctx, self.moment)
        return self._state

    @property
    def is_taken(self) -> bool:
        """Whether the state was asked for already."""
        return self._state is not None

    def refresh(self) -> None:
        """Show what is there now."""
        self._state = self._place = None

    def follow(self) -> bool:
        """Show the same state as it is after erasures since; whether it has other segments now."""
        before = self.state
        now = before.as_in(self.log.newest())
        if now.tables == before.tables:
            return False
        self._state = now
        return True


def find_state(
    places: Sequence[Place], ctx: ContextRef, moment: int | str | None = None
) -> tuple[Place, State]:
    """The first of some places that there is, with its state at a moment.

    Raises
    ------
    NoLogError
        There is nothing at any of them.
    """
    error: NoLogError | None = None
    for place in places:
        try:
            state = Log(open_storage(place.root, ctx)).at(moment)
        except NoLogError as missing:
            error = missing
            continue
        if place.folder and place.folder not in state.tables and moment is not None:
            # Made after that moment: it was not there, so it had no rows.
            newest = Log(open_storage(place.root, ctx)).newest()
            if place.folder in newest.tables:
                empty = replace(newest.table(place.folder), segments=())
                state = state.with_table(place.folder, empty)
        if not place.folder or place.folder in state.tables or place is places[-1]:
            return place, state
    raise error or NoLogError(f"nothing is at {places[-1].root}")
