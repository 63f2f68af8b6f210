"""Keeping a store small and quick: tables consolidated, and what no state names removed.

Both run while others read and write, and both may be killed or run twice at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import tiledb

from radiobject_assets.store.arrays.tile_cache import forget_array
from radiobject_assets.store.format.layout import (
    COLLECTION_FORMAT,
    STORE_FORMAT,
    Context,
    check_format,
    collection_place,
    reference,
    store_log,
)
from radiobject_assets.store.log.commit_log import Log, NoLogError, now_ms
from radiobject_assets.store.log.compaction import consolidate_tables
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.erasing import table_folders
from radiobject_assets.store.log.state import RowSegment, State
from radiobject_assets.store.log.table_reading import read_table
from radiobject_assets.store.log.vacuuming import (
    Kept,
    announce,
    kept_states,
    remove_unnamed,
    revoked_tokens,
    unnamed_segments,
)
from radiobject_assets.store.names import COLLECTIONS, OBS, VOLUMES
from radiobject_assets.store.storage.uris import child_names, join, normalise, tree_bytes

GRACE_S = 86_400.0


@dataclass(frozen=True)
class VacuumReport:
    """What `vacuum` removed."""

    arrays: int
    bytes: int
    """Of the arrays."""
    segments: int = 0
    """Files of rows that no state names."""
    states: int = 0
    """Manifests of earlier states; the newest hundred stay, though what they name may be gone."""


def consolidate(uri: str | os.PathLike[str], ctx: Context = None, more_than: int = 1) -> dict[str, int]:
    """Merge the segments of the tables of a store or collection; every earlier state stays readable.

    Tables with up to `more_than` segments are left alone. Returns the number of segments merged by table.
    """
    where = normalise(uri)
    try:
        log = store_log(where, ctx)
        names = None
        log.newest()
    except NoLogError:
        check_format(where, ctx, COLLECTION_FORMAT)
        place, _ = collection_place(where, ctx)
        log, names = store_log(place.root, ctx), [f"{place.folder}/{OBS}"]
    merged = consolidate_tables(log, names, more_than)
    return {join(log.uri, name): count for name, count in merged.items()}


def vacuum(store_uri: str | os.PathLike[str], ctx: Context = None, grace_s: float = GRACE_S) -> VacuumReport:
    """Remove what no state names: arrays that were replaced, deleted, or left behind by a writer that died,
    and earlier states without a name, with their segments.

    Kept are the present state, every named snapshot, the states of the last `grace_s` seconds (somebody may
    be reading them), and arrays younger than that (somebody may be writing them).
    """
    where = normalise(store_uri)
    check_format(where, ctx, STORE_FORMAT)
    log, context = store_log(where, ctx), reference(ctx).get()
    horizon = now_ms() - int(grace_s * 1000)
    found: list[tuple[Kept, dict[str, set[str]]]] = []
    # What attempts that were overtaken have read, and never changes.
    manifests: dict[int, State] = {}
    ages: dict[str, int] = {}
    named: dict[tuple[str, tuple[RowSegment, ...]], set[str]] = {}

    def announced(draft: Draft) -> None:
        kept = kept_states(log, draft.base, horizon, manifests)
        tokens = _unnamed_arrays(log, kept, horizon, context, ages, named)
        found[:] = [(kept, tokens)]
        if any(tokens.values()) or kept.floor > draft.base.floor or _has_left_overs(log, draft, kept):
            announce(draft, kept, (token for names in tokens.values() for token in names))

    state = log.commit("vacuum", announced)
    kept, tokens = found[0]
    arrays = size = 0
    for folder, names in tokens.items():
        for token in names:
            array_uri = join(where, folder, VOLUMES, token)
            size += tree_bytes(array_uri, context)
            forget_array(array_uri)
            log.storage.remove_tree(f"{folder}/{VOLUMES}/{token}")
            arrays += 1
    swept = remove_unnamed(log, state, kept, table_folders(log, state))
    for entry in log.storage.leftovers(max(grace_s, 3600.0)):
        log.storage.remove(entry.path)
    return VacuumReport(arrays, size, swept.segments, swept.manifests)


def _has_left_overs(log: Log, draft: Draft, kept: Kept) -> bool:
    named = kept.segments()
    draft_state = draft.base
    return any(
        unnamed_segments(log.storage, folder, named, draft_state.number + 1)
        for folder in table_folders(log, draft_state)
    )


def _unnamed_arrays(
    log: Log,
    kept: Kept,
    horizon: int,
    ctx: tiledb.Ctx,
    ages: dict[str, int],
    named: dict[tuple[str, tuple[RowSegment, ...]], set[str]],
) -> dict[str, set[str]]:
    """Tokens of arrays that no kept state names and that are older than a moment, by collection folder.

    Those that were revoked go at any age: they were to be removed by a process that was killed. `ages` (by
    token) and `named` (tokens that the rows of a table name) keep what was read.
    """
    revoked = revoked_tokens(log.storage, kept.states[0])
    folders = [entry.path.rstrip("/") for entry in log.storage.list(COLLECTIONS)]
    # Listed before the rows are read: what is committed in between has a name by then.
    there = {
        f: [e.path.rstrip("/").rpartition("/")[2] for e in log.storage.list(f"{f}/{VOLUMES}")]
        for f in folders
    }
    found: dict[str, set[str]] = {}
    for folder, tokens in there.items():
        name = f"{folder}/{OBS}"
        kept_tables = {t.segments: t for state in kept.states if (t := state.tables.get(name)) is not None}
        for segments, table in kept_tables.items():
            if (name, segments) not in named:
                rows = read_table(log.storage, name, table, ["volume"])
                named[name, segments] = set(rows.column("volume").to_pylist())
        needed = set[str]().union(*(named[name, segments] for segments in kept_tables))
        for token in tokens:
            if token in needed:
                continue
            if token not in ages:
                ages[token] = created_ms(join(log.uri, folder, VOLUMES, token), ctx)
            if token in revoked or ages[token] <= horizon:
                found.setdefault(folder, set()).add(token)
    return found


def created_ms(array_uri: str, ctx: tiledb.Ctx) -> int:
    """When an array was created, from the name of its schema; 0 where even that is missing."""
    stamps = [
        int(name.strip("_").split("_")[0])
        for name in child_names(join(array_uri, "__schema"), ctx)
        if name.strip("_").split("_")[0].isdigit()
    ]
    return min(stamps, default=0)
