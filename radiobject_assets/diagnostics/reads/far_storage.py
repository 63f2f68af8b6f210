"""What lies between this machine and a store on S3: round trip, bandwidth, and how many answers at once.

Measured by reading ranges of one of the store's own objects; nothing is written. Of repeated requests the
fastest counts: what a busy machine adds is only ever more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from radiobject_assets.store import Storage, TileDBContext, ctx_for_threads, ctx_with, open_storage

_SMALL_REQUESTS = 16
_LARGE_BYTES = 512 * 1024
_LARGE_REQUESTS = 8
_TRIES = 3
# What is less is noise: of what takes no time no speed can be told.
_LEAST_S = 1e-3
_PARALLEL = "vfs.s3.max_parallel_ops"
_MOST_PARALLEL = 32
# Of the requests of `store.arrays.block_reader`.
_SHORTEST_BYTES = 2**20
_LONGEST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class FarTrial:
    """How storage answers."""

    round_trip_s: float
    """Of a request for one byte, least of several."""
    answered_at_once: float
    """Of 16 such requests that are made together, how many are answered in the time of one."""
    one_mb_per_s: float
    """Of one long read."""
    many_mb_per_s: float
    """Of eight long reads together."""
    long_mb: float
    """Megabytes of a long read."""
    parallel: int
    """Requests that one read may have under way (`S3Config.max_parallel_ops`)."""
    seconds_by_parallel: Mapping[int, float] = field(default_factory=dict)
    """For as many bytes as one of the measured reads fetches, by requests that may be under way together."""

    @property
    def gain_of_parallel(self) -> float:
        """How many times faster such a read is with more requests under way; 1 where it is not."""
        now = self.seconds_by_parallel.get(self.parallel)
        return 1.0 if now is None else now / min(self.seconds_by_parallel.values())


def try_far_storage(array_uri: str, ctx: TileDBContext | None, requests: float, nbytes: float) -> FarTrial:
    """Measure the way to an array on S3.

    Parameters
    ----------
    requests, nbytes
        Of one of the reads that are to be explained: how many requests it makes, and what they fetch.
    """
    base = ctx_for_threads(ctx)
    parallel = int(base.config()[_PARALLEL])
    wide = open_storage(array_uri, ctx_with(base, **{_PARALLEL: str(_SMALL_REQUESTS)}))
    biggest = max(wide.list(recursive=True), key=lambda entry: entry.size)
    path, size = biggest.path, biggest.size
    _fastest(wide, path, [(i, 1) for i in range(_SMALL_REQUESTS)])  # connections
    one = _fastest(wide, path, [(0, 1)], 2 * _TRIES)
    together = _fastest(wide, path, [(i, 1) for i in range(_SMALL_REQUESTS)])
    length = min(size, _LARGE_BYTES)
    long_one = _fastest(wide, path, [(0, length)], 2)
    many = _spans(size, length, _LARGE_REQUESTS)
    long_many = _fastest(wide, path, many, 2)
    by_parallel: dict[int, float] = {}
    budget = int(base.config()["sm.mem.total_budget"])
    for p in (parallel, *(p for p in (2 * parallel, 4 * parallel, 8 * parallel) if p <= _MOST_PARALLEL)):
        # the more requests a reader may have under way, the shorter it makes them
        longest = max(_SHORTEST_BYTES, min(_LONGEST_BYTES, budget // 4 // p))
        count = max(round(requests), -(-int(nbytes) // longest))
        if count < 2:
            continue
        own = _spans(size, min(size, max(1, int(nbytes) // count)), count)
        storage = open_storage(array_uri, ctx_with(base, **{_PARALLEL: str(p)}))
        _fastest(storage, path, [(i, 1) for i in range(p)], 1)
        groups = [own[first : first + p] for first in range(0, len(own), p)]
        by_parallel[p] = min(sum(_fastest(storage, path, group, 1) for group in groups) for _ in range(2))
    if by_parallel and parallel not in by_parallel:
        own = _spans(size, min(size, max(1, int(nbytes))), 1)
        by_parallel[parallel] = _fastest(wide, path, own, 2)
    return FarTrial(
        round_trip_s=one,
        answered_at_once=_SMALL_REQUESTS * one / together,
        one_mb_per_s=length / 2**20 / max(_LEAST_S, long_one - one),
        many_mb_per_s=length * len(many) / 2**20 / max(_LEAST_S, long_many - one),
        long_mb=length / 2**20,
        parallel=parallel,
        seconds_by_parallel=by_parallel,
    )


def _spans(size: int, length: int, count: int) -> list[tuple[int, int]]:
    step = max(1, (size - length) // max(1, count - 1)) if size > length else 0
    return [(min(number * step, size - length), length) for number in range(count)]


def _fastest(storage: Storage, path: str, spans: Sequence[tuple[int, int]], tries: int = _TRIES) -> float:
    taken = []
    for _ in range(tries):
        began = time.perf_counter()
        storage.ranges(path, spans)
        taken.append(time.perf_counter() - began)
    return min(taken)
