"""Removing subjects for good: voxels and rows, from the present and from every snapshot, and proving it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.arrays.handles import open_array
from radiobject_assets.store.arrays.tile_cache import forget_array
from radiobject_assets.store.arrays.tiledb_array import read_meta
from radiobject_assets.store.columns import Column
from radiobject_assets.store.consolidation import merge_fragments, only_tidier
from radiobject_assets.store.context import ctx_for_threads
from radiobject_assets.store.deadline import on_storage, storage_errors
from radiobject_assets.store.layout import (
    OBS,
    OBS_CORE,
    OBS_META,
    SNAPSHOT_CORE,
    SNAPSHOTS,
    STORE_FORMAT,
    VOLUMES,
    check_format,
    list_collections,
)
from radiobject_assets.store.pins import PINNED
from radiobject_assets.store.snapshots import describe_state, list_snapshots, pins_of
from radiobject_assets.store.table import Table, now_ms
from radiobject_assets.store.uris import join, list_names, normalise, object_kind, remove_tree, walk_files


@dataclass(frozen=True)
class DeletionReport:
    """What `delete_subjects` removed, and what it looked through afterwards."""

    subjects: int
    arrays: int
    files_searched: int


def delete_subjects(
    store_uri: str | os.PathLike[str], ids: Iterable[str], ctx: tiledb.Ctx | None = None
) -> DeletionReport:
    """Remove subjects with all their volumes physically, from the present and from every earlier moment.

    Digests and counts of named snapshots are brought up to date: they no longer have these subjects.
    Other subjects keep their history. The same call again completes an interrupted deletion.

    Raises
    ------
    StorageError
        If an id is still found in a file of the store's tables afterwards.
    """
    store_uri, ctx = normalise(store_uri), ctx_for_threads(ctx)
    check_format(store_uri, ctx, STORE_FORMAT)
    wanted = sorted(set(ids))
    if not wanted:
        return DeletionReport(0, 0, 0)
    moments = [s.timestamp_ms for s in list_snapshots(store_uri, ctx)]
    arrays = 0
    tables: list[tuple[str, Mapping[str, Column]]] = [(join(store_uri, OBS_META), {})]
    for entry in list_collections(store_uri, ctx):
        # Rows first: nobody may be led to an array that is being removed.
        table_uri = join(entry.uri, OBS)
        tokens = _tokens_of(table_uri, wanted, [None, *moments], ctx)
        _purge_rows(table_uri, OBS_CORE, wanted, moments, ctx)
        tokens |= _unnamed_tokens_of(entry.uri, set(wanted), ctx)
        for token in tokens:
            array_uri = join(entry.uri, VOLUMES, token)
            forget_array(array_uri)
            remove_tree(array_uri, ctx)
        arrays += len(tokens)
        tables.append((table_uri, OBS_CORE))
    _purge_rows(join(store_uri, OBS_META), {}, wanted, moments, ctx)
    _refresh_snapshots(store_uri, ctx)
    searched = sum(_prove_absent(uri, core, wanted, ctx) for uri, core in tables)
    return DeletionReport(len(wanted), arrays, searched)


def _tokens_of(
    table_uri: str, ids: Sequence[str], moments: Sequence[int | None], ctx: tiledb.Ctx
) -> set[str]:
    tokens: set[str] = set()
    for moment in moments:
        rows = Table(table_uri, ctx, OBS_CORE, moment).read(["volume"], keys=[ids])
        tokens |= set(rows.column("volume").to_pylist())
    return tokens


def _unnamed_tokens_of(collection_uri: str, ids: set[str], ctx: tiledb.Ctx) -> set[str]:
    """Arrays of these subjects that no present row names: the array itself says whose it is."""
    named = set(Table(join(collection_uri, OBS), ctx, OBS_CORE).read(["volume"]).column("volume").to_pylist())
    found = set()
    for token in list_names(join(collection_uri, VOLUMES), ctx):
        if token.startswith("__") or token in named:
            continue
        uri = join(collection_uri, VOLUMES, token)
        if object_kind(uri, ctx) != "array":
            continue
        with storage_errors("look at", uri, ctx), open_array(uri, ctx) as array:
            owner = read_meta(array).get("obs_subject_id")
        forget_array(uri)
        if owner in ids:
            found.add(token)
    return found


def _purge_rows(
    table_uri: str,
    core: Mapping[str, Column],
    ids: Sequence[str],
    moments: Sequence[int],
    ctx: tiledb.Ctx,
) -> None:
    """Delete rows for good. Nobody may merge fragments meanwhile: that would bring back what is purged."""
    with only_tidier(table_uri):
        _purge_alone(table_uri, core, ids, moments, ctx)


def _purge_alone(
    table_uri: str, core: Mapping[str, Column], ids: Sequence[str], moments: Sequence[int], ctx: tiledb.Ctx
) -> None:
    table = Table(table_uri, ctx, core)
    if not table.fragment_count():
        return
    mine = table.read(keys=[ids])
    if mine.num_rows == 0 and not any(
        Table(table_uri, ctx, core, moment).read([], keys=[ids]).num_rows for moment in moments
    ):
        again = _delete_files(table_uri, ctx)
        if not again:
            return
    # TileDB purges deleted cells only when it merges two fragments or more; rewriting a row that is about
    # to be deleted (or one that stays) makes sure that there are two, and shows nobody anything new.
    others = table.read() if mine.num_rows == 0 else mine
    if others.num_rows:
        table.upsert(others.slice(0, 1))
    table.delete([(subject,) for subject in ids])
    merge_fragments(table_uri, ctx, purge=True)
    # The delete conditions spell out the ids. All that they applied to is gone, so they can go as well.
    vfs = tiledb.VFS(ctx=ctx)
    for name in _delete_files(table_uri, ctx):
        remove = partial(vfs.remove_file, join(table_uri, "__commits", name))
        on_storage("remove a delete condition of", table_uri, ctx, remove)


def _delete_files(table_uri: str, ctx: tiledb.Ctx) -> list[str]:
    return [name for name in list_names(join(table_uri, "__commits"), ctx) if name.endswith(".del")]


def _refresh_snapshots(store_uri: str, ctx: tiledb.Ctx) -> None:
    snapshots = list_snapshots(store_uri, ctx)
    if not snapshots:
        return
    states = [describe_state(store_uri, s.timestamp_ms, ctx) for s in snapshots]
    table = Table(join(store_uri, SNAPSHOTS), ctx, SNAPSHOT_CORE)
    rows = table.read(keys=[[s.name for s in snapshots]])
    by_name = {s.name: state for s, state in zip(snapshots, states, strict=True)}
    names = rows.column("name").to_pylist()
    counts = [json.dumps(by_name[name][0], ensure_ascii=False) for name in names]
    rows = rows.set_column(rows.column_names.index("counts"), "counts", pa.array(counts, pa.large_string()))
    digests = pa.array([by_name[name][1] for name in names], pa.large_string())
    rows = rows.set_column(rows.column_names.index("digest"), "digest", digests)
    if PINNED in rows.column_names:
        pins = [pins_of(store_uri, moment, ctx) for moment in rows.column("timestamp_ms").to_pylist()]
        rows = rows.set_column(rows.column_names.index(PINNED), PINNED, pa.array(pins, pa.large_string()))
    table.upsert(rows)


def _prove_absent(table_uri: str, core: Mapping[str, Column], ids: Sequence[str], ctx: tiledb.Ctx) -> int:
    """Search every file of a table for the ids, and ask it at every moment; returns the files searched.

    Raises
    ------
    StorageError
        Where one is found. The message does not repeat it.
    """
    if Table(table_uri, ctx, core).read([], keys=[ids]).num_rows:
        raise StorageError(f"{table_uri} still has rows of subjects that were deleted")
    listing = partial(tiledb.array_fragments, table_uri, ctx=ctx)
    fragments = on_storage("list fragments of", table_uri, ctx, listing, holds_lock=True)
    for first, last in fragments.timestamp_range if len(fragments) else ():
        for moment in {int(first), int(last), now_ms()}:
            if Table(table_uri, ctx, core, moment).read([], keys=[ids]).num_rows:
                raise StorageError(f"{table_uri} still shows deleted subjects at the moment {moment}")
    vfs = tiledb.VFS(ctx=ctx)
    needles = [subject.encode() for subject in ids if len(subject) >= 4]
    count = 0

    def content(path: str) -> bytes | None:
        if vfs.is_dir(path):
            return None
        with vfs.open(path, "rb") as file:
            return bytes(file.read())

    for path, size in walk_files(table_uri, ctx):
        found = on_storage("search", path, ctx, partial(content, path), nbytes=size)
        if found is None:
            continue
        count += 1
        if any(needle in found for needle in needles):
            raise StorageError(f"the file {path} still contains an id of a deleted subject")
    return count
