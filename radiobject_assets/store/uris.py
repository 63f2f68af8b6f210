"""URIs of stores: local paths, file:// and s3://; joining, checking, listing, deleting."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Literal

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.context import ctx_for_threads
from radiobject_assets.store.deadline import is_remote, on_storage, storage_errors

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
        parts of paths, so nothing that a file name or a patient could smuggle in is allowed.
    """
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
    """What TileDB object is at `uri`.

    On S3 one listing tells; TileDB's own `object_type` takes two listings and two more requests.
    """
    if not is_remote(uri):
        with storage_errors("look at", uri):
            found: Literal["array", "group"] | None = tiledb.object_type(uri, ctx=ctx)
            return found
    names = {last_part(n) for n in on_storage("look at", uri, ctx, lambda: tiledb.VFS(ctx=ctx).ls(uri))}
    if "__schema" in names:
        return "array"
    return "group" if names & {"__group", "__tiledb_group.tdb"} else None


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
    uri = normalise(uri)
    ctx = ctx_for_threads(ctx)
    vfs = tiledb.VFS(ctx=ctx)
    if object_kind(uri, ctx) is None:
        if on_storage(
            "look at", uri, ctx, lambda: vfs.is_file(uri) or (vfs.is_dir(uri) and bool(vfs.ls(uri)))
        ):
            raise StorageError(f"{uri} is not a TileDB array or group: it was not deleted")
        return
    on_storage("delete", uri, ctx, lambda: vfs.remove_dir(uri))


def remove_tree(uri: str, ctx: tiledb.Ctx) -> None:
    """Remove a directory with all files in it, if it is there."""
    vfs = tiledb.VFS(ctx=ctx)

    def remove() -> None:
        if vfs.is_dir(uri):
            vfs.remove_dir(uri)

    on_storage("remove", uri, ctx, remove)


def list_names(uri: str, ctx: tiledb.Ctx) -> list[str]:
    """Names directly under `uri`, sorted; empty where there is nothing."""
    if "://" not in uri:  # without TileDB: to make a `tiledb.VFS` alone takes 0.2 ms
        try:
            with storage_errors("list", uri):
                return sorted(os.listdir(uri))
        except StorageError as error:
            if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
                return []
            raise
    found = on_storage("list", uri, ctx, lambda: tiledb.VFS(ctx=ctx).ls(uri))
    return sorted({last_part(entry) for entry in found})


def tree_bytes(uri: str, ctx: tiledb.Ctx) -> int:
    """Bytes of all files under `uri`."""
    if "://" not in uri:
        return sum(
            os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(uri) for name in names
        )
    return sum(size for _, size in walk_files(uri, ctx))


def walk_files(uri: str, ctx: tiledb.Ctx) -> list[tuple[str, int]]:
    """Path and bytes of every file under `uri`; directories are left out."""
    found: list[tuple[str, int]] = []

    def collect(path: str, size: int) -> bool:
        found.append((path, size))
        return True

    vfs = tiledb.VFS(ctx=ctx)
    on_storage("list", uri, ctx, lambda: vfs.ls_recursive(uri, collect), holds_lock=True)
    return [(path, size) for path, size in found if size]
