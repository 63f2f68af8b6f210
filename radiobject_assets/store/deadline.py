"""Operations on storage: with an end in sight on S3, and errors that say what was attempted and where.

TileDB bounds connections, requests and tries (`S3Config`), but repeats a request that S3 answers with
`503 SlowDown` a hundred times, 1.5 seconds apart: one look at a store took minutes to fail. So what touches
S3 runs on a thread of its own, and its caller waits for `S3Config.deadline_s`. A call that is given up goes
on in the background until TileDB ends it; its context is never destroyed, for that would wait for it.

Some of TileDB's functions (groups, array metadata, fragment lists, consolidation) hold the interpreter's
lock while they wait for S3, so that nobody could give them up. Before those, where the server has not
answered lately, something that can be given up asks whether it answers at all.
"""

from __future__ import annotations

import contextvars
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.config import DEADLINE_KEY, MB, S3Config
from radiobject_assets.store.context import keep_for_ever

T = TypeVar("T")

# A deadline is for a server that does not answer, not for a slow line: each MB that is moved adds a second.
_S_PER_MB = 1.0
# How long an answer counts as a sign of life.
_ALIVE_S = 2.0

_inside = threading.local()
_answered: dict[str, float] = {}


class DeadlineError(StorageError):
    """Storage gave no answer in time."""


def is_remote(uri: str) -> bool:
    """Whether `uri` is on S3 or another server."""
    return "://" in uri and not uri.startswith("file://")


@contextmanager
def storage_errors(action: str, uri: str, ctx: tiledb.Ctx | None = None) -> Iterator[None]:
    """Turn TileDB's errors into a `StorageError` that says what was attempted and where."""
    try:
        yield
    except (tiledb.TileDBError, OSError) as error:
        raise StorageError(f"cannot {action} {_place(uri, ctx)}: {_plain(error)}") from error


def on_storage(
    action: str,
    uri: str,
    ctx: tiledb.Ctx,
    call: Callable[[], T],
    *,
    nbytes: int = 0,
    holds_lock: bool = False,
) -> T:
    """The result of `call()`, which touches the storage at `uri`.

    Parameters
    ----------
    action
        A verb for errors: "cannot <action> <uri> ...".
    nbytes
        Bytes that the call moves; they add to the deadline.
    holds_lock
        The call uses a function of TileDB that keeps the interpreter's lock.

    Raises
    ------
    DeadlineError
        Where S3 did not answer in time.
    StorageError
        For TileDB's own errors; the message names endpoint, bucket and key.
    """
    if not is_remote(uri) or getattr(_inside, "now", False):
        with storage_errors(action, uri, ctx):
            return call()
    endpoint = _endpoint(ctx)
    seconds = deadline_s(ctx) + nbytes / MB * _S_PER_MB
    if holds_lock and time.monotonic() - _answered.get(endpoint, -_ALIVE_S) >= _ALIVE_S:
        _wait(action, uri, ctx, lambda: tiledb.VFS(ctx=ctx).is_dir(uri), seconds)
    result = _wait(action, uri, ctx, call, seconds)
    _answered[endpoint] = time.monotonic()
    return result


def begin(call: Callable[[], T]) -> Future[T]:
    """Start a call on a thread that does not keep the process from ending, as those of a pool would."""
    future: Future[T] = Future()

    def run() -> None:
        _inside.now = True
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
            future.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    return future


def _wait(action: str, uri: str, ctx: tiledb.Ctx, call: Callable[[], T], seconds: float) -> T:
    future = begin(call)
    wait([future], seconds)
    if not future.done():
        keep_for_ever(ctx)
        raise DeadlineError(
            f"cannot {action} {_place(uri, ctx)}: no success within {seconds:.3g} s (S3Config.deadline_s). "
            "The server is silent or keeps asking to slow down; a write may still complete, and to repeat it "
            "is safe"
        )
    with storage_errors(action, uri, ctx):
        return future.result()


def deadline_s(ctx: tiledb.Ctx) -> float:
    """The deadline that a context was made with, or the default."""
    try:
        return float(ctx.config()[DEADLINE_KEY])
    except KeyError:
        return float(S3Config().deadline_s)


def _setting(ctx: tiledb.Ctx, key: str) -> str:
    value: Any = ctx.config()[key]
    return str(value or "")


def _endpoint(ctx: tiledb.Ctx) -> str:
    host = _setting(ctx, "vfs.s3.endpoint_override")
    if host:
        return f"{_setting(ctx, 'vfs.s3.scheme')}://{host}"
    return f"AWS region {_setting(ctx, 'vfs.s3.region') or 'by default'}"


def _place(uri: str, ctx: tiledb.Ctx | None) -> str:
    if ctx is None or not uri.startswith("s3://"):
        return uri
    parts = urlsplit(uri)
    return f"{uri} (endpoint {_endpoint(ctx)}, bucket {parts.netloc}, key {parts.path.lstrip('/')})"


def _plain(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return re.sub(r"(?i)(secret|token|signature|credential)[^\s,;]*=[^\s,;&]+", r"\1=***", text)
