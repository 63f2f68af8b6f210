"""Reads of a collection, measured: access patterns cold and warm, beside yardsticks of the same minute."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from radiobject_assets.diagnostics.reads.access_patterns import AccessPattern, Window
from radiobject_assets.diagnostics.reads.far_storage import FarTrial
from radiobject_assets.diagnostics.yardstick import plain_read_ms
from radiobject_assets.store import (
    CacheCounts,
    CodecTrial,
    RadiObjectConfig,
    ReadCounts,
    StoredLayout,
    Volume,
    cache_counts,
    configure,
    get_radiobject_config,
    local_path,
    map_on_threads,
    read_counts,
    set_radiobject_config,
)

# A slow line would take minutes for what a few reads tell.
_PASS_S = 15.0
_LEAST_READS = 2
_PLAIN_BYTES = 16 * 2**20


@dataclass(frozen=True)
class PassOfReads:
    """Windows that were read one after the other, or on threads."""

    reads: int
    asked_bytes: int
    """Of the voxels that were asked for."""
    ms: tuple[float, ...]
    wall_s: float
    cpu_s: float
    """Of all threads of this process."""
    counts: ReadCounts
    hits: int
    """Tiles that came from memory."""
    misses: int
    lost: int
    """Of the misses, tiles that had been in memory and were pushed out."""

    def percentile_ms(self, percent: float) -> float:
        """Of the time of one read."""
        return float(np.percentile(self.ms, percent))

    @property
    def hit_rate(self) -> float:
        """Share of tiles that came from memory."""
        return self.hits / max(1, self.hits + self.misses)

    @property
    def amplification(self) -> float:
        """Bytes decoded for each byte asked for."""
        return self.counts.decoded_bytes / max(1, self.asked_bytes)

    @property
    def read_for_each_byte(self) -> float:
        """Bytes read from storage for each byte asked for."""
        return self.counts.stored_bytes / max(1, self.asked_bytes)


@dataclass(frozen=True)
class PatternReads:
    """One access pattern."""

    pattern: AccessPattern
    windows: tuple[Window, ...]
    """Those that were read: fewer than were meant where they took long."""
    cold: PassOfReads
    """Nothing was kept: arrays not open, no tiles in memory, no pages of a disk."""
    warm: PassOfReads
    """The same once more."""
    plain_ms: float
    """A file with as many bytes as one of the reads fetches, read and copied at the same time."""
    copy_ms: float
    """A copy in memory of as many bytes as one of the reads asks for."""


@dataclass(frozen=True)
class RunOfUser:
    """What a program of the user's own read in this process."""

    reads: int
    arrays: int
    wall_s: float
    cpu_s: float
    counts: ReadCounts
    hits: int
    misses: int


@dataclass(frozen=True)
class CollectionReads:
    """All that was measured of a collection: what causes are told from."""

    collection: str
    n_volumes: int
    on_s3: bool
    foreign: bool
    """Whether the RadiObject package wrote it, so that it is only read here."""
    obs_ids: tuple[str, ...] = field(repr=False)
    """Of the volumes that were read; they may identify people."""
    layouts: tuple[StoredLayout, ...]
    """Of the same."""
    patterns: Mapping[AccessPattern, PatternReads]
    judged: tuple[AccessPattern, ...]
    """Those that matter to whoever uses the store."""
    segments: int
    """Files that the rows of the collection are in."""
    open_s: float
    """To open the collection and read its rows."""
    stretch: float
    """Times that a computation takes longer than it works: 1 on a machine with nothing else to do."""
    config: RadiObjectConfig
    memory_mb: int
    """That this machine, or its container, allows."""
    workers: int = 0
    """Processes that read at the same time; 0: this one."""
    trials: Mapping[str, CodecTrial] = field(default_factory=dict)
    far: FarTrial | None = None
    disk_mb_per_s: float | None = None
    """Of a plain read of one of the array's files, nothing of it kept in memory."""
    run: RunOfUser | None = None

    def cache_bytes(self, pattern: AccessPattern, cache_mb: int | None = None) -> int:
        """Of the cache of tiles, as far as it helps: see `is_drawn`."""
        size = (self.config.read.tile_cache_size_mb if cache_mb is None else cache_mb) * 2**20
        largest = max(layout.voxel_bytes for layout in self.layouts)
        return 0 if is_drawn(pattern, self.n_volumes * largest, size) else size


