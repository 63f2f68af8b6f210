"""A state of a store as Arrow tables, for those who look at all of it: manifests, comparisons, cards."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from radiobject_assets.store.format.layout import STORE_FORMAT, Context, check_format, open_state, store_log
from radiobject_assets.store.log.description import counts_and_digest
from radiobject_assets.store.log.state import State
from radiobject_assets.store.log.table_reading import read_table
from radiobject_assets.store.names import COLLECTIONS, OBS, OBS_META
from radiobject_assets.store.storage import Storage
from radiobject_assets.store.storage.uris import normalise


@dataclass(frozen=True)
class WholeState:
    """A store as one commit left it. All that is read from it belongs together."""

    storage: Storage
    state: State
    snapshot: str | None
    """The name by which it was asked for."""
    is_pseudonymous: bool
    """Whether the store's subjects are keyed pseudonyms."""

    @property
    def root_id(self) -> str:
        """128 random bits that the store was made with, hexadecimal; copies of its files keep them."""
        return self.state.root_id

    @property
    def collections(self) -> Mapping[str, str]:
        """Folders of the collections' tables by name, in order of the names."""
        named = sorted((entry.name, directory) for directory, entry in self.state.collections.items())
        return {name: f"{COLLECTIONS}/{directory}/{OBS}" for name, directory in named}

    def described(self) -> tuple[dict[str, int], str]:
        """Counts and digest, as a snapshot of it has them."""
        return counts_and_digest(self.storage, self.state)

    def subjects(self) -> pa.Table:
        """The rows of obs_meta, sorted by subject."""
        return read_table(self.storage, OBS_META, self.state.table(OBS_META))

    def columns(self, collection: str) -> tuple[str, ...]:
        """Names of a collection's columns beside the keys."""
        return tuple(column.name for column in self.state.table(self.collections[collection]).columns)

    def volumes(self, collection: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a collection, sorted by subject and id; with the keys and `columns` (None: all)."""
        folder = self.collections[collection]
        return read_table(self.storage, folder, self.state.table(folder), columns)


def whole_state(
    store_uri: str | os.PathLike[str], snapshot: str | None = None, ctx: Context = None
) -> WholeState:
    """The state of a store that a snapshot keeps, or the present one.

    Raises
    ------
    StorageError
        There is no store at that URI, or no such snapshot.
    """
    where = normalise(store_uri)
    newest = check_format(where, ctx, STORE_FORMAT)
    state = newest if snapshot is None else open_state(where, ctx, STORE_FORMAT, snapshot)
    return WholeState(store_log(where, ctx).storage, state, snapshot, "pseudonyms" in newest.properties)
