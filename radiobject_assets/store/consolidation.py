"""Merging the fragments of one table; every earlier moment stays readable."""

from __future__ import annotations

import contextlib

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.deadline import on_storage
from radiobject_assets.store.table import Table, now_ms

KEEP_FRAGMENTS = 32


def consolidate_table(table_uri: str, ctx: tiledb.Ctx, purge: bool = False) -> None:
    """Merge the fragments of one table into one, and remove those that were merged.

    With `purge`, deleted rows leave the disk, from earlier moments too.
    """
    settings = dict(ctx.config().dict())
    settings["sm.consolidation.mode"] = "fragments"
    settings["sm.consolidation.purge_deleted_cells"] = "true" if purge else "false"
    config = tiledb.Config(settings)

    def merge() -> None:
        before = now_ms()
        try:
            tiledb.consolidate(table_uri, config=config, ctx=ctx)
        except tiledb.TileDBError as error:
            if not purge or "read 0 cells" not in str(error):
                raise
            # Every row that there ever was is deleted: TileDB cannot write an empty fragment.
            tiledb.Array.delete_fragments(table_uri, 0, before, ctx=ctx)
        settings["sm.vacuum.mode"] = "fragments"
        tiledb.vacuum(table_uri, config=tiledb.Config(settings), ctx=ctx)

    on_storage("consolidate", table_uri, ctx, merge, holds_lock=True)


def consolidate_if_many(table_uri: str, ctx: tiledb.Ctx) -> None:
    """Consolidate a table that has gathered many fragments; a failure is left to the next one to try."""
    with contextlib.suppress(StorageError):
        if Table(table_uri, ctx).fragment_count() > KEEP_FRAGMENTS:
            consolidate_table(table_uri, ctx)
