"""Work on threads that share one TileDB context."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from radiobject_assets.store.storage.config import get_radiobject_config
from radiobject_assets.store.storage.progress import progress_bar

T = TypeVar("T")
R = TypeVar("R")


def map_on_threads(
    fn: Callable[[T], R],
    items: Iterable[T],
    max_workers: int | None = None,
    progress: bool = False,
    desc: str | None = None,
) -> list[R]:
    """`fn` of each item, on threads; results in the order of the items.

    The first error is raised, and items that have not begun are left out. `max_workers` defaults to
    `ReadConfig.max_workers`.
    """
    work = list(items)
    if not work:
        return []
    workers = min(max_workers or get_radiobject_config().read.max_workers, len(work))
    with ThreadPoolExecutor(workers) as pool, progress_bar(len(work), desc, progress) as advance:
        futures = [pool.submit(fn, item) for item in work]
        for future in futures:
            future.add_done_callback(lambda _: advance())
        _, unfinished = wait(futures, return_when=FIRST_EXCEPTION)
        for future in unfinished:
            future.cancel()
        failed = [f for f in futures if not f.cancelled() and f.exception() is not None]
        if failed:
            raise failed[0].exception() or RuntimeError("a task failed")
        return [future.result() for future in futures]
