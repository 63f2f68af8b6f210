"""Older names of what `store.storage` does now, for modules that still use them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

import tiledb

from radiobject_assets.store.storage.deadline import Deadline, GivenUpError, in_time
from radiobject_assets.store.storage.errors import DeadlineError, late, storage_errors
from radiobject_assets.store.storage.s3_settings import deadline_of

__all__ = ["DeadlineError", "begin", "is_remote", "on_storage", "storage_errors"]

T = TypeVar("T")

_inside = threading.local()


def is_remote(uri: str) -> bool:
    """Whether `uri` is on S3 or another server."""
    return "://" in uri and not uri.startswith("file://")


def on_storage(
    action: str,
    uri: str,
    ctx: tiledb.Ctx,
    call: Callable[[], T],
    *,
    nbytes: int = 0,
    holds_lock: bool = False,
) -> T:
    """The result of `call()`, which touches the storage at `uri`; `action` is a verb for errors.

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

    def run() -> T:
        _inside.now = True
        return call()

    deadline = Deadline(deadline_of(ctx.config().dict()), nbytes)
    try:
        with storage_errors(action, uri, ctx):
            return in_time([run], deadline)[0]
    except GivenUpError:
        error = late(action, uri, deadline.seconds, ctx)
    raise error


def begin(call: Callable[[], T]) -> Future[T]:
    """Start a call on a thread that does not keep the process from ending, as those of a pool would."""
    future: Future[T] = Future()

    def run() -> None:
        _inside.now = True
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
    return future
