"""What reading and writing really did: TileDB's own counters, those of reads past it, and those of the cache.

A number that cannot be known is None, never a guess.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import tiledb
from tiledb.main import stats_enabled, stats_raw_dump_str

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store.arrays.tile_cache import CacheCounts, tile_cache
from radiobject_assets.store.storage.read_meter import METER


@dataclass(frozen=True)
class CacheStats:
    """The decoded-tile cache in one measured stretch."""

    cache_hits: int
    """Tiles that came from memory."""
    cache_misses: int
    """Tiles that had to be read and decoded."""
    tile_bytes_read: int
    """Bytes of tiles, or of the blocks of tiles that were needed, after decoding."""
    vfs_read_bytes: int
    """Bytes read from disk or S3."""

    @property
    def hit_rate(self) -> float | None:
        """Share of tiles that came from memory; None if none was asked for."""
        total = self.cache_hits + self.cache_misses
        return self.cache_hits / total if total else None

    @property
    def miss_rate(self) -> float | None:
        """Share of tiles that were read; None if none was asked for."""
        return None if self.hit_rate is None else 1.0 - self.hit_rate


@dataclass(frozen=True)
class S3Stats:
    """Reads or requests, and their bytes, on disk or S3."""

    read_ops: int
    write_ops: int | None
    parallelized_reads: int | None
    total_bytes_read: int
    total_bytes_written: int

    @property
    def parallelization_rate(self) -> float | None:
        """Share of reads that were split; None where TileDB does not count them."""
        if self.parallelized_reads is None or not self.read_ops:
            return None
        return self.parallelized_reads / self.read_ops


class TileDBStats:
    """Counts what happens inside a `with` block, in all contexts and threads of this process.

    Entering it sets TileDB's own statistics to zero. What a context counted inside the block is not seen if
    the context ends there.

    >>> with TileDBStats() as stats:
    ...     pass
    >>> stats.cache_stats().hit_rate is None
    True
    """

    def __init__(self) -> None:
        self._began: dict[str, int] | None = None
        self._ended: dict[str, int] | None = None
        self._cache_began = self._cache_ended = CacheCounts()
        self._was_on = False

    def __enter__(self) -> Self:
        self._was_on = bool(stats_enabled())
        if not self._was_on:
            tiledb.stats_enable()
        self._began, self._cache_began = _totals(reset=True), tile_cache().counts
        self._ended = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended, self._cache_ended = _totals(), tile_cache().counts
        if not self._was_on:
            tiledb.stats_disable()

    def counters(self) -> dict[str, int]:
        """TileDB's counters that moved, summed over contexts, and under `radiobject_assets.` our own."""
        if self._began is None:
            raise ConfigurationError("TileDBStats counts inside of a `with` block: enter it first")
        now = self._ended if self._ended is not None else _totals()
        moved = {name: value - self._began.get(name, 0) for name, value in now.items()}
        return {name: value for name, value in moved.items() if value}

    all_counters = counters

    def _sum(self, ending: str) -> int:
        return sum(value for name, value in self.counters().items() if name.endswith(ending))

    def _seen(self, ending: str) -> bool:
        return any(name.endswith(ending) for name in self.counters())

    def cache_stats(self) -> CacheStats:
        """Hits and misses of the decoded-tile cache, and bytes read."""
        now = self._cache_ended if self._ended is not None else tile_cache().counts
        return CacheStats(
            cache_hits=now.hits - self._cache_began.hits,
            cache_misses=now.misses - self._cache_began.misses,
            tile_bytes_read=self._sum(".Reader.read_unfiltered_byte_num"),
            vfs_read_bytes=self._sum(".VFS.read_byte_num"),
        )

    def s3_stats(self) -> S3Stats:
        """Reads and writes of files or objects."""
        return S3Stats(
            read_ops=self._sum(".VFS.read_ops_num"),
            write_ops=self._sum(".VFS.write_ops_num") if self._seen(".VFS.write_ops_num") else None,
            parallelized_reads=None,  # this version of TileDB has no counter of them
            total_bytes_read=self._sum(".VFS.read_byte_num"),
            total_bytes_written=self._sum(".VFS.write_byte_num"),
        )

    def raw_json(self) -> str:
        """TileDB's statistics as it prints them."""
        return str(stats_raw_dump_str())


_counted: Counter[str] = Counter()
"""What was counted up to the last reset: TileDB forgets the counters of a context that has ended, and a
difference of its bare sums could be negative."""
_counted_lock = threading.Lock()


def _totals(reset: bool = False) -> dict[str, int]:
    """Counters since this process began; `reset` puts those so far where no ended context takes them away."""
    with _counted_lock:
        totals = Counter(_counted)
        contexts: list[dict[str, Any]] = json.loads(stats_raw_dump_str().strip() or "[]")
        for context in contexts:
            for name, value in context.get("counters", {}).items():
                totals[name] += int(value)
        if reset:
            tiledb.stats_reset()
            _counted.update(totals - _counted)
    own = METER.counts
    totals["radiobject_assets.VFS.read_ops_num"] = own.reads
    totals["radiobject_assets.VFS.read_byte_num"] = own.stored_bytes
    totals["radiobject_assets.Reader.read_unfiltered_byte_num"] = own.decoded_bytes
    return dict(totals)
