"""Removing subjects for good: voxels and rows, from the present and from every snapshot, and proving it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

import tiledb

from radiobject_assets.errors import RadiObjectError
from radiobject_assets.store.arrays.handles import open_array
from radiobject_assets.store.arrays.tile_cache import forget_array
from radiobject_assets.store.arrays.tiledb_array import read_meta
from radiobject_assets.store.format.layout import STORE_FORMAT, Context, check_format, reference, store_log
from radiobject_assets.store.log.commit_log import Log
from radiobject_assets.store.log.erasing import (
    Found,
    Search,
    Tokens,
    erase_rows,
    prove_absent,
    remove_erased,
)
from radiobject_assets.store.log.state import State
from radiobject_assets.store.log.vacuuming import revoked_tokens
from radiobject_assets.store.names import COLLECTIONS, VOLUMES
from radiobject_assets.store.storage import MissingError, open_storage
from radiobject_assets.store.storage.errors import storage_errors
from radiobject_assets.store.storage.uris import child_names, join, normalise, object_kind


@dataclass(frozen=True)
class DeletionReport:
    """What `delete_subjects` removed, and what it looked through afterwards."""

    subjects: int
    arrays: int
    files_searched: int


def delete_subjects(
    store_uri: str | os.PathLike[str], ids: Iterable[str], ctx: Context = None
) -> DeletionReport:
    """Remove subjects with all their volumes physically, from the present and from every earlier moment.

    Digests and counts of named snapshots are brought up to date: they no longer have these subjects.
    Other subjects keep their history. The same call again completes an interrupted deletion.

    Raises
    ------
    StorageError
        If one of them is still found in a file of the store's tables afterwards.
    """
    where, wanted = normalise(store_uri), set(ids)
    check_format(where, ctx, STORE_FORMAT)
    if not wanted:
        return DeletionReport(0, 0, 0)
    log, context = store_log(where, ctx), reference(ctx).get()
    owners: dict[str, str | None] = {}

    def unnamed(state: State, found: Found) -> Tokens:
        return _unnamed_arrays(log, state, found.named, wanted, owners, context)

    # Rows first: nobody may be led to an array that is being removed.
    state, found = erase_rows(log, wanted, unnamed)
    for folder, tokens in found.tokens.items():
        for token in tokens:
            forget_array(join(where, folder, VOLUMES, token))
            log.storage.remove_tree(f"{folder}/{VOLUMES}/{token}")
    remove_erased(log, found, wanted)
    searched = prove_absent(log, wanted, state)
    return DeletionReport(len(wanted), sum(map(len, found.tokens.values())), searched)


def subjects_in_files(store_uri: str | os.PathLike[str], ctx: Context = None) -> frozenset[str]:
    """Ids of everybody whose rows or voxels are in any file of a store, whatever state it belongs to.

    Who was being deleted when the process was killed may be in no row any more and still be in here.
    """
    where = normalise(store_uri)
    state = check_format(where, ctx, STORE_FORMAT)
    log, context = store_log(where, ctx), reference(ctx).get()
    search = Search(log, ())
    found = search.run(state)
    owners: dict[str, str | None] = {}
    _unnamed_arrays(log, state, found.named, set(), owners, context)
    return frozenset({*search.subjects, *(owner for owner in owners.values() if owner)} - {_UNREADABLE})


def arrays_of_subjects(
    store_uri: str | os.PathLike[str], ids: Iterable[str], ctx: Context = None
) -> frozenset[str]:
    """Tokens of all arrays of these subjects that any file of a store knows, whatever state it belongs to."""
    where, wanted = normalise(store_uri), set(ids)
    state = check_format(where, ctx, STORE_FORMAT)
    if not wanted:
        return frozenset()
    log, context = store_log(where, ctx), reference(ctx).get()
    found = Search(log, wanted).run(state)
    unnamed = _unnamed_arrays(log, state, found.named, wanted, {}, context)
    return frozenset(token for of in (found.tokens, unnamed) for tokens in of.values() for token in tokens)


def _unnamed_arrays(
    log: Log, state: State, named: Tokens, ids: set[str], owners: dict[str, str | None], ctx: tiledb.Ctx
) -> Tokens:
    """Arrays of these subjects that no row of any state names: the array itself says whose it is.

    One that says nothing, because its writer was killed in the middle of saying it, may be theirs and goes.
    """
    found: Tokens = {}
    revoked = revoked_tokens(log.storage, state)  # perhaps half removed by a call that was killed
    for entry in log.storage.list(COLLECTIONS):
        folder = entry.path.rstrip("/")
        for array in log.storage.list(f"{folder}/{VOLUMES}"):
            token = array.path.rstrip("/").rpartition("/")[2]
            if token in named.get(folder, ()):
                continue
            if owners.get(token) is None:
                owners[token] = _owner(join(log.uri, folder, VOLUMES, token), ctx)
            if owners[token] in {*ids, _UNREADABLE} or token in revoked:
                found.setdefault(folder, set()).add(token)
    return found


# No id: ids have no control characters.
_UNREADABLE = "\0"
_LOOKS, _BETWEEN_LOOKS_S = 5, 0.2


def _owner(uri: str, ctx: tiledb.Ctx) -> str | None:
    """Whose voxels an array has; None where it has none yet, `_UNREADABLE` where its files don't say it.

    A living writer's file is whole after a moment, one that was cut off by a kill never.
    """
    for look in range(_LOOKS):
        try:
            if object_kind(uri, ctx) != "array":
                return None
            with storage_errors("look at", uri, ctx), open_array(uri, ctx, voxels=False) as array:
                owner = read_meta(array).get("obs_subject_id")
            return None if owner is None else str(owner)
        except (RadiObjectError, tiledb.TileDBError, ValueError):
            if object_kind(uri, ctx) != "array" or not child_names(join(uri, "__meta"), ctx):
                return None  # begun, or being removed
            # What storage refuses is an error here. What it gives and TileDB does not understand is cut off.
            _read_through(uri, ctx)
        finally:
            forget_array(uri)
        if look + 1 < _LOOKS:
            time.sleep(_BETWEEN_LOOKS_S)
    return _UNREADABLE


def _read_through(uri: str, ctx: tiledb.Ctx) -> None:
    storage = open_storage(uri, ctx)
    with contextlib.suppress(MissingError):  # being removed
        for part in ("__schema", "__meta"):
            for entry in storage.list(part, recursive=True):
                storage.read(entry.path)
