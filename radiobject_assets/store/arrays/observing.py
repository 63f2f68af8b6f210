"""Who reads what: a hook for those who look at how a program reads, with what each read took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from radiobject_assets.store.blocks.regions import Region


@dataclass(frozen=True)
class ObservedRead:
    """A region that was read, opening included."""

    uri: str
    """Of the array."""
    start: tuple[int, ...]
    size: tuple[int, ...]
    seconds: float


_observers: list[Callable[[ObservedRead], None]] = []


@contextmanager
def observed_reads() -> Iterator[list[ObservedRead]]:
    """A list to which all reads of volumes are added that end in this process before the block does.

    >>> with observed_reads() as reads:
    ...     pass
    >>> reads
    []
    """
    reads: list[ObservedRead] = []
    _observers.append(reads.append)
    try:
        yield reads
    finally:
        _observers.remove(reads.append)


def told_to_observers(uri: str, region: Region) -> AbstractContextManager[None]:
    """Tell observers of the read inside of the block, if there are any."""
    return _told(uri, region) if _observers else nullcontext()


@contextmanager
def _told(uri: str, region: Region) -> Iterator[None]:
    began = time.perf_counter()
    yield
    read = ObservedRead(uri, region.start, region.size, time.perf_counter() - began)
    for observer in tuple(_observers):
        observer(read)
