"""Making a store or collection in one call: volumes are staged, then everything appears with one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pandas as pd

from radiobject_assets.errors import StorageError
from radiobject_assets.store.format.layout import (
    Context,
    add_collection,
    columns_of,
    free_columns_of,
    new_state,
    refuse_existing,
    refuse_foreign,
    store_log,
)
from radiobject_assets.store.format.staging import StagedVolume, discard_staged, put_volumes
from radiobject_assets.store.format.subject_rows import add_subjects
from radiobject_assets.store.log.commit_log import Log, NoLogError
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.table_reading import places_of_collection
from radiobject_assets.store.names import COLLECTIONS, OBS, OBS_META
from radiobject_assets.store.storage import DeadlineError
from radiobject_assets.store.storage.uris import join, last_part, validate_collection_name
from radiobject_assets.store.tables.dataframe_rows import update_rows


class Making:
    """What is to be in a new store or collection; nothing of it is visible until the `making` block ends."""

    def __init__(self, uri: str, ctx: Context) -> None:
        self.uri = uri
        self._ctx = ctx
        self._steps: list[Callable[[Draft], None]] = []
        self._staged: list[tuple[str, list[StagedVolume]]] = []

    def add_collection(
        self,
        directory: str,
        name: str,
        shape: Sequence[int] | None = None,
        obs_schema: Mapping[str, Any] | None = None,
    ) -> None:
        """Let it have a collection, with further columns of obs (name to dtype)."""
        columns = free_columns_of(obs_schema)
        self._steps.append(lambda draft: add_collection(draft, directory, name, shape, columns))

    def collection(self, name: str) -> str:
        """Let a store have a collection of this name; the URI at which its volumes are to be staged."""
        validate_collection_name(name)
        self.add_collection(name, name)
        return join(self.uri, COLLECTIONS, name)

    def put(self, collection_uri: str, table: str, volumes: Iterable[StagedVolume]) -> None:
        """Let a collection have volumes, taken one by one: those staged so far go if one fails."""
        staged: list[StagedVolume] = []
        self._staged.append((collection_uri, staged))
        for volume in volumes:
            staged.append(volume)
        self._steps.append(lambda draft: put_volumes(draft, table, staged))

    def put_in(self, name: str, volumes: Iterable[StagedVolume]) -> None:
        """`put` for a collection of a store, by its name."""
        self.put(join(self.uri, COLLECTIONS, name), f"{COLLECTIONS}/{name}/{OBS}", volumes)

    def subjects(self, frame: pd.DataFrame | None, ids: Iterable[str] = ()) -> None:
        """Let a store have subjects with metadata, and those of `ids` that the metadata lacks."""
        wanted = list(dict.fromkeys(ids))
        if frame is not None:
            self._steps.append(lambda draft: update_rows(draft, OBS_META, frame))
        self._steps.append(lambda draft: add_subjects(draft, wanted))

    def subject_columns(self, schema: Mapping[str, Any]) -> None:
        """Let obs_meta have columns (name to dtype)."""
        columns = columns_of(schema)
        self._steps.append(lambda draft: draft.add_columns(OBS_META, columns))

    def change(self, draft: Draft) -> None:
        """Put everything into a draft."""
        for step in self._steps:
            step(draft)

    def discard(self) -> None:
        """Remove the arrays that were staged."""
        for uri, staged in self._staged:
            discard_staged(uri, staged, self._ctx)


@contextmanager
def making_store(uri: str, ctx: Context) -> Iterator[Making]:
    """Make a store at `uri`: what the block puts into it appears when it ends.

    After an error, or a kill, there is no store; the same call can be made again.

    Raises
    ------
    StorageError
        If something is at `uri` already.
    """
    log = store_log(uri, ctx)
    with suppress(NoLogError):
        log.newest()
        raise StorageError(f"{uri} already exists: choose another place, or delete it first")
    refuse_foreign(uri, ctx)

    def commit(made: Making) -> None:
        def change(draft: Draft) -> None:
            refuse_existing(draft)
            made.change(draft)

        log.commit("create", change, initial=new_state("store"))

    with _removed_on_error(Making(uri, ctx), log) as made:
        yield made
        commit(made)


@contextmanager
def making_collection(
    uri: str,
    name: str | None,
    ctx: Context,
    shape: Sequence[int] | None = None,
    obs_schema: Mapping[str, Any] | None = None,
) -> Iterator[Callable[[Iterable[StagedVolume]], None]]:
    """Make a collection at `uri`, in the store that its URI lies in or on its own.

    The block is given a function that takes staged volumes; they appear with the collection when it ends.

    Raises
    ------
    StorageError
        If something is at `uri` already.
    """
    inside, *_ = places_of_collection(uri)
    log, directory, initial = store_log(uri, ctx), "", None
    if inside.folder:
        with suppress(NoLogError):
            store_log(inside.root, ctx).newest()
            log, directory = store_log(inside.root, ctx), last_part(uri)
    if not directory:
        initial = new_state("collection")
        with suppress(NoLogError):
            log.newest()
            raise StorageError(f"{uri} already exists: choose another place, or delete it first")
    refuse_foreign(uri, ctx)
    table = f"{COLLECTIONS}/{directory}/{OBS}" if directory else OBS

    def change(draft: Draft) -> None:
        if not directory:
            refuse_existing(draft)
        elif directory in draft.state.collections:
            raise StorageError(f"{uri} already exists: choose another place, or delete it first")
        made.change(draft)

    with _removed_on_error(Making(uri, ctx), log, alone=not directory) as made:
        made.add_collection(directory, name or last_part(uri), shape, obs_schema)
        yield lambda volumes: made.put(uri, table, volumes)
        log.commit("create", change, initial=initial)


@contextmanager
def _removed_on_error(made: Making, log: Log, alone: bool = True) -> Iterator[Making]:
    try:
        yield made
    except DeadlineError:
        raise  # a removal would get no answer either; and the commit may have been made
    except BaseException:
        with suppress(StorageError):
            made.discard()
            if alone:  # in a store, folders of others that are about to be filled are empty for a moment
                log.storage.prune()
        raise
