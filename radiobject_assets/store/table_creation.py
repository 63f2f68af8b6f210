"""Making a table: an empty sparse array whose schema the store's other programs can rely on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.checksums import note_checksum
from radiobject_assets.store.columns import Column, table_filters
from radiobject_assets.store.context import ctx_for_small_objects
from radiobject_assets.store.deadline import DeadlineError, on_storage, storage_errors
from radiobject_assets.store.evolution import beside, evolve, remember_schema, schema_names
from radiobject_assets.store.table_cells import ROW_MARK
from radiobject_assets.store.uris import local_path, object_kind


def create_table(uri: str, index: Sequence[str], columns: Iterable[Column], ctx: tiledb.Ctx) -> None:
    """Create an empty table with string key columns `index`; fine if another writer was first."""
    columns, filters = (ROW_MARK, *columns), table_filters(ctx)
    dims = [
        # A bytes dimension holds UTF-8; TileDB's own string dimension is ASCII only.
        tiledb.Dim(name, domain=(None, None), tile=None, dtype=np.bytes_, filters=filters, ctx=ctx)
        for name in index
    ]
    # Else TileDB makes a context of its own for this thread, and a fork from another thread hangs over it.
    with tiledb.scope_ctx(ctx):
        schema = tiledb.ArraySchema(
            domain=tiledb.Domain(*dims, ctx=ctx),
            attrs=[column.to_attr(ctx, filters) for column in columns],
            sparse=True,
            allows_duplicates=False,
            capacity=10_000,
            offsets_filters=filters,
            validity_filters=filters,
            ctx=ctx,
        )
    folder = local_path(uri)
    writer = ctx_for_small_objects(ctx, uri, 0)
    if folder is None:
        try:
            # One object: it is there or it is not.
            on_storage("create the table", uri, ctx, lambda: tiledb.Array.create(uri, schema, ctx=writer))
            if len(schema_names(uri, ctx)) > 1:  # another one's may hide what was added to it since
                evolve(uri, ctx, {column.attribute: column for column in columns if not column.free})
        except DeadlineError:
            raise
        except StorageError:
            if object_kind(uri, ctx) != "array":  # else another writer was first
                raise
        return
    # TileDB makes an array's folders one by one: who dies in between leaves something that looks like an
    # array and cannot be opened. So it is made beside its place and moved there in one step.
    with storage_errors("create the table", uri), beside(folder) as aside:
        try:
            tiledb.Array.create(str(aside), schema, ctx=ctx)
            for made in schema_names(str(aside), ctx):
                note_checksum(aside, f"__schema/{made}")
                remember_schema(uri, made, (column.attribute for column in columns))
            os.rename(aside, folder)
        except OSError:
            if not folder.is_dir():  # else another writer was first
                raise
