"""The storage that a URI stands for."""

from __future__ import annotations

import os

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.local import LocalStorage
from radiobject_assets.store.storage.storage import Storage


def open_storage(uri: str, ctx: tiledb.Ctx | ContextRef | None = None) -> Storage:
    """The storage whose root is `uri`: a local path, file:// or s3://. Nothing is looked at yet.

    Parameters
    ----------
    ctx
        Where the settings for S3 come from: the process's own context, if None.

    Raises
    ------
    StorageError
        For other kinds of URIs, and for those with credentials in them.
    """
    if "://" not in uri or uri.startswith("file://"):
        folder = os.path.abspath(uri.removeprefix("file://"))
        return LocalStorage(folder, uri.rstrip("/") if "://" in uri else folder)
    kind, _, rest = uri.partition("://")
    if kind != "s3":
        raise StorageError(f"a store can't be at {kind}://: give a local path, file:// or s3:// URI")
    if "@" in rest.partition("/")[0] or "?" in rest:
        raise StorageError(
            "the URI of a store has no credentials and no query in it: give s3://bucket/prefix alone, and "
            "credentials by the AWS chain"
        )
    # botocore takes half a second to load: only who reaches S3 waits for it.
    from radiobject_assets.store.storage.s3 import S3Storage

    return S3Storage(uri.rstrip("/"), ctx if isinstance(ctx, ContextRef) else ContextRef(ctx))
