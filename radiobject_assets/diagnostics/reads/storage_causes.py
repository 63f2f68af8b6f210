"""Causes that lie between: the way to storage on S3, its answers, and the disk."""

from __future__ import annotations

from radiobject_assets.diagnostics import read_kinds
from radiobject_assets.diagnostics.reads.layout_causes import many_fragments
from radiobject_assets.diagnostics.reads.measured_reads import CollectionReads
from radiobject_assets.diagnostics.reads.slow_read_cause import (
    LEAST_GAIN,
    MB,
    Cause,
    ReadChange,
    gain_of,
    judged_of,
    work_s,
)
from radiobject_assets.store import CompressionConfig

_HEAVY = 1.5
# Storage in the same building answers in a few milliseconds, S3 in its own region in up to thirty.
_FAR_S = 0.03
_FULL_MB_PER_S = 25.0
_SLOW_DISK_MB_PER_S = 25.0
# What a busy machine explains of a slow line.
_MOST_STRETCH = 4.0


def _waits(reads: CollectionReads) -> float:
    """Share of waiting in the judged reads; 0 where storage is as near as it could be."""
    far = reads.far
    patterns = judged_of(reads)
    if far is None or not patterns:
        return 0.0
    if _is_near(reads) and not _is_full(reads) and not far.gain_of_parallel >= LEAST_GAIN:
        return 0.0
    work = sum(work_s(reads, one) for one in patterns)
    return min(0.95, sum(one.cold.counts.waiting_s for one in patterns) / work)


def _is_full(reads: CollectionReads) -> bool:
    """Whether the line carries no more, however many requests there are."""
    far = reads.far
    return (
        far is not None
        and far.many_mb_per_s * min(_MOST_STRETCH, reads.stretch) < _FULL_MB_PER_S
        # where answers are limited, and not bytes, each long read waits a round trip more
        and far.one_mb_per_s / 2 < far.many_mb_per_s < 2 * far.one_mb_per_s
        and far.long_mb / far.one_mb_per_s > 3 * far.round_trip_s
    )


def _is_capped(reads: CollectionReads) -> bool:
    """Whether fewer requests are answered at a time than are made."""
    far = reads.far
    return far is not None and not _is_near(reads) and far.answered_at_once < 3 and not _is_full(reads)


def _is_near(reads: CollectionReads) -> bool:
    """Whether a round trip is no longer than within a building or a region."""
    return reads.far is not None and reads.far.round_trip_s < _FAR_S * min(2.0, reads.stretch)


def low_parallel(reads: CollectionReads, store: str) -> Cause | None:
    far, waits = reads.far, _waits(reads)
    if far is None or waits < 0.5 or _is_capped(reads) or _is_full(reads):
        return None
    if far.gain_of_parallel < LEAST_GAIN or many_fragments(reads, store):
        return None
    now = far.seconds_by_parallel[far.parallel]
    best = min(far.seconds_by_parallel.values())
    wanted = min(p for p, seconds in far.seconds_by_parallel.items() if seconds <= 1.1 * best)
    counts = [one.cold.counts for one in judged_of(reads)]
    flying = sum(c.together_s for c in counts) / max(1e-9, sum(c.waiting_s for c in counts))
    if wanted == far.parallel:
        return None
    return Cause(
        read_kinds.LOW_PARALLEL,
        f"{waits:.0%} of a read is waiting for S3 with {flying:.1f} requests under way; the same requests "
        f"take {now * 1000:.0f} ms with {far.parallel} at a time and {best * 1000:.0f} ms with {wanted}",
        gain_of(waits, now / best),
        f"max_parallel_ops={wanted}",
        f"radiobject_assets.store.configure(s3=S3Config(max_parallel_ops={wanted}))",
        ReadChange(parallel=wanted),
    )


def connection_cap(reads: CollectionReads, store: str) -> Cause | None:
    far, waits = reads.far, _waits(reads)
    if far is None or waits < 0.5 or not _is_capped(reads):
        return None
    allowed = max(1.0, far.answered_at_once)
    return Cause(
        read_kinds.CONNECTION_CAP,
        f"of 16 small requests that are made together {allowed:.0f} are answered in the time of one, "
        f"{far.round_trip_s * 1000:.0f} ms; this process may have {far.parallel} under way",
        max(LEAST_GAIN, gain_of(waits, max(1.0, min(far.parallel, 4) / allowed))),
        "no limit of connections below max_parallel_ops",
    )


