"""Causes that lie in how volumes are stored: tiles, codec, index, files."""

from __future__ import annotations

from radiobject_assets.diagnostics import read_kinds
from radiobject_assets.diagnostics.reads.measured_reads import CollectionReads
from radiobject_assets.diagnostics.reads.reader_causes import small_tile_cache
from radiobject_assets.diagnostics.reads.slow_read_cause import (
    TIMES_TOO_MUCH,
    WORTH_BYTES,
    Cause,
    ReadChange,
    by,
    gain_of,
    judged_of,
    names_of,
    simulated,
    times_less,
    work_s,
)
from radiobject_assets.store import CompressionConfig, Compressor, SliceOrientation, TileConfig

_HEAVY = 1.5
_MANY_FILES = 4
# Commits merge them: a table of any size has fewer.
_MANY_SEGMENTS = 32


def coarse_tiles(reads: CollectionReads, store: str) -> Cause | None:
    # what a larger cache would mend is no fault of the tiles
    cache = small_tile_cache(reads, store)
    cache_mb = cache.change.cache_mb if cache is not None and cache.change is not None else None
    now = simulated(reads, cache_mb=cache_mb)
    if not now:
        return None
    best: tuple[float, SliceOrientation] | None = None
    for orientation in SliceOrientation:
        tile = TileConfig(orientation=orientation)
        times, fewer, gain = times_less(reads, now, simulated(reads, tile, cache_mb))
        if times >= TIMES_TOO_MUCH and fewer >= WORTH_BYTES and (best is None or gain > best[0]):
            best = gain, orientation
    if best is None:
        return None
    gain, orientation = best
    tile = TileConfig(orientation=orientation)
    asked = sum(one.cold.asked_bytes for one in judged_of(reads))
    amplification = sum(one.decoded_bytes for one in now) / max(1, asked)
    layout = reads.layouts[0]
    return Cause(
        read_kinds.COARSE_TILES,
        f"reading {names_of(reads)} decodes {amplification:.1f} times what is asked for, because tiles are "
        f"{by(layout.tile)}",
        gain,
        f"tiles {by(tile.extents_for_shape(layout.shape))} ({orientation.value})",
        f"radiobject-assets retile {store} {reads.collection} --tile {orientation.value}",
        ReadChange(tile=tile, lay_out_anew=True),
    )


def heavy_codec(reads: CollectionReads, store: str) -> Cause | None:
    codec = reads.layouts[0].codec
    if codec in ("zstd", "lz4") or codec not in reads.trials or not judged_of(reads):
        return None
    own, zstd = reads.trials[codec], reads.trials["zstd"]
    times = own.decode_cpu_s / max(1e-9, zstd.decode_cpu_s)
    if times < _HEAVY:
        return None
    work = sum(work_s(reads, one) for one in judged_of(reads))
    decoding = sum(one.cold.counts.decode_cpu_s for one in judged_of(reads))
    share = min(0.95, decoding / work)
    return Cause(
        read_kinds.HEAVY_CODEC,
        f"{share:.0%} of the work of a read is decoding {codec}, which takes {times:.1f} times what zstd "
        "takes for the same voxels",
        gain_of(share, times),
        "compression zstd, level 1",
        f"radiobject-assets recompress {store} {reads.collection} --codec zstd --level 1",
        ReadChange(compression=CompressionConfig(algorithm=Compressor.ZSTD, level=1), lay_out_anew=True),
    )


def no_tile_index(reads: CollectionReads, store: str) -> Cause | None:
    without = sum(not layout.indexed for layout in reads.layouts)
    if not without:
        return None
    if reads.foreign:
        return Cause(
            read_kinds.NO_TILE_INDEX,
            "the store was written by the RadiObject package",
            2.0,
            "a copy in this package's format",
            f"radiobject-assets import-radiobject {store} NEW",
        )
    return Cause(
        read_kinds.NO_TILE_INDEX,
        f"{without} of {len(reads.layouts)} volumes that were looked at have no tile index",
        # what the two readers took for the same regions when they were compared (docs/design)
        2.0,
        "a tile index",
        f"radiobject-assets retile {store} {reads.collection}",
        ReadChange(lay_out_anew=True),
    )


def many_fragments(reads: CollectionReads, store: str) -> Cause | None:
    files = max(layout.files for layout in reads.layouts)
    if files < _MANY_FILES or not reads.on_s3 or reads.far is None:
        return None  # on a disk a file more costs 30 us
    work = saved = touched = n_reads = 0.0
    for one in judged_of(reads):
        work += work_s(reads, one)
        for window in one.windows:
            layout = reads.layouts[window.volume]
            of_window = 1 + (layout.files - 1) * window.size[2] / layout.shape[2]
            touched += of_window
            saved += (of_window - 1) * reads.far.round_trip_s
            n_reads += 1
    if not n_reads:
        return None
    return Cause(
        read_kinds.MANY_FRAGMENTS,
        f"a volume lies in up to {files} files, and a read goes to {touched / n_reads:.0f} of them, one "
        f"after the other, {reads.far.round_trip_s * 1000:.0f} ms each",
        gain_of(min(0.95, saved / work), float("inf")),
        "one file for each volume",
        f"radiobject-assets retile {store} {reads.collection}",
        ReadChange(lay_out_anew=True),
    )


def many_segments(reads: CollectionReads, store: str) -> Cause | None:
    if reads.segments < _MANY_SEGMENTS:
        return None
    return Cause(
        read_kinds.MANY_SEGMENTS,
        f"the rows of {reads.collection} are in {reads.segments} files, and opening it takes "
        f"{reads.open_s * 1000:.0f} ms",
        reads.segments / 4,  # of opening; a table that was merged still has a few
        "few files of rows",
        f"radiobject-assets consolidate {store}",
        ReadChange(consolidate=True),
    )
