"""URIs of stores: local paths, file:// and s3://; joining, checking, listing, deleting."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Literal

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.storage import open_storage
from radiobject_assets.store.storage.context import ctx_for_threads

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")


def normalise(uri: str | os.PathLike[str]) -> str:
    """The URI as it is kept: local paths made absolute (objects travel between processes), no final slash."""
    text = os.fspath(uri)
    if not text:
        raise StorageError("an empty URI: give a local path, file:// or s3:// URI")
    if "://" not in text:
        return str(Path(text).absolute())
    return text.rstrip("/")


def local_path(uri: str) -> Path | None:
    """The path of a local URI, which TileDB takes as it is written; None for S3 and other remote ones."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri)


def join(uri: str, *parts: str) -> str:
    """`uri` with path parts appended."""
    return "/".join([uri.rstrip("/"), *parts])


def last_part(uri: str) -> str:
    """The last path part of a URI."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def validate_collection_name(name: str) -> str:
    """`name` if it may name a collection.

    Raises
    ------
    StorageError
        Unless it is 1-100 ASCII letters, digits, `_`, `-` or `.` beginning with a letter or digit: names are
        parts of paths, so nothing that a file name or a patient could smuggle in is allowed. `subjects` is
        what snapshots count beside collections.
    """
    if name == "subjects":
        raise StorageError("collection name 'subjects' is kept for the count of subjects: choose another")
    if not _NAME.fullmatch(name):
        raise StorageError(
            f"collection name {name!r}: use 1-100 ASCII letters, digits, '_', '-' or '.', "
            "beginning with a letter or digit"
        )
    return name


def new_token() -> str:
    """A name for a new array: 128 random bits, so that no two writers ever choose the same."""
    return secrets.token_hex(16)


def object_kind(uri: str, ctx: tiledb.Ctx) -> Literal["array", "group"] | None:
    """What TileDB object is at `uri`, told by one listing."""
    names = {entry.path for entry in open_storage(uri, ctx).list()}
    if "__schema/" in names:
        return "array"
    return "group" if names & {"__group/", "__tiledb_group.tdb"} else None


def uri_exists(uri: str, ctx: tiledb.Ctx | None = None) -> bool:
    """Whether a TileDB array or group is at `uri`."""
    return object_kind(normalise(uri), ctx_for_threads(ctx)) is not None


def delete_tiledb_uri(uri: str, ctx: tiledb.Ctx | None = None) -> None:
    """Delete a TileDB array or group with all that is in it; nothing happens where there is none.

    Raises
    ------
    StorageError
        Where something that is not TileDB's is at `uri`: it is left alone.
    """
    uri, ctx = normalise(uri), ctx_for_threads(ctx)
    storage = open_storage(uri, ctx)
    if object_kind(uri, ctx) is not None:
        storage.remove_tree("")
    elif storage.list() or _is_file(uri, ctx):
        raise StorageError(f"{uri} is not a TileDB array or group: it was not deleted")


def _is_file(uri: str, ctx: tiledb.Ctx) -> bool:
    above, _, name = uri.rpartition("/")
    return bool(name) and not above.endswith(":/") and open_storage(above, ctx).exists(name)


def remove_tree(uri: str, ctx: tiledb.Ctx) -> None:
    """Remove a directory with all files in it, if it is there."""
    open_storage(uri, ctx).remove_tree("")


def child_names(uri: str, ctx: tiledb.Ctx) -> list[str]:
    """Names directly under `uri`, sorted; empty where there is nothing."""
    return sorted(entry.path.rstrip("/") for entry in open_storage(uri, ctx).list())


def tree_bytes(uri: str, ctx: tiledb.Ctx) -> int:
    """Bytes of all files under `uri`."""
    return sum(entry.size for entry in open_storage(uri, ctx).list(recursive=True))
