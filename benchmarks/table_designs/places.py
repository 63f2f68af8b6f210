"""Files of the segments' prototype on local disks and on S3: list, read, write, publish if absent, remove."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks.table_designs.design import Place


class Files(Protocol):
    """What the prototype asks of storage."""

    def names(self, folder: str, after: str = "") -> list[str]: ...
    def read(self, name: str) -> bytes: ...
    def write(self, name: str, data: bytes) -> None: ...
    def publish(self, name: str, data: bytes) -> bool: ...
    def remove(self, name: str) -> None: ...


class LocalFiles:
    """A folder; what is written is on the disk before the call returns."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def names(self, folder: str, after: str = "") -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._root / folder) if name > after)
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._sync(path.parent)

    def publish(self, name: str, data: bytes) -> bool:
        aside = f"{name}~{secrets.token_hex(4)}"
        self.write(aside, data)
        try:
            os.link(self._root / aside, self._root / name)
        except FileExistsError:
            return False
        finally:
            self.remove(aside)
        self._sync((self._root / name).parent)
        return True

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._root / name)

    def _sync(self, folder: Path) -> None:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class S3Files:
    """A prefix; the server decides by `If-None-Match: *` who publishes."""

    def __init__(self, place: Place) -> None:
        parts = urlparse(place.uri)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/") + "/"
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=place.endpoint,
            aws_access_key_id=place.access_key,
            aws_secret_access_key=place.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def names(self, folder: str, after: str = "") -> list[str]:
        prefix = f"{self._prefix}{folder}/"
        pages = self._client.get_paginator("list_objects_v2")
        answers = pages.paginate(Bucket=self._bucket, Prefix=prefix, StartAfter=prefix + after)
        return [entry["Key"][len(prefix) :] for page in answers for entry in page.get("Contents", ())]

    def read(self, name: str) -> bytes:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
        except self._client.exceptions.NoSuchKey:
            raise FileNotFoundError(name) from None
        return bytes(answer["Body"].read())

    def write(self, name: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data)

    def publish(self, name: str, data: bytes) -> bool:
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
                # Whose answer got lost, and who tried again, meets what it published itself.
                return self.read(name) == data
            raise
        return True

    def remove(self, name: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)


def files_at(place: Place) -> Files:
    """The files of a place."""
    return S3Files(place) if place.on_s3 else LocalFiles(place.uri)
