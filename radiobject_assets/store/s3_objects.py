"""An older way to objects on S3 by their URIs, for modules that do not use `Storage` yet."""

from __future__ import annotations

import tiledb

from radiobject_assets.store.storage import MissingError, Storage, open_storage


def s3_objects(uri: str, ctx: tiledb.Ctx) -> S3Objects | None:
    """The objects at and below `uri`; None for other storage than S3."""
    return S3Objects(open_storage(uri, ctx)) if uri.startswith("s3://") else None


class S3Objects:
    """Reads and writes of whole objects and ranges. Thread-safe."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.parallel = storage.parallel
        """Requests that may be under way together."""

    def read(self, uri: str, offset: int = 0, nbytes: int | None = None) -> bytes:
        """An object, or bytes [offset, offset + nbytes) of it; FileNotFoundError if there is none."""
        path = self._path(uri)
        try:
            return self._storage.read(path) if nbytes is None else self._storage.range(path, offset, nbytes)
        except MissingError as error:
            raise FileNotFoundError(str(error)) from error

    def write(self, uri: str, content: bytes) -> None:
        """Put an object."""
        self._storage.write(self._path(uri), content)

    def _path(self, uri: str) -> str:
        return uri.removeprefix(self._storage.uri).lstrip("/")
