"""Where things are in a store, and how stores and collections come to be (format 2).

    <store>/state.json, log/         the commit log (store/log): which rows count
    <store>/obs_meta/                segments of the table of subjects, key obs_subject_id
    <store>/collections/<directory>/ a collection; its name stands in the log (a rename changes only that)
        obs/                         segments of its table, keys (obs_subject_id, obs_id)
        volumes/<token>/             dense array of one volume

A collection can also stand on its own, with a log of its own: `<collection>/log/`, `obs/`, `volumes/`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.log.columns import Column, ColumnType, type_of_dtype, validate_column_name
from radiobject_assets.store.log.commit_log import FOLDER, HEAD, Log, NoLogError, now_ms
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.state import (
    FORMAT_VERSION as FORMAT_VERSION,
    CollectionState,
    State,
    TableState,
)
from radiobject_assets.store.log.table_reading import Place, places_of_collection
from radiobject_assets.store.names import COLLECTIONS, OBS, OBS_ID, OBS_META, SUBJECT, VOLUMES
from radiobject_assets.store.storage import open_storage
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.uris import (
    join,
    last_part,
    new_token,
    normalise,
    validate_collection_name,
)

STORE_FORMAT = "radiobject-assets/store"
COLLECTION_FORMAT = "radiobject-assets/collection"
VOLUME_FORMAT = "radiobject-assets/volume"

_OURS = frozenset([OBS_META, COLLECTIONS, OBS, VOLUMES, FOLDER, HEAD, "tmp"])
TileDBContext: TypeAlias = tiledb.Ctx
"""A context of TileDB: what callers hand in, without importing TileDB for it."""
Context: TypeAlias = tiledb.Ctx | ContextRef | None


def _text(name: str) -> Column:
    return Column(name, ColumnType.UTF8)


def _real(name: str) -> Column:
    return Column(name, ColumnType.FLOAT64)


def _whole(name: str) -> Column:
    return Column(name, ColumnType.INT64)


AFFINE_COLUMNS = tuple(f"affine_{row}{column}" for row in range(3) for column in range(4))
SIZE_COLUMNS = ("size_x", "size_y", "size_z", "size_t")
SPACING_COLUMNS = ("spacing_x_mm", "spacing_y_mm", "spacing_z_mm")

OBS_CORE: dict[str, Column] = {
    column.name: column
    for column in (
        _text("volume"),
        _whole("ndim"),
        *map(_whole, SIZE_COLUMNS),
        _text("dtype"),
        *map(_real, AFFINE_COLUMNS),
        *map(_real, SPACING_COLUMNS),
        _text("axcodes"),
        _text("orientation_source"),
        _real("slope"),
        _real("intercept"),
        _text("kind"),
        _text("modality"),
        _text("series_uid"),
        _text("study_uid"),
        _text("component"),
        _text("arrival"),
        _text("source_digest"),
        _text("labels_of_collection"),
        _text("labels_of"),
        _text("voxel_digest"),
        _text("index_digest"),
        _whole("voxel_bytes"),
        _whole("stored_bytes"),
        _text("writer_version"),
        Column("written_at", ColumnType.TIME_MS),
    )
}


@dataclass(frozen=True)
class CollectionEntry:
    """A collection of a store: its present name and where it is."""

    name: str
    uri: str


def reference(ctx: Context) -> ContextRef:
    """A reference to a context, whichever of both is given."""
    return ctx if isinstance(ctx, ContextRef) else ContextRef(ctx)


def store_log(uri: str, ctx: Context = None) -> Log:
    """The log under a root."""
    return Log(open_storage(uri, reference(ctx)))


def open_state(uri: str, ctx: Context, expected: str, moment: int | str | None = None) -> State:
    """The state of the store or collection whose root is `uri`, at a moment.

    Raises
    ------
    NoLogError
        There is none.
    StorageError
        It is of another kind or version.
    """
    state = store_log(uri, ctx).at(moment)
    if f"radiobject-assets/{state.kind}" != expected:
        raise StorageError(f"{uri} is a radiobject-assets {state.kind}, not a {expected.rpartition('/')[2]}")
    return state


def check_format(uri: str, ctx: Context, expected: str) -> State:
    """The present state of the store or collection at `uri`.

    Raises
    ------
    StorageError
        There is none, or one that this program cannot read.
    """
    kind = expected.rpartition("/")[2]
    try:
        if expected == COLLECTION_FORMAT:
            return collection_place(uri, ctx)[1]
        return open_state(uri, ctx, expected)
    except NoLogError:
        found = [entry.path for entry in open_storage(uri, reference(ctx)).list()]
    if any(name.startswith("__") for name in found):
        raise StorageError(
            f"{uri} is not a radiobject-assets {kind} but another TileDB group or array. A store of the "
            "RadiObject package is copied with `radiobject-assets import-radiobject`; for one of format "
            "version 1 ingest the data again"
        )
    raise NoLogError(f"no {kind} at {uri}: there is no {HEAD}")


def is_store(uri: str, ctx: Context) -> bool:
    """Whether a store of this format is at `uri`."""
    try:
        open_state(uri, ctx, STORE_FORMAT)
    except NoLogError:
        return False
    return True


def refuse_foreign(uri: str, ctx: Context) -> None:
    """Raise where `uri` holds something that is not ours, to make nothing among it."""
    if "://" not in uri and os.path.lexists(uri) and not os.path.isdir(uri):
        raise StorageError(f"{uri} is a file: a store is a folder")
    names = {entry.path.rstrip("/") for entry in open_storage(uri, reference(ctx)).list()}
    names = {name for name in names if not name.startswith(".")}
    foreign = sorted(names - _OURS)
    if foreign:
        raise StorageError(f"{uri} already holds something else ({', '.join(foreign[:3])}): not touched")


def new_state(kind: str) -> State:
    """What a new store, or collection of its own, is before its first commit: empty."""
    state = State(kind, new_token())
    if kind == "store":
        return state.with_table(OBS_META, TableState((SUBJECT,)))
    return state.with_table(OBS, TableState((SUBJECT, OBS_ID), tuple(OBS_CORE.values())))


def make(uri: str, ctx: Context, kind: str, change: Callable[[Draft], None] | None = None) -> State:
    """Make a store or a collection of its own, with what `change` puts in it: whole, or not at all.

    Where there is one already, `change` sees it (the number of its `base` is not 0), and may refuse.

    Raises
    ------
    StorageError
        Where something else is at `uri`; it is left alone.
    """
    log = store_log(uri, ctx)
    try:
        start = log.newest()
    except NoLogError:
        refuse_foreign(uri, ctx)
        start = None
    state = log.commit("create", change or (lambda draft: None), start=start, initial=new_state(kind))
    if state.kind != kind:
        raise StorageError(f"{uri} is a radiobject-assets {state.kind}, not a {kind}: not touched")
    return state


def refuse_existing(draft: Draft) -> None:
    """Raise where something is there already.

    Raises
    ------
    StorageError
        The draft does not begin from nothing.
    """
    if draft.base.number:
        raise StorageError(f"{draft.storage.uri} already exists: choose another place, or delete it first")


def ensure_store(uri: str | os.PathLike[str], ctx: Context = None) -> str:
    """Create an empty store, or do nothing where there is one. Returns the normalised URI.

    Raises
    ------
    StorageError
        Where something else is at `uri`; it is left alone.
    """
    where = normalise(uri)
    make(where, ctx, "store")
    return where


def columns_of(schema: Mapping[str, Any]) -> list[Column]:
    """Columns of a schema (name to dtype), but for keys."""
    return [
        Column(validate_column_name(name), type_of_dtype(dtype))
        for name, dtype in schema.items()
        if name not in (SUBJECT, OBS_ID)
    ]


def free_columns_of(schema: Mapping[str, Any] | None) -> list[Column]:
    """Columns of a schema of obs that the format does not define itself."""
    return columns_of({name: dtype for name, dtype in (schema or {}).items() if name not in OBS_CORE})


def ensure_collection_at(
    uri: str | os.PathLike[str],
    name: str | None = None,
    ctx: Context = None,
    obs_schema: Mapping[str, Any] | None = None,
    shape: Sequence[int] | None = None,
) -> str:
    """Create the collection at `uri` itself, unless it is there (it can also stand outside a store).

    Columns of obs that `obs_schema` (name to dtype) has and obs has not are added; `shape` is noted where the
    collection is made here.
    """
    where = normalise(uri)
    columns = free_columns_of(obs_schema)
    inside, *_ = places_of_collection(where)
    if inside.folder and is_store(inside.root, ctx):
        directory = last_part(where)
        store_log(inside.root, ctx).commit(
            "create collection",
            lambda draft: add_collection(draft, directory, name or directory, shape, columns),
        )
    else:
        make(
            where,
            ctx,
            "collection",
            lambda draft: add_collection(draft, "", name or last_part(where), shape, columns),
        )
    return where


def add_collection(
    draft: Draft,
    directory: str,
    name: str,
    shape: Sequence[int] | None = None,
    columns: Sequence[Column] = (),
) -> None:
    """Add an empty collection, unless it is there, and columns that its table lacks."""
    table = f"{COLLECTIONS}/{directory}/{OBS}" if directory else OBS
    if directory not in draft.state.collections:
        sizes = None if shape is None else tuple(int(size) for size in shape)
        draft.with_entry("collections", {directory: CollectionState(name, now_ms(), sizes)})
        draft.add_table(table, (SUBJECT, OBS_ID), tuple(OBS_CORE.values()))
    if columns:
        draft.add_columns(table, columns)


def collection_place(uri: str, ctx: Context, moment: int | str | None = None) -> tuple[Place, State]:
    """Where the collection at `uri` is in which log, with its state.

    Raises
    ------
    NoLogError
        There is none.
    """
    for place in places_of_collection(uri):
        try:
            state = store_log(place.root, ctx).at(moment)
        except NoLogError:
            continue
        if last_part(place.folder) in state.collections and (place.folder or state.kind == "collection"):
            return place, state
    raise NoLogError(f"no collection at {uri}")


def entries_of(store_uri: str, state: State) -> list[CollectionEntry]:
    """The collections of a store in one state, by name."""
    found = [
        CollectionEntry(one.name, join(store_uri, COLLECTIONS, directory))
        for directory, one in state.collections.items()
    ]
    return sorted(found, key=lambda entry: entry.name)


def list_collections(store_uri: str, ctx: Context, moment: int | str | None = None) -> list[CollectionEntry]:
    """Collections of a store, by name; with a moment (ms, or a snapshot's name), those of then."""
    return entries_of(store_uri, open_state(store_uri, ctx, STORE_FORMAT, moment))


def directory_of(state: State, name: str) -> str | None:
    """The directory of the collection with this name, or None."""
    return next((directory for directory, one in state.collections.items() if one.name == name), None)


def ensure_collection(
    store_uri: str | os.PathLike[str],
    name: str,
    ctx: Context = None,
    columns: Sequence[Column] = (),
) -> str:
    """URI of the collection `name`, which is created if it is not there yet; safe when raced.

    Raises
    ------
    StorageError
        If `store_uri` is not a store, or `name` cannot name a collection.
    """
    where = normalise(store_uri)
    validate_collection_name(name)
    state = check_format(where, ctx, STORE_FORMAT)
    if (directory := directory_of(state, name)) is None:
        change = partial(add_named_collection, name=name, columns=columns)
        state = store_log(where, ctx).commit("create collection", change, start=state)
        directory = directory_of(state, name)
    return join(where, COLLECTIONS, str(directory))


def add_named_collection(draft: Draft, name: str, columns: Sequence[Column] = ()) -> None:
    """Add a collection by name, unless it is there."""
    if directory_of(draft.state, name) is None:
        add_collection(draft, directory_for(draft.state, name), name, None, columns)


def directory_for(state: State, name: str) -> str:
    """The directory of the collection with this name, or the one that it will have."""
    directory, attempt = directory_of(state, name) or name, 0
    # The directory of that name may belong to a collection that was renamed since.
    while directory in state.collections and state.collections[directory].name != name:
        attempt += 1
        directory = f"{name}.{attempt}"
    return directory


def rename_collection(store_uri: str, old: str, new: str, ctx: Context = None) -> None:
    """Give a collection another name: one commit, nothing moves; earlier states keep the old name."""
    where = normalise(store_uri)
    validate_collection_name(new)

    def rename(draft: Draft) -> None:
        state = draft.state
        directory = directory_of(state, old)
        if directory is None:
            names = ", ".join(sorted(one.name for one in state.collections.values())) or "none"
            raise KeyError(f"collection {old!r} not found in {where}; there are {names}")
        if directory_of(state, new) is not None:
            raise ValueError(f"a collection {new!r} already exists")
        entry = state.collections[directory]
        draft.with_entry("collections", {directory: CollectionState(new, entry.created_ms, entry.shape)})

    state = check_format(where, ctx, STORE_FORMAT)
    store_log(where, ctx).commit("rename collection", rename, start=state)
