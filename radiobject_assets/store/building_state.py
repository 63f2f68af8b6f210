"""Making a store or collection in one call: whole, or gone, or marked so that the same call completes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.deadline import DeadlineError, on_storage
from radiobject_assets.store.layout import ensure_store
from radiobject_assets.store.uris import join, remove_tree

_MARK = "__building"


@contextmanager
def building(uri: str, ctx: tiledb.Ctx, store: bool = False) -> Iterator[None]:
    """Make something new at `uri` inside the `with` block.

    Beside it lies a mark, `<uri>/__building`, until the block is done. After an error what was begun is
    removed; after a kill the mark stays, and only then may the same call work on what it finds there.

    Raises
    ------
    StorageError
        If something finished is at `uri` already.
    """
    vfs = tiledb.VFS(ctx=ctx)
    mark = join(uri, _MARK)
    there = on_storage("look at", uri, ctx, lambda: vfs.is_dir(uri) and bool(vfs.ls(uri)))
    marked = there and on_storage("look at", uri, ctx, lambda: vfs.is_file(mark))
    if there and not marked:
        raise StorageError(f"{uri} already exists: choose another place, or delete it first")
    if not marked:
        if "://" not in uri and not on_storage("look at", uri, ctx, lambda: vfs.is_dir(uri)):
            on_storage("create", uri, ctx, lambda: vfs.create_dir(uri))
        on_storage("create", uri, ctx, lambda: vfs.touch(mark))
    try:
        if store:
            ensure_store(uri, ctx)
        yield
    except DeadlineError:
        raise  # a removal would get no answer either; the mark lets the same call complete it
    except BaseException:
        remove_tree(uri, ctx)
        raise
    on_storage("finish", uri, ctx, lambda: vfs.remove_file(mark))
