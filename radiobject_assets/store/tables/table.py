"""A table of a store, a collection or its own: read at one state, changed by commits.

Rows are addressed by their keys, never by position. A write of existing keys replaces those rows whole. A
handle shows one state until it is closed, so that columns that are read one after another belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
import tiledb

from radiobject_assets.errors import SchemaError
from radiobject_assets.store.log.columns import Column
from radiobject_assets.store.log.commit_log import Log
from radiobject_assets.store.log.compaction import compact_all_if_many, without_columns
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.segments import RemovedError
from radiobject_assets.store.log.state import State, TableState
from radiobject_assets.store.log.table_reading import Picture, places_of_table, read_table, rows_where
from radiobject_assets.store.names import ROWS
from radiobject_assets.store.storage import open_storage
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.uris import new_token, normalise


class Table:
    """A table at one state; writing methods act on the newest state.

    Parameters
    ----------
    uri
        `<store>/obs_meta`, `<store>/collections/<directory>/obs`, `<collection>/obs`, or a table's own place.
    moment
        Milliseconds since 1970, the name of a snapshot, or None for now.
    picture
        The state to show, shared with other tables of the store; in place of a moment.
    """

    def __init__(
        self,
        uri: str,
        ctx: tiledb.Ctx | ContextRef | None = None,
        moment: int | str | None = None,
        picture: Picture | None = None,
    ) -> None:
        self.uri = normalise(uri)
        reference = ctx if isinstance(ctx, ContextRef) else ContextRef(ctx)
        self._shared = picture is not None
        self._picture = picture or Picture(places_of_table(self.uri), reference, moment)

    @property
    def _log(self) -> Log:
        return self._picture.log

    @property
    def name(self) -> str:
        """Its folder under the root of its log."""
        root = self._picture.place.root
        return self.uri[len(root) + 1 :] if self.uri != root else self._picture.place.folder

    @property
    def state(self) -> TableState:
        """Its columns and segments in the state shown."""
        return self._picture.state.table(self.name)

    @property
    def index(self) -> tuple[str, ...]:
        """Names of the key columns."""
        return self.state.keys

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns beside the keys, in order of their creation."""
        return tuple(column.name for column in self.state.columns)

    def close(self) -> None:
        """Let the next read show the newest state."""
        if not self._shared:
            self._picture.refresh()

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
        return self._retried(lambda: read_table(self._log.storage, self.name, self.state, columns, keys))

    def rows_where(
        self, column: str, values: Iterable[str], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Rows whose text column has one of these values, sorted by key."""
        wanted = list(values)
        return self._retried(
            lambda: rows_where(self._log.storage, self.name, self.state, column, wanted, columns)
        )

    def _retried(self, read: Callable[[], pa.Table]) -> pa.Table:
        while True:
            before = self._picture.state
            try:
                return read()
            except RemovedError:
                # Somebody was erased since: the same state without them is in other segments. Another thread
                # may have found them first.
                if not self._picture.follow() and self._picture.state is before:
                    raise

    # -- changing -----------------------------------------------------------------------------------

    def commit(self, operation: str, change: Callable[[Draft, str], None]) -> None:
        """Commit what `change(draft, name of this table)` changes; see `Log.commit`."""
        start = None if self._picture.is_taken else self._picture.state
        name, log = self.name, self._log
        state = log.commit(operation, lambda draft: change(draft, name), start=start)
        compact_all_if_many(log, state)
        self.close()

    def upsert(self, rows: pa.Table) -> None:
        """Write rows whole, adding columns that are missing, in one commit.

        `rows` has the key columns and any others; columns that it lacks become null for these rows.
        """
        if rows.num_rows:
            self.commit("put", lambda draft, name: draft.put(name, rows))

    def add_columns(self, columns: Sequence[Column]) -> None:
        """Add columns without values."""
        self.commit("add columns", lambda draft, name: draft.add_columns(name, columns))

    def drop_columns(self, names: Sequence[str]) -> None:
        """Remove columns with their values; earlier states keep them."""
        self.commit("drop columns", lambda draft, name: without_columns(draft, name, names))

    def delete(self, keys: Iterable[Sequence[str]]) -> None:
        """Delete rows from the newest state; earlier states keep them.

        `keys` are whole keys, or their first parts: `("s1",)` deletes all rows of subject s1.
        """
        wanted = {tuple(key) for key in keys}
        if wanted:
            self.commit("delete", lambda draft, name: draft.delete(name, _rows_with(draft, name, wanted)))


def _rows_with(draft: Draft, name: str, starts: set[tuple[str, ...]]) -> pa.Table:
    table = draft.state.table(name)
    firsts = sorted({start[0] for start in starts})
    there = read_table(draft.storage, name, table, [], [firsts])
    lengths = {len(start) for start in starts}
    whole = list(zip(*(there.column(key).to_pylist() for key in table.keys), strict=True))
    chosen = [i for i, key in enumerate(whole) if any(key[:n] in starts for n in lengths)]
    return there.take(pa.array(chosen, pa.int64()))


def create_table(
    uri: str, keys: Sequence[str], columns: Sequence[Column], ctx: ContextRef | None = None
) -> None:
    """Make an empty table of its own.

    Raises
    ------
    SchemaError
        If there is one.
    """

    def add(draft: Draft) -> None:
        if draft.base.number:
            raise SchemaError(f"there is a table at {uri} already")
        draft.add_table(ROWS, keys, columns)

    storage = open_storage(uri, ctx)
    Log(storage).commit("create", add, initial=State("table", new_token()))
