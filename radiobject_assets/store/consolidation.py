"""Merging the fragments of one table; every earlier moment stays readable."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.checksums import check_small_files, drop_old_notes, note_fragments
from radiobject_assets.store.deadline import on_storage
from radiobject_assets.store.evolution import one_at_a_time
from radiobject_assets.store.patience import while_tidied
from radiobject_assets.store.pins import settle
from radiobject_assets.store.table import Table
from radiobject_assets.store.uris import join, list_names

KEEP_FRAGMENTS = 32


@contextmanager
def only_tidier(table_uri: str) -> Iterator[None]:
    """On local disks, let no other process merge the fragments of this table meanwhile."""
    with one_at_a_time(join(table_uri, "__commits")):
        yield


def consolidate_table(table_uri: str, ctx: tiledb.Ctx) -> None:
    """Merge the fragments of one table into one, and remove those that were merged."""
    with only_tidier(table_uri):
        merge_fragments(table_uri, ctx)


def merge_fragments(table_uri: str, ctx: tiledb.Ctx, purge: bool = False) -> None:
    """`consolidate_table` for a caller that is the `only_tidier`.

    With `purge`, deleted rows leave the disk, from earlier moments too.
    """
    settings = dict(ctx.config().dict())
    settings["sm.consolidation.mode"] = "fragments"
    settings["sm.consolidation.purge_deleted_cells"] = "true" if purge else "false"
    config = tiledb.Config(settings)

    def merge() -> None:
        settle(table_uri, ctx)
        check_small_files(table_uri)
        before = _fragments(table_uri, ctx)
        # What lands from here on is left to the next time: it may be late for a snapshot.
        uris = None if purge else [join(table_uri, "__fragments", name) for name in before]
        if uris is not None and len(uris) < 2:
            return
        try:
            tiledb.consolidate(table_uri, config=config, ctx=ctx, fragment_uris=uris)
        except tiledb.TileDBError as error:
            if not purge or "read 0 cells" not in str(error):
                raise
            # Every row that there ever was is deleted: TileDB cannot write an empty fragment. Its own
            # `delete_fragments` refuses where anybody in this process has the table open.
            _remove_fragments(table_uri, before, ctx)
        settings["sm.vacuum.mode"] = "fragments"
        tiledb.vacuum(table_uri, config=tiledb.Config(settings), ctx=ctx)
        note_fragments(table_uri, set(_fragments(table_uri, ctx)) - set(before))
        drop_old_notes(table_uri)

    # Writers that add fragments and columns meanwhile make TileDB fail in several ways; to repeat it is safe.
    merging = partial(on_storage, "consolidate", table_uri, ctx, merge, holds_lock=True)
    while_tidied(merging, whatever=True)


def _fragments(table_uri: str, ctx: tiledb.Ctx) -> list[str]:
    return [name[:-4] for name in list_names(join(table_uri, "__commits"), ctx) if name.endswith(".wrt")]


def _remove_fragments(table_uri: str, names: list[str], ctx: tiledb.Ctx) -> None:
    vfs = tiledb.VFS(ctx=ctx)
    for name in names:  # without its commit file nobody sees a fragment
        vfs.remove_file(join(table_uri, "__commits", f"{name}.wrt"))
    for name in names:
        vfs.remove_dir(join(table_uri, "__fragments", name))


def consolidate_if_many(table_uri: str, ctx: tiledb.Ctx) -> None:
    """Consolidate a table that has gathered many fragments; a failure is left to the next one to try."""
    with contextlib.suppress(StorageError):
        if Table(table_uri, ctx).fragment_count() > KEEP_FRAGMENTS:
            consolidate_table(table_uri, ctx)
