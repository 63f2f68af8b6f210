"""Threads of this process that decode beside a reader's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from radiobject_assets.system.processes import after_fork, usable_cores

T = TypeVar("T")

_helpers: ThreadPoolExecutor | None = None
_helpers_lock = threading.Lock()


def _forget_helpers() -> None:
    global _helpers, _helpers_lock
    _helpers, _helpers_lock = None, threading.Lock()  # their threads stayed in the parent process


after_fork(_forget_helpers)


def _pool() -> ThreadPoolExecutor:
    global _helpers
    with _helpers_lock:
        if _helpers is None:
            _helpers = ThreadPoolExecutor(usable_cores(), thread_name_prefix="decode")
        return _helpers


def share(work: Callable[[T], None], parts: Sequence[T], threads: int) -> None:
    """Let this thread and up to `threads - 1` helpers take parts one by one until none is left."""
    left = iter(parts)

    def take() -> None:
        for part in left:
            work(part)

    wanted = min(threads, len(parts)) - 1
    begun: list[Future[None]] = [_pool().submit(take) for _ in range(wanted)]
    try:
        take()
    finally:
        # A helper that has not begun has nothing to do any more: busy ones are not waited for.
        waiting = [future for future in begun if not future.cancel()]
        errors = [future.exception() for future in waiting]
    for error in errors:
        if error is not None:
            raise error
