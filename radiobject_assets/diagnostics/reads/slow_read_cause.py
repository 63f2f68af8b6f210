"""One cause of slow reads, with what its mend would bring, and the arithmetic of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from radiobject_assets.diagnostics.findings import Kind
from radiobject_assets.diagnostics.reads.access_patterns import AccessPattern
from radiobject_assets.diagnostics.reads.cache_simulation import SimulatedReads, simulate
from radiobject_assets.diagnostics.reads.measured_reads import CollectionReads, PatternReads
from radiobject_assets.store import CompressionConfig, TileConfig

MB = 2**20
LEAST_GAIN = 1.3
"""A mend that makes reads less than this much faster is not worth a person's time."""
TIMES_TOO_MUCH = 2.0
WORTH_BYTES = 2 * MB
"""Of tiles and caches: twice the bytes, and so many of them for one read (about 2 ms of work)."""


@dataclass(frozen=True)
class ReadChange:
    """What a mend changes: stored volumes, or settings of the process that reads."""

    tile: TileConfig | None = None
    compression: CompressionConfig | None = None
    lay_out_anew: bool = False
    consolidate: bool = False
    cache_mb: int | None = None
    parallel: int | None = None
    fast_voxels: bool = False

    @property
    def is_stored(self) -> bool:
        """Whether it changes how volumes lie in storage."""
        return self.lay_out_anew or self.consolidate


@dataclass(frozen=True)
class Cause:
    """Why reads are slow."""

    kind: Kind
    evidence: str
    gain: float
    """How many times faster the judged reads would be without it; infinite where they would fail."""
    setting: str = ""
    """What to set, exactly."""
    command: str = ""
    change: ReadChange | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """The evidence, what to set, and what that would bring."""
        times = "" if self.gain == float("inf") else f"; predicted gain {self.gain:.1f} times"
        return f"{self.evidence}{f'; set {self.setting}' if self.setting else ''}{times}"


@dataclass(frozen=True)
class CauseRule:
    """A rule that names one cause, or none."""

    kind: Kind
    looks: Callable[[CollectionReads, str], Cause | None]
    """At a collection, and the store as its user named it."""


def judged_of(reads: CollectionReads) -> list[PatternReads]:
    return [reads.patterns[name] for name in reads.judged if name in reads.patterns]


def work_s(reads: CollectionReads, pattern: PatternReads) -> float:
    """Seconds of a pass without what other programs took of this machine."""
    cold = pattern.cold
    return max(1e-9, cold.cpu_s + (cold.counts.waiting_s if reads.on_s3 else 0.0))


def waiting_share(reads: CollectionReads, pattern: PatternReads) -> float:
    return pattern.cold.counts.waiting_s / work_s(reads, pattern) if reads.on_s3 else 0.0


def share_of_bytes(reads: CollectionReads, pattern: PatternReads) -> float:
    """Part of the work that would be less with fewer bytes to fetch and decode."""
    counts = pattern.cold.counts
    waiting = counts.waiting_s
    if reads.on_s3 and reads.far is not None and counts.in_flight > 0:
        round_trips = counts.requests / max(1.0, counts.in_flight)
        waiting = max(0.0, waiting - round_trips * reads.far.round_trip_s)
    share = (counts.decode_cpu_s + counts.check_cpu_s + waiting) / work_s(reads, pattern)
    return min(0.95, share)


def gain_of(share: float, times_less: float) -> float:
    """Of work of which a share becomes so many times less."""
    return 1 / (1 - share * (1 - 1 / times_less))


def simulated(
    reads: CollectionReads, tile: TileConfig | None = None, cache_mb: int | None = None
) -> list[SimulatedReads]:
    layouts = [
        one if tile is None else replace(one, tile=tile.extents_for_shape(one.shape)) for one in reads.layouts
    ]
    return [
        simulate(layouts, one.windows, reads.cache_bytes(one.pattern, cache_mb)) for one in judged_of(reads)
    ]


def times_less(
    reads: CollectionReads, now: Sequence[SimulatedReads], then: Sequence[SimulatedReads]
) -> tuple[float, float, float]:
    """Of bytes to decode: how many times fewer, how many fewer for a read, and the gain."""
    before, after = (sum(one.decoded_bytes for one in some) for some in (now, then))
    patterns = judged_of(reads)
    n_reads = sum(one.cold.reads for one in patterns)
    work = [work_s(reads, one) for one in patterns]
    share = sum(share_of_bytes(reads, one) * w for one, w in zip(patterns, work, strict=True)) / max(
        1e-9, sum(work)
    )
    times = before / max(1, after)
    return times, (before - after) / max(1, n_reads), gain_of(share, max(1.0, times))


def names_of(reads: CollectionReads) -> str:
    names = {AccessPattern.RUN: "what the program reads", AccessPattern.PATCH: "patches"}
    return " and ".join(names.get(one, f"{one.value} reads") for one in reads.judged)


def by(extents: Sequence[int]) -> str:
    return " x ".join(map(str, extents))
