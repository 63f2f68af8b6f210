"""TileDB groups: folders that carry metadata, which appears whole or not at all."""

from __future__ import annotations

from functools import partial
from typing import Any

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.checksums import check_small_files
from radiobject_assets.store.context import ctx_for_small_objects
from radiobject_assets.store.deadline import DeadlineError, on_storage, storage_errors
from radiobject_assets.store.scratch import publish, scratch
from radiobject_assets.store.uris import local_path, object_kind


def group_metadata(uri: str, ctx: tiledb.Ctx) -> dict[str, Any]:
    """The metadata of the group at `uri`."""

    def read() -> dict[str, Any]:
        with tiledb.Group(uri, "r", ctx=ctx) as group:
            return dict(group.meta.items())

    check_small_files(uri)
    return on_storage("open", uri, ctx, read, holds_lock=True)


def write_group_metadata(uri: str, values: dict[str, Any], ctx: tiledb.Ctx) -> None:
    """Set keys of the metadata of the group at `uri`; others stay."""

    small = ctx_for_small_objects(ctx, uri, 0)

    def write(target: str) -> None:
        with tiledb.Group(target, "w", ctx=small) as group:
            for key, value in values.items():
                group.meta[key] = value

    folder = local_path(uri)
    if folder is None:
        on_storage("write the metadata of", uri, ctx, partial(write, uri), holds_lock=True)
        return
    with storage_errors("write the metadata of", uri), scratch() as aside:
        tiledb.Group.create(str(aside / "group"), ctx=ctx)
        write(str(aside / "group"))
        (folder / "__meta").mkdir(exist_ok=True)
        for made in (aside / "group" / "__meta").iterdir():
            publish(folder, f"__meta/{made.name}", made.read_bytes())


def create_group(uri: str, ctx: tiledb.Ctx) -> None:
    """Create an empty group at `uri`; fine if it is there already, or another writer was first."""
    if object_kind(uri, ctx) == "group":
        return
    small = ctx_for_small_objects(ctx, uri, 0)
    try:
        on_storage("create", uri, ctx, lambda: tiledb.Group.create(uri, ctx=small), holds_lock=True)
    except DeadlineError:
        raise
    except StorageError:
        if object_kind(uri, ctx) != "group":  # else another writer was first
            raise


def meta_if_group(uri: str, ctx: tiledb.Ctx) -> tuple[dict[str, Any], str | None]:
    """Metadata of the group at `uri`, and what is there; looks closer only where it is no group."""
    try:
        return group_metadata(uri, ctx), "group"
    except DeadlineError:
        raise
    except StorageError:
        found = object_kind(uri, ctx)
        # Another process may have made it between the two looks.
        return (group_metadata(uri, ctx) if found == "group" else {}), found
