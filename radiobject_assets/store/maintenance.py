"""Keeping a store small and quick: tables consolidated, arrays that nothing names removed.

Both run while others read and write. Readers that opened a table before it was vacuumed reopen it at their
moment; arrays stay for a day after they lost their name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

import tiledb

from radiobject_assets.store.arrays.tile_cache import forget_array
from radiobject_assets.store.consolidation import consolidate_table
from radiobject_assets.store.context import ctx_for_threads
from radiobject_assets.store.evolution import UNFINISHED
from radiobject_assets.store.groups import group_metadata
from radiobject_assets.store.layout import (
    COLLECTION_FORMAT,
    COLLECTIONS,
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
from radiobject_assets.store.pins import settle
from radiobject_assets.store.snapshots import list_snapshots
from radiobject_assets.store.table import Table, now_ms
from radiobject_assets.store.uris import (
    join,
    list_names,
    local_path,
    normalise,
    remove_tree,
    tree_bytes,
)

_log = logging.getLogger(__name__)

GRACE_S = 86_400.0


@dataclass(frozen=True)
class VacuumReport:
    """What `vacuum` removed."""

    arrays: int
    bytes: int
    unfinished_tables: int = 0
    """Tables whose creation was interrupted, beside the place they were meant for."""


def _tables(uri: str, ctx: tiledb.Ctx) -> Iterator[Table]:
    """The tables of a store or of a collection."""
    if group_metadata(uri, ctx).get("format") == COLLECTION_FORMAT:
        yield Table(join(uri, OBS), ctx, OBS_CORE)
        return
    check_format(uri, ctx, STORE_FORMAT)
    yield Table(join(uri, OBS_META), ctx)
    yield Table(join(uri, SNAPSHOTS), ctx, SNAPSHOT_CORE)
    for entry in list_collections(uri, ctx):
        yield Table(join(entry.uri, OBS), ctx, OBS_CORE)


def consolidate(
    uri: str | os.PathLike[str], ctx: tiledb.Ctx | None = None, more_than: int = 1
) -> dict[str, int]:
    """Merge the fragments of the tables of a store or collection; every earlier moment stays readable.

    Tables with up to `more_than` fragments are left alone. Returns the number of fragments merged by table.
    Repairs what writers left that died at a bad moment: commits that landed in a snapshot after it was made,
    and columns that two of them added at once.
    """
    uri, ctx = normalise(uri), ctx_for_threads(ctx)
    merged = {}
    for table in _tables(uri, ctx):
        settle(table.uri, ctx)
        table.repair_columns()
        count = table.fragment_count()
        if count > max(1, more_than):
            consolidate_table(table.uri, ctx)
            merged[table.uri] = count
    return merged


def vacuum(
    store_uri: str | os.PathLike[str], ctx: tiledb.Ctx | None = None, grace_s: float = GRACE_S
) -> VacuumReport:
    """Remove arrays that no row names: replaced, deleted, or left behind by a writer that died.

    Kept are the arrays of the present state, of every named snapshot, of the state `grace_s` seconds ago
    (somebody may be reading it), and arrays younger than that (somebody may be writing them).
    """
    store_uri, ctx = normalise(store_uri), ctx_for_threads(ctx)
    check_format(store_uri, ctx, STORE_FORMAT)
    horizon = now_ms() - int(grace_s * 1000)
    moments: list[int | None] = [None, horizon, *(s.timestamp_ms for s in list_snapshots(store_uri, ctx))]
    arrays = size = 0
    for entry in list_collections(store_uri, ctx):
        # Listed before the rows are read: what is committed in between has a name by then.
        tokens = [t for t in list_names(join(entry.uri, VOLUMES), ctx) if not t.startswith("__")]
        named = {t for moment in moments for t in named_tokens(entry.uri, ctx, moment)}
        for token in tokens:
            array_uri = join(entry.uri, VOLUMES, token)
            if token in named or created_ms(array_uri, ctx) > horizon:
                continue
            size += tree_bytes(array_uri, ctx)
            forget_array(array_uri)
            remove_tree(array_uri, ctx)
            arrays += 1
    folders = [store_uri, join(store_uri, COLLECTIONS)]
    folders += [join(folders[1], name) for name in list_names(folders[1], ctx) if not name.startswith("__")]
    unfinished = sum(_remove_unfinished_tables(folder, horizon, ctx) for folder in folders)
    return VacuumReport(arrays, size, unfinished)


def _remove_unfinished_tables(folder: str, horizon: int, ctx: tiledb.Ctx) -> int:
    """Remove what `create_table` left when it was killed; on S3 it leaves nothing."""
    local = local_path(folder)
    if local is None:
        return 0
    old = [path for path in local.glob(f"{UNFINISHED}*") if path.stat().st_mtime * 1000 <= horizon]
    for path in old:
        remove_tree(str(path), ctx)
    return len(old)


def named_tokens(collection_uri: str, ctx: tiledb.Ctx, timestamp: int | None = None) -> set[str]:
    """Tokens of the arrays that the rows of a collection name, now or at an earlier moment."""
    rows = Table(join(collection_uri, OBS), ctx, OBS_CORE, timestamp).read(["volume"])
    return set(rows.column("volume").to_pylist())


def created_ms(array_uri: str, ctx: tiledb.Ctx) -> int:
    """When an array was created, from the name of its schema; 0 where even that is missing."""
    stamps = [
        int(name.strip("_").split("_")[0])
        for name in list_names(join(array_uri, "__schema"), ctx)
        if name.strip("_").split("_")[0].isdigit()
    ]
    return min(stamps, default=0)
