"""Rows and arrays compared by their names alone: nothing of an array is opened."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq

from radiobject_assets.errors import StorageError
from radiobject_assets.store.format.layout import (
    STORE_FORMAT,
    Context,
    check_format,
    list_collections,
    reference,
)
from radiobject_assets.store.format.maintenance import created_ms
from radiobject_assets.store.format.obs_table import obs_table
from radiobject_assets.store.log.commit_log import now_ms
from radiobject_assets.store.names import OBS, VOLUMES
from radiobject_assets.store.storage import DeadlineError, MissingError, Storage, open_storage
from radiobject_assets.store.storage.uris import join, normalise
from radiobject_assets.store.tables.table import Table


def rows_without_arrays(uri: str | os.PathLike[str], ctx: Context = None) -> dict[str, set[str]]:
    """Tokens that rows of the present state name and that no array has, by collection.

    Raises
    ------
    StorageError
        There is no store, or its tables are damaged.
    """
    found = {}
    for entry in list_collections(_checked(uri, ctx), ctx):
        named = set(obs_table(entry.uri, ctx).read(["volume"]).column("volume").to_pylist())
        found[entry.name] = named - _arrays(open_storage(entry.uri, reference(ctx)))
    return found


def snapshots_without_arrays(
    uri: str | os.PathLike[str], ctx: Context = None
) -> dict[str, dict[str, set[str]]]:
    """Tokens that rows of snapshots name and that no array has: by snapshot, and by collection of then.

    Snapshots whose tables can't be read are left out: `verify_tables` says which file it is.

    Raises
    ------
    StorageError
        There is no store, or its present state can't be read.
    """
    where = normalise(uri)
    state = check_format(where, ctx, STORE_FORMAT)
    there: dict[str, set[str]] = {}
    found: dict[str, dict[str, set[str]]] = {}
    for snapshot in state.snapshots:
        try:
            for entry in list_collections(where, ctx, snapshot):
                if entry.uri not in there:
                    there[entry.uri] = _arrays(open_storage(entry.uri, reference(ctx)))
                table = Table(join(entry.uri, OBS), ctx, snapshot)
                lost = set(table.read(["volume"]).column("volume").to_pylist()) - there[entry.uri]
                if lost:
                    found.setdefault(snapshot, {})[entry.name] = lost
        except DeadlineError:
            raise
        except StorageError:
            found.pop(snapshot, None)
    return found


def arrays_without_rows(
    uri: str | os.PathLike[str], ctx: Context = None, grace_s: float = 3600.0
) -> dict[str, set[str]]:
    """Tokens of arrays that no row has ever named, by collection: what writers that died left behind.

    Arrays that were replaced or deleted are named by earlier segments, as long as these are there; they wait
    for `vacuum` and are not meant. Nor are arrays younger than `grace_s` seconds: somebody may be writing
    them.
    """
    horizon, context = now_ms() - int(grace_s * 1000), reference(ctx).get()
    found = {}
    for entry in list_collections(_checked(uri, ctx), ctx):
        storage = open_storage(entry.uri, reference(ctx))
        there = _arrays(storage)  # before the rows: what is committed in between has a name by then
        unnamed = there - _ever_named(storage)
        found[entry.name] = {
            token for token in unnamed if created_ms(join(entry.uri, VOLUMES, token), context) <= horizon
        }
    return found


def _checked(uri: str | os.PathLike[str], ctx: Context) -> str:
    where = normalise(uri)
    check_format(where, ctx, STORE_FORMAT)
    return where


def _arrays(storage: Storage) -> set[str]:
    return {entry.path.rstrip("/").rpartition("/")[2] for entry in storage.list(VOLUMES)}


def _ever_named(storage: Storage) -> set[str]:
    named: set[str] = set()
    for entry in storage.list(OBS):
        if not entry.path.endswith(".parquet"):
            continue
        try:
            file = pq.ParquetFile(pa.BufferReader(storage.read(entry.path)))
        except (MissingError, pa.ArrowException):
            continue  # consolidated meanwhile; or damaged, which `verify_tables` tells
        if "volume" in file.schema_arrow.names:
            named.update(file.read(columns=["volume"], use_threads=False).column("volume").to_pylist())
    return named
