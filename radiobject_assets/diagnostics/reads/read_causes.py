"""The tree that people walk by hand, as rules: what makes reads slow, with the gain of its mend.

Each rule looks at what was measured of a collection and names one cause, or none. It decides by counters
(bytes, tiles, requests, openings) and by ratios of CPU seconds that were measured in turns: they are the same
on a busy machine. Clocks are asked only for what lies outside of this machine, and there the fastest of
several answers counts. The gain is that of the reads that are judged: how many times faster they would be.
"""

from __future__ import annotations

from radiobject_assets.diagnostics import read_kinds
from radiobject_assets.diagnostics.reads import layout_causes, reader_causes, storage_causes
from radiobject_assets.diagnostics.reads.access_patterns import AccessPattern
from radiobject_assets.diagnostics.reads.measured_reads import CollectionReads
from radiobject_assets.diagnostics.reads.slow_read_cause import LEAST_GAIN, Cause, CauseRule

_SLOWEST_PATCH_MS = 500.0

RULES: tuple[CauseRule, ...] = (
    CauseRule(read_kinds.OUT_OF_MEMORY, reader_causes.out_of_memory),
    CauseRule(read_kinds.CONTEXTS_NOT_SHARED, reader_causes.contexts_not_shared),
    CauseRule(read_kinds.SMALL_TILE_CACHE, reader_causes.small_tile_cache),
    CauseRule(read_kinds.COARSE_TILES, layout_causes.coarse_tiles),
    CauseRule(read_kinds.NO_TILE_INDEX, layout_causes.no_tile_index),
    CauseRule(read_kinds.READ_BY_TILEDB, reader_causes.read_by_tiledb),
    CauseRule(read_kinds.HEAVY_CODEC, layout_causes.heavy_codec),
    CauseRule(read_kinds.MANY_FRAGMENTS, layout_causes.many_fragments),
    CauseRule(read_kinds.MANY_SEGMENTS, layout_causes.many_segments),
    CauseRule(read_kinds.SLOW_DOWN, storage_causes.slow_down),
    CauseRule(read_kinds.CONNECTION_CAP, storage_causes.connection_cap),
    CauseRule(read_kinds.LOW_PARALLEL, storage_causes.low_parallel),
    CauseRule(read_kinds.LOW_BANDWIDTH, storage_causes.low_bandwidth),
    CauseRule(read_kinds.FAR_STORE, storage_causes.far_store),
    CauseRule(read_kinds.SLOW_DISK, storage_causes.slow_disk),
)
"""Every cause that is looked for; of equal gains the first here comes first."""


def causes_of(reads: CollectionReads, store: str) -> tuple[Cause, ...]:
    """What makes the judged reads of a collection slow, the gravest first; nothing where they are as fast as
    the machine and the line allow."""
    found = [cause for rule in RULES if (cause := rule.looks(reads, store)) is not None]
    worth = [cause for cause in found if cause.gain >= LEAST_GAIN]
    return tuple(sorted(worth, key=lambda cause: -cause.gain))


def unexplained(reads: CollectionReads) -> Cause | None:
    """Patches that take long although no cause was found."""
    patches = reads.patterns.get(AccessPattern.PATCH)
    if patches is None or patches.warm.percentile_ms(50) <= _SLOWEST_PATCH_MS * reads.stretch:
        return None
    warm = patches.warm.percentile_ms(50)
    return Cause(read_kinds.SLOW_READS, f"a patch takes {warm:.0f} ms", LEAST_GAIN)