def is_drawn(pattern: AccessPattern, collection_bytes: int, cache_bytes: int) -> bool:
    """Whether what is read is drawn from more volumes than the cache holds: no tile is wanted twice in time.

    A few volumes are measured, and training draws patches from all of them.
    """
    return pattern in (AccessPattern.PATCH, AccessPattern.BATCH) and collection_bytes > cache_bytes


@contextmanager
def without_tile_cache() -> Iterator[None]:
    """Keep no tiles, for the length of the block."""
    config = get_radiobject_config()
    configure(read=config.read.model_copy(update={"tile_cache_size_mb": 0}))
    try:
        yield
    finally:
        set_radiobject_config(config)


def read_windows(volumes: Sequence[Volume], windows: Sequence[Window], threads: int = 1) -> PassOfReads:
    """Read windows of volumes and count what that takes."""
    ms: list[float] = []
    asked: list[int] = []

    def read(window: Window) -> None:
        began = time.perf_counter()
        voxels = volumes[window.volume].read_box(window.start, window.size)
        ms.append((time.perf_counter() - began) * 1000)
        asked.append(voxels.nbytes)

    counts, cache = read_counts(), cache_counts()
    began, cpu = time.perf_counter(), time.process_time()
    if threads > 1:
        map_on_threads(read, windows, threads)
    else:
        for number, window in enumerate(windows):
            if number >= _LEAST_READS and time.perf_counter() - began > _PASS_S:
                break
            read(window)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    hits, misses, lost = _since(cache)
    return PassOfReads(
        len(ms), sum(asked), tuple(ms), wall_s, cpu_s, read_counts() - counts, hits, misses, lost
    )


def measure_pattern(
    pattern: AccessPattern,
    volumes: Sequence[Volume],
    windows: Sequence[Window],
    threads: int,
    *,
    n_volumes: int,
) -> PatternReads:
    """Read windows cold and warm, with the yardsticks between.

    Parameters
    ----------
    n_volumes
        Of the whole collection.
    """
    cache_bytes = get_radiobject_config().read.tile_cache_size_mb * 2**20
    largest = max(volume.stored_layout.voxel_bytes for volume in volumes)
    with without_tile_cache() if is_drawn(pattern, n_volumes * largest, cache_bytes) else nullcontext():
        return _measured_pattern(pattern, volumes, windows, threads)


def _measured_pattern(
    pattern: AccessPattern, volumes: Sequence[Volume], windows: Sequence[Window], threads: int
) -> PatternReads:
    threads = threads if pattern is AccessPattern.BATCH else 1
    for volume in volumes:
        volume.make_cold()
    cold = read_windows(volumes, windows, threads)
    done = tuple(windows) if threads > 1 else tuple(windows[: cold.reads])
    plain = plain_read_ms(max(1, cold.counts.stored_bytes // max(1, cold.reads)))
    copy = _copy_ms(max(1, cold.asked_bytes // max(1, cold.reads)))
    return PatternReads(pattern, done, cold, read_windows(volumes, done, threads), plain, copy)


def stretch_now() -> float:
    """Times that a short computation takes longer than it works, on this machine at this moment."""
    block = np.arange(1 << 18, dtype=np.int64)
    ratios = []
    for _ in range(15):
        wall, cpu = time.perf_counter(), time.thread_time()
        block.cumsum().sum()
        worked = time.thread_time() - cpu
        ratios.append((time.perf_counter() - wall) / max(1e-6, worked))
    # a mean: what waits for its turn waits seldom and then long
    return max(1.0, statistics.fmean(ratios))


def plain_disk_mb_per_s(volume: Volume) -> float | None:
    """A plain read of the largest file of a volume, up to 16 MB, nothing of it kept in memory."""
    folder = local_path(volume.uri)
    if folder is None:
        return None
    file = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    volume.make_cold()
    began = time.perf_counter()
    with file.open("rb", buffering=0) as opened:
        nbytes = len(opened.read(_PLAIN_BYTES))
    return nbytes / 2**20 / max(1e-9, time.perf_counter() - began)


def _copy_ms(nbytes: int) -> float:
    block = np.ones(nbytes, np.uint8)
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        block.copy()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def _since(earlier: CacheCounts) -> tuple[int, int, int]:
    now = cache_counts()
    return now.hits - earlier.hits, now.misses - earlier.misses, now.lost - earlier.lost
