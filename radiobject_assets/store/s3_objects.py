"""Objects on S3 read and written with one request each.

TileDB asks for an object's size before it reads it, and lists before and after it writes. Here a read is one
ranged GET and a write one PUT, with the same settings. Contexts with settings that only TileDB knows (roles,
proxies, encryption by the server) get None in place of this, and TileDB does all of the work.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import tiledb

from radiobject_assets.store.context import keep_orphan

T = TypeVar("T")

_UNUSUAL: dict[str, tuple[str, ...]] = {
    f"vfs.s3.{name}": ("", "NOT_SET", "false")
    for name in (
        "aws_role_arn", "aws_external_id", "proxy_host", "ca_file", "ca_path", "requester_pays", "sse",
        "sse_kms_key_id", "bucket_canned_acl", "object_canned_acl", "storage_class",
    )
}  # fmt: skip
_UNUSUAL["vfs.s3.verify_ssl"] = ("", "true")
_UNUSUAL["vfs.s3.config_source"] = ("", "auto")
_SLOW_DOWN_S = 1.5
_PASSING = frozenset([429, 500, 502, 503, 504])

_lock = threading.Lock()
_clients: weakref.WeakKeyDictionary[tiledb.Ctx, S3Objects | None] = weakref.WeakKeyDictionary()


def _after_fork() -> None:
    global _lock, _clients
    keep_orphan(_clients)
    _lock, _clients = threading.Lock(), weakref.WeakKeyDictionary()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def s3_objects(uri: str, ctx: tiledb.Ctx) -> S3Objects | None:
    """The objects of S3 as a context sees them; None for other storage, and where only TileDB can do it."""
    if not uri.startswith("s3://"):
        return None
    with _lock:
        if ctx not in _clients:
            settings = {key: str(value or "") for key, value in ctx.config().dict().items()}
            usual = all(settings.get(key, "") in allowed for key, allowed in _UNUSUAL.items())
            _clients[ctx] = _connect(settings) if usual else None
        return _clients[ctx]


def _connect(settings: Mapping[str, str]) -> S3Objects | None:
    try:
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.session import get_session
    except ImportError:
        return None
    s3 = {key.removeprefix("vfs.s3."): value for key, value in settings.items()}
    parallel = int(s3["max_parallel_ops"])
    virtual = s3["use_virtual_addressing"] == "true"
    options: dict[str, Any] = {
        "connect_timeout": int(s3["connect_timeout_ms"]) / 1000,
        "read_timeout": int(s3["request_timeout_ms"]) / 1000,
        "max_pool_connections": parallel,
        "retries": {"total_max_attempts": 1},
        "s3": {"addressing_style": "virtual" if virtual else "path"},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    if s3["no_sign_request"] == "true":
        options["signature_version"] = UNSIGNED
    session = get_session()
    # Read once: the description of S3 takes longer to load than a region from the other side of the world.
    session.register_component("data_loader", _loader())
    client = session.create_client(
        "s3",
        region_name=s3["region"] or None,
        endpoint_url=f"{s3['scheme']}://{s3['endpoint_override']}" if s3["endpoint_override"] else None,
        aws_access_key_id=s3["aws_access_key_id"] or None,
        aws_secret_access_key=s3["aws_secret_access_key"] or None,
        aws_session_token=s3["aws_session_token"] or None,
        config=Config(**options),
    )
    return S3Objects(client, int(s3["connect_max_tries"]), int(s3["connect_scale_factor"]) / 1000, parallel)


@cache
def _loader() -> Any:
    from botocore.loaders import create_loader

    return create_loader()


class S3Objects:
    """Reads and writes of whole objects and ranges. Thread-safe."""

    def __init__(self, client: Any, tries: int, wait_s: float, parallel: int) -> None:
        self._client = client
        self._tries = tries
        self._wait_s = wait_s
        self.parallel = parallel
        """Requests that may be under way together."""

    def read(self, uri: str, offset: int = 0, nbytes: int | None = None) -> bytes:
        """An object, or bytes [offset, offset + nbytes) of it; fewer where it ends before.

        Raises
        ------
        FileNotFoundError
            If there is no such object.
        OSError
            If S3 does not give it, after all tries.
        """
        bucket, key = _split(uri)
        where = {} if nbytes is None else {"Range": f"bytes={offset}-{offset + nbytes - 1}"}

        def get() -> bytes:
            body = self._client.get_object(Bucket=bucket, Key=key, **where)["Body"]
            with body:
                return bytes(body.read())

        return self._tried(get)

    def write(self, uri: str, content: bytes) -> None:
        """Put an object.

        Raises
        ------
        OSError
            If S3 does not take it, after all tries.
        """
        bucket, key = _split(uri)
        self._tried(lambda: self._client.put_object(Bucket=bucket, Key=key, Body=content))

    def _tried(self, request: Callable[[], T]) -> T:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

        for attempt in range(self._tries + 1):
            wait = self._wait_s * 2**attempt
            try:
                return request()
            except ClientError as error:
                status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
                code = str(error.response.get("Error", {}).get("Code", ""))
                if code in ("NoSuchKey", "404"):
                    raise FileNotFoundError(code) from None
                if status == 416:  # the object ends before the range
                    return b""  # type: ignore[return-value]  # only reads have a range
                if status not in _PASSING or attempt == self._tries:
                    raise OSError(f"S3 answered {status} {code}") from None
                if status == 503:
                    wait = max(wait, _SLOW_DOWN_S * attempt)
            except (HTTPClientError, IncompleteReadError) as error:
                if attempt == self._tries:
                    raise OSError(f"{type(error).__name__}: {error}") from None
            except BotoCoreError as error:  # no credentials, wrong names
                raise OSError(f"{type(error).__name__}: {error}") from None
            time.sleep(wait)
        raise OSError("S3 did not answer")


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