def slow_down(reads: CollectionReads, store: str) -> Cause | None:
    counts = [one.cold.counts for one in judged_of(reads)]
    refused, requests = sum(c.slow_downs for c in counts), sum(c.requests for c in counts)
    if refused < 3 or refused < requests / 20:
        return None
    wall = sum(one.cold.wall_s for one in judged_of(reads))
    idle = wall - sum(c.waiting_s for c in counts) - sum(one.cold.cpu_s for one in judged_of(reads))
    parallel = 8 if reads.far is None else reads.far.parallel
    return Cause(
        read_kinds.SLOW_DOWN,
        f"{refused} of {requests} requests were refused with a request to slow down",
        max(LEAST_GAIN, wall / max(0.05 * wall, wall - max(0.0, idle))),
        f"max_parallel_ops={max(1, parallel // 2)}",
        f"radiobject_assets.store.configure(s3=S3Config(max_parallel_ops={max(1, parallel // 2)}))",
    )


def low_bandwidth(reads: CollectionReads, store: str) -> Cause | None:
    far, waits = reads.far, _waits(reads)
    if far is None or waits < 0.5 or not _is_full(reads):
        return None
    none, zstd = reads.trials.get("none"), reads.trials.get("zstd")
    times = none.stored_bytes / zstd.stored_bytes if none and zstd else 1.0
    fetched = sum(one.cold.counts.stored_bytes for one in judged_of(reads))
    asked = sum(one.cold.asked_bytes for one in judged_of(reads))
    evidence = (
        f"{waits:.0%} of a read is waiting for S3, at {far.many_mb_per_s:.1f} MB/s for eight requests "
        f"together and {far.one_mb_per_s:.1f} for one; {fetched / max(1, asked):.2f} bytes are fetched for "
        "each that is asked for"
    )
    if times >= _HEAVY:
        return Cause(
            read_kinds.LOW_BANDWIDTH,
            evidence,
            gain_of(waits, times),
            "compression zstd, level 1",
            f"radiobject-assets recompress {store} {reads.collection} --codec zstd --level 1",
            ReadChange(compression=CompressionConfig(), lay_out_anew=True),
        )
    return Cause(read_kinds.LOW_BANDWIDTH, evidence, gain_of(waits, float("inf")), "the patch cache")


def far_store(reads: CollectionReads, store: str) -> Cause | None:
    far, waits = reads.far, _waits(reads)
    if far is None or waits < 0.5 or _is_near(reads) or _is_full(reads) or _is_capped(reads):
        return None
    if low_parallel(reads, store) or many_fragments(reads, store):
        return None  # whose mends make a read itself faster
    counts = [one.cold.counts for one in judged_of(reads)]
    flying = sum(c.together_s for c in counts) / max(1e-9, sum(c.waiting_s for c in counts))
    threads = reads.config.read.max_workers
    if flying > threads / 2:
        return None
    return Cause(
        read_kinds.FAR_STORE,
        f"a round trip takes {far.round_trip_s * 1000:.0f} ms, and {flying:.1f} requests are under way at "
        "a time",
        gain_of(waits, min(threads, far.answered_at_once) / max(1.0, flying)),
        "several reads at once",
    )


def slow_disk(reads: CollectionReads, store: str) -> Cause | None:
    if reads.on_s3 or reads.disk_mb_per_s is None or not judged_of(reads):
        return None
    waiting = sum(one.cold.counts.waiting_s for one in judged_of(reads))
    wall = sum(one.cold.wall_s for one in judged_of(reads))
    stored = sum(one.cold.counts.stored_bytes for one in judged_of(reads)) / MB
    slow = max(reads.disk_mb_per_s, stored / max(1e-9, waiting)) * reads.stretch
    if waiting < 0.5 * wall or slow >= _SLOW_DISK_MB_PER_S:
        return None
    return Cause(
        read_kinds.SLOW_DISK,
        f"{waiting / wall:.0%} of a read is waiting for the disk, which gives {reads.disk_mb_per_s:.1f} MB/s "
        "of a plain file",
        gain_of(min(0.95, waiting / wall), float("inf")),
        "a faster disk, or the patch cache on one",
    )
