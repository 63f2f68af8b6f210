"""The next slab is read while this one is compressed and written."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The items of a generator, made by a thread of its own: one is made while the one before is in use.

    Errors come out where the item would. The generator is closed whoever stops first.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:

        def following() -> T | None:
            return next(items, None)

        coming = reader.submit(following)
        try:
            while (item := coming.result()) is not None:
                coming = reader.submit(following)
                yield item
                del item  # not held while the next one is waited for
        finally:
            wait([coming])  # a generator can be closed by any thread while none is in it
            items.close()
