"""What this process reads of stores, counted where it happens: reads, bytes, waiting, decoding, repetitions.

Counters are always on, so that what is slow can be asked at any time: a few microseconds of CPU a read. They
only grow; two of them are subtracted to measure a stretch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from radiobject_assets.system.processes import after_fork


@dataclass(frozen=True)
class ReadCounts:
    """What was read so far, or in a stretch (`later - earlier`)."""

    reads: int = 0
    """Reads of array files on a disk, or requests for them."""
    stored_bytes: int = 0
    """Bytes that these gave."""
    decoded_bytes: int = 0
    """Bytes of voxels that were decoded of them."""
    requests: int = 0
    """Requests for bytes to S3, for tables too; those that were made again count again."""
    repeated: int = 0
    """Requests to S3 that failed in passing and were made again."""
    slow_downs: int = 0
    """Of these, those that the server answered by asking for fewer."""
    together_s: float = 0.0
    """Seconds of all reads and requests, added up: of two at once both count."""
    waiting_s: float = 0.0
    """Seconds in which at least one was under way."""
    decode_cpu_s: float = 0.0
    """CPU seconds of all threads for decompressing and placing voxels."""
    check_cpu_s: float = 0.0
    """CPU seconds of all threads for comparing checksums."""
    by_tiledb: int = 0
    """Regions that TileDB read, in place of the faster reader."""
    opened: int = 0
    """Arrays that were opened."""
    opened_for_another_context: int = 0
    """Of these, arrays that were open already, in another context."""

    def __sub__(self, earlier: ReadCounts) -> ReadCounts:
        return ReadCounts(*(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)))

    @property
    def in_flight(self) -> float:
        """Reads that were under way at once, on average over the time in which there was one."""
        return self.together_s / self.waiting_s if self.waiting_s > 0 else 0.0


class ReadMeter:
    """The counters of a process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, Any] = {field.name: 0 for field in fields(ReadCounts)}
        self._under_way = 0
        self._since = 0.0

    @property
    def counts(self) -> ReadCounts:
        """Up to this moment, reads that are under way included."""
        with self._lock:
            self._pass_time()
            return ReadCounts(**self._totals)

    def add(self, **more: float) -> None:
        """Count more of some of the fields of `ReadCounts`."""
        with self._lock:
            for name, n in more.items():
                self._totals[name] += n

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as that of one read that is under way."""
        with self._lock:
            self._pass_time()
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._pass_time()
                self._under_way -= 1

    def _pass_time(self) -> None:
        now = time.perf_counter()
        if self._under_way:
            passed = now - self._since
            self._totals["together_s"] += passed * self._under_way
            self._totals["waiting_s"] += passed
        self._since = now

    def after_fork(self) -> None:
        """In a forked child: a new lock, and none of the parent's reads is under way."""
        self._lock = threading.Lock()
        self._under_way = 0


METER = ReadMeter()


def read_counts() -> ReadCounts:
    """What this process read of stores so far."""
    return METER.counts


after_fork(METER.after_fork)
