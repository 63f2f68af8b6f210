"""Objects on S3 that others write: listed with their ETags, and copied as they were listed or not at all.

What a store keeps on S3 never changes under its name; what others send may do so at any moment. Keys are
taken as they are, also those that could be no path here, and no error repeats one: they may name patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.deadline import Deadline, in_time
from radiobject_assets.store.storage.errors import disk_errors
from radiobject_assets.store.storage.s3 import S3Storage
from radiobject_assets.system.durable_files import whole_file

_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class S3Object:
    """An object as a listing tells of it."""

    key: str
    """Without the prefix."""
    size: int
    etag: str
    modified_s: float
    """Seconds since the epoch, by the server's clock."""


class S3Objects(S3Storage):
    """What lies below a prefix in a bucket: `s3://bucket/prefix`."""

    def __init__(self, uri: str, ctx: tiledb.Ctx | ContextRef | None = None) -> None:
        super().__init__(uri.rstrip("/"), ctx if isinstance(ctx, ContextRef) else ContextRef(ctx))

    def check(self) -> None:
        """Ask for one object; a prefix without any is no error.

        Raises
        ------
        StorageError
            The bucket can't be listed.
        """

        def asked(deadline: Deadline) -> None:
            next(self._pages("", deadline, MaxKeys=1))

        with self._deadline("list", "") as deadline:
            in_time([partial(asked, deadline)], deadline)

    def top(self) -> tuple[list[str], list[str]]:
        """Names of the folders and keys of the objects that lie in the prefix itself.

        Raises
        ------
        StorageError
            The bucket can't be listed.
        """
        folders: list[str] = []
        keys: list[str] = []

        def listed(deadline: Deadline) -> None:
            for page in self._pages("", deadline, Delimiter="/"):
                folders.extend(
                    self._key(item["Prefix"]).rstrip("/") for item in page.get("CommonPrefixes", ())
                )
                keys.extend(self._key(item["Key"]) for item in page.get("Contents", ()))

        with self._deadline("list", "") as deadline:
            in_time([partial(listed, deadline)], deadline)
        return folders, keys

    def beginning_with(self, start: str) -> Sequence[S3Object]:
        """All objects whose keys begin so, at any depth, in the order of S3.

        Raises
        ------
        StorageError
            The bucket can't be listed.
        """
        with self._deadline("list", "") as deadline:
            return in_time([partial(self._described, start, deadline)], deadline)[0]

    def page(self, after: str) -> tuple[Sequence[S3Object], bool]:
        """The objects whose keys come after a text, as many as one request tells; and whether there are more.

        Raises
        ------
        StorageError
            The bucket can't be listed.
        """

        def listed(deadline: Deadline) -> tuple[Sequence[S3Object], bool]:
            page = next(self._pages("", deadline, StartAfter=self._base + after))
            return self._objects_of(page), bool(page.get("IsTruncated"))

        with self._deadline("list", "") as deadline:
            return in_time([partial(listed, deadline)], deadline)[0]

    def _described(self, start: str, deadline: Deadline) -> list[S3Object]:
        return [one for page in self._pages(start, deadline) for one in self._objects_of(page)]

    def _objects_of(self, page: Mapping[str, Any]) -> list[S3Object]:
        return [
            S3Object(
                self._key(item["Key"]), int(item["Size"]), str(item["ETag"]), item["LastModified"].timestamp()
            )
            for item in page.get("Contents", ())
        ]

    def download(self, found: S3Object, target: Path) -> None:
        """Copy an object, as it was listed, to a file that is there when it is whole.

        What a broken connection has brought is kept: the next try goes on from there. The folder must
        be there. The file is not put on the disk for certain: a copy is easily made again.

        Raises
        ------
        MissingError
            It is gone.
        StorageError
            It was changed meanwhile, or can't be read or written.
        """
        with (
            self._deadline("read", "", found.size) as deadline,
            disk_errors("write a copy from", self._place("")),
            whole_file(target, sync=False) as staged,
            staged.open("wb") as file,
        ):
            get = partial(self._get_rest, found, file, deadline)
            in_time([partial(self._tried, "read", "", deadline, get)], deadline)
            if file.tell() != found.size:
                raise StorageError(f"cannot read {self._place('')}: an object was cut short on its way")

    def _get_rest(self, found: S3Object, file: BinaryIO, deadline: Deadline) -> None:
        done = file.tell()
        where = {"Range": f"bytes={done}-"} if done else {}
        answer = self._s3.client.get_object(
            Bucket=self._bucket, Key=self._base + found.key, IfMatch=found.etag, **where, **self._s3.reading
        )
        with closing(
            answer["Body"]
        ) as body:  # in its own `with` it gives the raw stream, which may end early
            if "ContentRange" not in answer:  # the server has not understood the range
                file.seek(0)
            while piece := body.read(_PIECE_BYTES):
                deadline.check()
                with disk_errors("write a copy from", self._place("")):
                    file.write(piece)

    def _key(self, key: str) -> str:
        return key.removeprefix(self._base)

    def _place(self, path: str) -> str:
        return super()._place("")
