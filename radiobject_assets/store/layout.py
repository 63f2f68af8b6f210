"""Where things are in a store, and how stores and collections come to be (format 1).

    <store>/                       group; metadata names format and version
      obs_meta                     table, key obs_subject_id
      collections/<directory>/     group; metadata names the collection (a rename changes only that)
        obs                        table, keys (obs_subject_id, obs_id): the commit record
        volumes/<token>/           dense array of one volume
      snapshots                    table, key name

Every step is idempotent and tolerates that another process does the same at the same moment. A TileDB
group's member list is never written: it loses members under concurrent writers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.columns import Column, ColumnType, type_of_dtype, validate_column_name
from radiobject_assets.store.context import ctx_for_threads
from radiobject_assets.store.deadline import on_storage
from radiobject_assets.store.groups import create_group, group_metadata, meta_if_group, write_group_metadata
from radiobject_assets.store.pins import newest_stamp
from radiobject_assets.store.table import Table, now_ms
from radiobject_assets.store.table_creation import create_table
from radiobject_assets.store.uris import (
    join,
    last_part,
    list_names,
    normalise,
    object_kind,
    validate_collection_name,
)

STORE_FORMAT = "radiobject-assets/store"
COLLECTION_FORMAT = "radiobject-assets/collection"
VOLUME_FORMAT = "radiobject-assets/volume"
FORMAT_VERSION = 1

OBS_META, COLLECTIONS, SNAPSHOTS, OBS, VOLUMES = "obs_meta", "collections", "snapshots", "obs", "volumes"
SUBJECT, OBS_ID = "obs_subject_id", "obs_id"


def _text(name: str, nullable: bool = True) -> Column:
    return Column(name, ColumnType.UTF8, nullable=nullable, free=False)


def _real(name: str) -> Column:
    return Column(name, ColumnType.FLOAT64, nullable=False, free=False)


def _whole(name: str) -> Column:
    return Column(name, ColumnType.INT64, nullable=False, free=False)


AFFINE_COLUMNS = tuple(f"affine_{row}{column}" for row in range(3) for column in range(4))
SIZE_COLUMNS = ("size_x", "size_y", "size_z", "size_t")
SPACING_COLUMNS = ("spacing_x_mm", "spacing_y_mm", "spacing_z_mm")

OBS_CORE: dict[str, Column] = {
    column.name: column
    for column in (
        _text("volume", nullable=False),
        _whole("ndim"),
        *map(_whole, SIZE_COLUMNS),
        _text("dtype", nullable=False),
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
        _text("voxel_digest", nullable=False),
        _whole("voxel_bytes"),
        _whole("stored_bytes"),
        _text("writer_version", nullable=False),
        Column("written_at", ColumnType.TIME_MS, nullable=False, free=False),
    )
}

SNAPSHOT_CORE: dict[str, Column] = {
    column.name: column
    for column in (
        _whole("timestamp_ms"),
        _text("digest", nullable=False),
        _text("counts", nullable=False),
        Column("created_at", ColumnType.TIME_MS, nullable=False, free=False),
    )
}


@dataclass(frozen=True)
class CollectionEntry:
    """A collection of a store: its present name and where it is."""

    name: str
    uri: str


def check_format(uri: str, ctx: tiledb.Ctx, expected: str) -> dict[str, Any]:
    """The metadata of the group at `uri`.

    Raises
    ------
    StorageError
        Where there is no group of the `expected` format, or one of a version that this program cannot read.
    """
    kind = "store" if expected == STORE_FORMAT else "collection"
    meta, found = meta_if_group(uri, ctx)
    if found is None:
        raise StorageError(f"no {kind} at {uri}: there is nothing that TileDB knows")
    if meta.get("format") != expected:
        what = f"a {meta['format']}" if "format" in meta else f"another TileDB {found}"
        raise StorageError(
            f"{uri} is not a radiobject-assets {kind} but {what}; "
            "a store of the RadiObject package is copied with `radiobject-assets import-radiobject`"
        )
    version = int(meta.get("format_version", 0))
    if not 1 <= version <= FORMAT_VERSION:
        raise StorageError(
            f"{uri} has format version {version}; this program reads up to {FORMAT_VERSION}: update it"
        )
    return meta


def is_store(uri: str, ctx: tiledb.Ctx) -> bool:
    """Whether a finished store of this format is at `uri`."""
    return bool(meta_if_group(uri, ctx)[0].get("format") == STORE_FORMAT)


def _refuse_foreign(uri: str, ctx: tiledb.Ctx, ours: set[str]) -> None:
    """Raise where `uri` holds something that an interrupted `ensure_*` of ours could not have left."""
    vfs = tiledb.VFS(ctx=ctx)
    if "://" not in uri and os.path.lexists(uri) and not os.path.isdir(uri):
        raise StorageError(f"{uri} is a file: a store is a folder")
    listed = on_storage("look at", uri, ctx, lambda: vfs.ls(uri) if vfs.is_dir(uri) else [])
    # After the listing: another writer makes the group first, then what is in it.
    kind = object_kind(uri, ctx)
    names = {last_part(name) for name in listed}
    names = {name for name in names if not name.startswith("__")}
    if kind == "array" or names - ours or (kind is None and names):
        raise StorageError(
            f"{uri} already holds something else ({', '.join(sorted(names)[:3]) or kind}): not touched"
        )
    if kind == "group":
        meta = group_metadata(uri, ctx)
        # another writer may have finished it since we looked
        if meta and meta.get("format") not in (STORE_FORMAT, COLLECTION_FORMAT):
            raise StorageError(f"{uri} is a TileDB group of another kind: not touched")


def ensure_store(uri: str | os.PathLike[str], ctx: tiledb.Ctx | None = None) -> str:
    """Create an empty store, or finish one whose creation was interrupted, or do nothing.

    Returns the normalised URI. Safe when several processes do it at once.

    Raises
    ------
    StorageError
        Where something else is at `uri`; it is left alone.
    """
    uri, ctx = normalise(uri), ctx_for_threads(ctx)
    if meta_if_group(uri, ctx)[0].get("format") is not None:
        check_format(uri, ctx, STORE_FORMAT)
        return uri
    _refuse_foreign(uri, ctx, {OBS_META, COLLECTIONS, SNAPSHOTS})
    create_group(uri, ctx)
    create_group(join(uri, COLLECTIONS), ctx)
    _ensure_table(join(uri, OBS_META), (SUBJECT,), (), ctx)
    _ensure_table(join(uri, SNAPSHOTS), ("name",), SNAPSHOT_CORE.values(), ctx)
    # The marker comes last: a store without it is unfinished, and the next call completes it.
    write_group_metadata(
        uri, {"format": STORE_FORMAT, "format_version": FORMAT_VERSION, "created_ms": now_ms()}, ctx
    )
    return uri


def _ensure_table(uri: str, index: tuple[str, ...], columns: Iterable[Column], ctx: tiledb.Ctx) -> None:
    if object_kind(uri, ctx) == "array":
        return
    create_table(uri, index, columns, ctx)


def ensure_collection_at(
    uri: str | os.PathLike[str],
    name: str | None = None,
    ctx: tiledb.Ctx | None = None,
    obs_schema: Mapping[str, Any] | None = None,
    shape: Sequence[int] | None = None,
) -> str:
    """Create or finish the collection at `uri` itself (a collection can also stand outside a store).

    Columns of obs that `obs_schema` (name to dtype) has and obs has not are added; `shape` is noted for
    `declared_shape` where the collection is made here.
    """
    uri, ctx = normalise(uri), ctx_for_threads(ctx)
    columns = [
        Column(validate_column_name(column), type_of_dtype(dtype))
        for column, dtype in (obs_schema or {}).items()
        if column not in (SUBJECT, OBS_ID) and column not in OBS_CORE
    ]
    _ensure_collection(uri, name, ctx, shape, columns)
    if columns:
        Table(join(uri, OBS), ctx, OBS_CORE).add_columns(columns)
    return uri


def _ensure_collection(
    uri: str, name: str | None, ctx: tiledb.Ctx, shape: Sequence[int] | None, columns: Sequence[Column]
) -> None:
    if meta_if_group(uri, ctx)[0].get("format") is not None:
        check_format(uri, ctx, COLLECTION_FORMAT)
        return
    _refuse_foreign(uri, ctx, {OBS, VOLUMES})
    create_group(uri, ctx)
    create_group(join(uri, VOLUMES), ctx)
    _ensure_table(join(uri, OBS), (SUBJECT, OBS_ID), (*OBS_CORE.values(), *columns), ctx)
    if meta_if_group(uri, ctx)[0].get("format") is not None:
        return  # another process finished it meanwhile, and may have renamed it since
    created = now_ms()
    write_group_metadata(
        uri,
        {
            "format": COLLECTION_FORMAT,
            "format_version": FORMAT_VERSION,
            "created_ms": created,
            "name": name or last_part(uri),
            **({} if shape is None else {"shape": json.dumps([int(size) for size in shape])}),
        },
        ctx,
    )
    later = _after_snapshots(uri, created, ctx)
    if later is not None:
        write_group_metadata(uri, {"created_ms": later}, ctx)


def _after_snapshots(collection_uri: str, moment: int, ctx: tiledb.Ctx) -> int | None:
    """A moment after all snapshots, where one may be later than `moment` and yet not have seen it."""
    store, separator, _ = collection_uri.rpartition(f"/{COLLECTIONS}/")
    newest = newest_stamp(join(store, SNAPSHOTS), ctx) if separator else 0
    return max(newest + 1, now_ms()) if newest >= moment else None


def declared_shape(uri: str, ctx: tiledb.Ctx) -> tuple[int, ...] | None:
    """The shape that the collection at `uri` was made for, if one was given."""
    text = check_format(uri, ctx, COLLECTION_FORMAT).get("shape")
    return tuple(json.loads(text)) if text else None


def collection_name(uri: str, ctx: tiledb.Ctx) -> str:
    """The present name of the collection at `uri`."""
    return str(check_format(uri, ctx, COLLECTION_FORMAT).get("name", last_part(uri)))


def list_collections(store_uri: str, ctx: tiledb.Ctx, timestamp: int | None = None) -> list[CollectionEntry]:
    """Finished collections of a store, by name; with a `timestamp` (ms), those that were there then."""
    folder = join(store_uri, COLLECTIONS)
    found = []
    for directory in list_names(folder, ctx):
        if directory.startswith("__"):
            continue
        uri = join(folder, directory)
        meta = meta_if_group(uri, ctx)[0]
        if meta.get("format") != COLLECTION_FORMAT:
            continue
        if timestamp is not None and int(meta.get("created_ms", 0)) > timestamp:
            continue
        found.append(CollectionEntry(_name_at(meta, directory, timestamp), uri))
    return sorted(found, key=lambda entry: entry.name)


def _name_at(meta: dict[str, Any], directory: str, timestamp: int | None) -> str:
    name = str(meta.get("name", directory))
    if timestamp is None:
        return name
    renames = sorted(
        (int(key.partition(":")[2]), str(value)) for key, value in meta.items() if key.startswith("was:")
    )
    for until, old in renames:
        if timestamp < until:
            return old
    return name


def find_collection(store_uri: str, name: str, ctx: tiledb.Ctx, timestamp: int | None = None) -> str | None:
    """URI of the collection with this name, or None."""
    for entry in list_collections(store_uri, ctx, timestamp):
        if entry.name == name:
            return entry.uri
    return None


def ensure_collection(
    store_uri: str | os.PathLike[str],
    name: str,
    ctx: tiledb.Ctx | None = None,
    columns: Sequence[Column] = (),
) -> str:
    """URI of the collection `name`, which is created if it is not there yet; safe when raced.

    One that is created has the free `columns` in obs from the start: to add them at its first commit would
    take as long as to make the table.

    Raises
    ------
    StorageError
        If `store_uri` is not a store, or `name` cannot name a collection.
    """
    store_uri, ctx = normalise(store_uri), ctx_for_threads(ctx)
    validate_collection_name(name)
    check_format(store_uri, ctx, STORE_FORMAT)
    found = find_collection(store_uri, name, ctx)
    if found is not None:
        return found
    # The directory of that name may belong to a collection that was renamed since.
    for attempt in range(1000):
        uri = join(store_uri, COLLECTIONS, name if attempt == 0 else f"{name}.{attempt}")
        meta = meta_if_group(uri, ctx)[0]
        if meta.get("format") == COLLECTION_FORMAT and meta.get("name") != name:
            continue
        _ensure_collection(uri, name, ctx, None, columns)
        return uri
    raise StorageError(f"{store_uri}: too many collections were renamed from {name!r}")


def rename_collection(store_uri: str, old: str, new: str, ctx: tiledb.Ctx | None = None) -> None:
    """Give a collection another name: one metadata write, nothing moves; earlier states keep the old name."""
    store_uri, ctx = normalise(store_uri), ctx_for_threads(ctx)
    validate_collection_name(new)
    names = {entry.name: entry.uri for entry in list_collections(store_uri, ctx)}
    if old not in names:
        raise KeyError(f"collection {old!r} not found in {store_uri}; there are {', '.join(names) or 'none'}")
    if new in names:
        raise ValueError(f"a collection {new!r} already exists")
    moment = now_ms()
    write_group_metadata(names[old], {"name": new, f"was:{moment}": old}, ctx)
    later = _after_snapshots(names[old], moment, ctx)
    if later is not None:  # both marks say the same of every moment before
        write_group_metadata(names[old], {f"was:{later}": old}, ctx)
