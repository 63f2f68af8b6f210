"""Causes that lie in how a program reads: its cache, its contexts, its memory."""

from __future__ import annotations

from radiobject_assets.diagnostics import read_kinds
from radiobject_assets.diagnostics.reads.access_patterns import AccessPattern
from radiobject_assets.diagnostics.reads.measured_reads import CollectionReads
from radiobject_assets.diagnostics.reads.slow_read_cause import (
    LEAST_GAIN,
    MB,
    TIMES_TOO_MUCH,
    WORTH_BYTES,
    Cause,
    ReadChange,
    judged_of,
    names_of,
    simulated,
    times_less,
    work_s,
)

# The one that users of such stores are told: below it contexts or caches are not shared, or too small.
LEAST_HIT_RATE = 0.6
_MOST_CACHE_MB = 4096


def small_tile_cache(reads: CollectionReads, store: str) -> Cause | None:
    now = simulated(reads)
    size_mb = max(1, reads.config.read.tile_cache_size_mb)
    hits, wanted = sum(o.hits for o in now), sum(o.hits + o.misses for o in now)
    if not wanted or hits / wanted >= LEAST_HIT_RATE:
        return None
    larger = size_mb
    while (larger := larger * 2) <= min(_MOST_CACHE_MB, reads.memory_mb // 4):
        then = simulated(reads, cache_mb=larger)
        rate = sum(o.hits for o in then) / max(1, sum(o.hits + o.misses for o in then))
        times, fewer, gain = times_less(reads, now, then)
        if rate >= LEAST_HIT_RATE and times >= TIMES_TOO_MUCH and fewer * 8 >= WORTH_BYTES:
            return Cause(
                read_kinds.SMALL_TILE_CACHE,
                f"{hits / wanted:.0%} of the tiles that {names_of(reads)} needs are in memory with a cache "
                f"of {reads.config.read.tile_cache_size_mb} MB; with {larger} MB it would be {rate:.0%}",
                gain,
                f"tile_cache_size_mb={larger}",
                f"radiobject_assets.store.configure(read=ReadConfig(tile_cache_size_mb={larger}))",
                ReadChange(cache_mb=larger),
            )
    return None


def contexts_not_shared(reads: CollectionReads, store: str) -> Cause | None:
    run, again = reads.run, reads.patterns.get(AccessPattern.RUN)
    if run is None or again is None or run.arrays == 0:
        return None
    opened, others = run.counts.opened, run.counts.opened_for_another_context
    # a second opening may be chance; one for every second read is a habit
    if opened < 2 * run.arrays + 2 or opened < run.reads / 2:
        return None
    rate = run.hits / max(1, run.hits + run.misses)
    each = (run.cpu_s + (run.counts.waiting_s if reads.on_s3 else 0)) / max(1, run.reads)
    shared = work_s(reads, again) / max(1, again.cold.reads)
    in_other = f", {others} of them in another context," if others else ""
    return Cause(
        read_kinds.CONTEXTS_NOT_SHARED,
        f"{run.reads} reads opened {run.arrays} arrays {opened} times{in_other} and found {rate:.0%} of "
        "their tiles in memory",
        max(LEAST_GAIN, each / max(1e-9, shared)),
        "one store, opened once, for all reads of a process",
    )


def read_by_tiledb(reads: CollectionReads, store: str) -> Cause | None:
    by_tiledb = sum(one.cold.counts.by_tiledb for one in judged_of(reads))
    if reads.config.voxels != "tiledb" or not by_tiledb or not all(one.indexed for one in reads.layouts):
        return None
    return Cause(
        read_kinds.READ_BY_TILEDB,
        f"TileDB read all of {by_tiledb} regions, and all volumes have a tile index",
        2.0,
        'voxels="fast"',
        'radiobject_assets.store.configure(voxels="fast")',
        ReadChange(fast_voxels=True),
    )


def out_of_memory(reads: CollectionReads, store: str) -> Cause | None:
    whole = max(layout.voxel_bytes for layout in reads.layouts) // MB
    reads_whole = AccessPattern.WHOLE in reads.judged
    budget, cache = reads.config.read.memory_budget_mb, reads.config.read.tile_cache_size_mb
    if reads_whole and whole > budget:
        return Cause(
            read_kinds.OUT_OF_MEMORY,
            f"a whole volume takes {whole} MB, and memory_budget_mb is {budget}",
            float("inf"),
            "`Volume.iter_slabs()` or regions in place of `to_numpy()`",
        )
    # stored bytes, voxels, and voxels as float32 may be there at the same time
    each = cache + (3 * whole if reads_whole else 64)
    if reads.workers * each <= reads.memory_mb:
        return None
    fit = max(1, reads.memory_mb // each)
    return Cause(
        read_kinds.OUT_OF_MEMORY,
        f"{reads.workers} workers may take {each} MB each, {cache} MB of them for tiles, and this machine "
        f"allows {reads.memory_mb} MB",
        float("inf"),
        f"workers={fit}"
        + (f" or tile_cache_size_mb={max(0, reads.memory_mb // reads.workers - 64)}" if cache > 64 else ""),
    )
