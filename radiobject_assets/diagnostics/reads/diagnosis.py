"""`diagnose_reads`: a store's reads measured, the causes of what is slow, and their mends tried out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.diagnostics.reads.access_patterns import MEASURED, AccessPattern, Window, windows_of
from radiobject_assets.diagnostics.reads.far_storage import try_far_storage
from radiobject_assets.diagnostics.reads.measured_reads import (
    CollectionReads,
    RunOfUser,
    measure_pattern,
    plain_disk_mb_per_s,
    stretch_now,
)
from radiobject_assets.diagnostics.reads.read_causes import causes_of, unexplained
from radiobject_assets.diagnostics.reads.slow_read_cause import Cause, judged_of, work_s
from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    ObservedRead,
    RadiObject,
    TileDBContext,
    Volume,
    VolumeCollection,
    cache_counts,
    configure,
    consolidate,
    ctx_with,
    get_radiobject_config,
    local_path,
    obs_table,
    observed_reads,
    read_counts,
    rewrite_volumes,
    set_radiobject_config,
)
from radiobject_assets.system.memory import usable_memory_mb

Progress = Callable[[int, int, str], None]

TOLD = 2
"""Causes of a collection that are findings: the one or two that matter."""
_VOLUMES = 3
_RUN_VOLUMES = 8
_RUN_WINDOWS = 200


@dataclass(frozen=True)
class ReadDiagnosis:
    """How a store reads, and why not faster."""

    store: str
    """As its user named it."""
    collections: tuple[CollectionReads, ...]
    causes: Mapping[str, tuple[Cause, ...]]
    """By collection, the gravest first."""

    def report(self) -> Report:
        """The causes that matter as findings, and the figures that were measured."""
        findings = tuple(
            Finding(one.kind, f"collection {name}", one.text, collection=name, command=one.command)
            for name, causes in self.causes.items()
            for one in causes[:TOLD]
        )
        numbers: dict[str, float] = {}
        for reads in self.collections:
            for row in figures_of(reads):
                prefix = f"{reads.collection}_{row['pattern']}"
                numbers.update(
                    {f"{prefix}_{name}": float(v) for name, v in row.items() if name not in ("pattern",)}
                )
        return Report(len(self.collections), "collections", findings, numbers)


def figures_of(reads: CollectionReads) -> list[dict[str, Any]]:
    """A row of figures for each access pattern."""
    rows: list[dict[str, Any]] = []
    for name, one in reads.patterns.items():
        cold, warm = one.cold, one.warm
        work = work_s(reads, one)
        allowed = reads.far.parallel if reads.far is not None else 1
        rows.append(
            {
                "pattern": str(name),
                "reads": cold.reads,
                "cold_p50_ms": round(cold.percentile_ms(50), 2),
                "cold_p95_ms": round(cold.percentile_ms(95), 2),
                "warm_p50_ms": round(warm.percentile_ms(50), 2),
                "warm_p95_ms": round(warm.percentile_ms(95), 2),
                "plain_ms": round(one.plain_ms, 2),
                "copy_ms": round(one.copy_ms, 2),
                "times_plain_read": round(warm.percentile_ms(50) / max(1e-3, one.plain_ms), 2),
                "read_for_each_byte": round(cold.read_for_each_byte, 3),
                "decoded_for_each_byte": round(cold.amplification, 2),
                "hit_rate": round(cold.hit_rate, 3),
                "storage_reads": round(cold.counts.reads / max(1, cold.reads), 2),
                "in_flight": round(cold.counts.in_flight, 2),
                "parallelization": round(min(1.0, cold.counts.in_flight / allowed), 3),
                "waiting_share": round(cold.counts.waiting_s / work, 3) if reads.on_s3 else 0.0,
                "decoding_share": round(cold.counts.decode_cpu_s / work, 3),
            }
        )
    return rows


def diagnose_reads(
    store: str,
    *,
    name: str | None = None,
    collections: Sequence[str] | None = None,
    judged: Sequence[AccessPattern] = (AccessPattern.PATCH,),
    patterns: Sequence[AccessPattern] = MEASURED,
    patch_voxels: tuple[int, int, int] = (64, 64, 64),
    snapshot: str | None = None,
    run: Callable[[], object] | None = None,
    workers: int = 0,
    n_volumes: int = _VOLUMES,
    seed: int = 0,
    ctx: TileDBContext | None = None,
    on_progress: Progress | None = None,
) -> ReadDiagnosis:
    """Read a store as its users do, measure that, and say what makes it slow.

    Parameters
    ----------
    name
        Of the store, in commands that are named; its URI where it is None.
    collections
        All, if None; of those that `run` reads from, if that is given.
    judged
        The access patterns that matter; others are measured and blamed for nothing.
    patterns
        Those that are measured beside.
    run
        A program that reads the store in this process, as training does: it is run once and observed, and
        what it read takes the place of `judged`.
    workers
        Processes that will read at the same time, for what they need of memory.

    Raises
    ------
    StorageError
        There is no such collection, or storage fails.
    """
    reads_of_user, user = _observe(run) if run is not None else ((), None)
    opened = RadiObject(store, ctx=ctx, timestamp=snapshot)
    names = list(opened.collection_names if collections is None else collections)
    measured: list[CollectionReads] = []
    for number, one in enumerate(names):
        if on_progress is not None:
            on_progress(number, len(names), f"reads {one}")
        began = time.perf_counter()
        collection = RadiObject(store, ctx=ctx, timestamp=snapshot).collection(one)
        n_all = len(collection.obs_ids)
        open_s = time.perf_counter() - began
        if n_all == 0:
            continue
        random = np.random.default_rng(seed)
        volumes, own = _chosen(collection, reads_of_user, n_volumes, random)
        if user is not None and not own:
            continue
        measured.append(
            _measured(
                collection,
                volumes,
                judged=(AccessPattern.RUN,) if own else tuple(judged),
                patterns=tuple(dict.fromkeys((*patterns, *([] if own else judged)))),
                own=own,
                user=user,
                patch_voxels=patch_voxels,
                workers=workers,
                open_s=open_s,
                random=random,
                ctx=ctx,
            )
        )
    if not measured:
        raise StorageError(f"{name or store}: there is no volume to read in {', '.join(names) or 'it'}")
    causes: dict[str, tuple[Cause, ...]] = {}
    for reads in measured:
        found = causes_of(reads, name or store)
        left = unexplained(reads) if not found else None
        causes[reads.collection] = found if left is None else (left,)
    return ReadDiagnosis(name or store, tuple(measured), causes)


def _observe(run: Callable[[], object]) -> tuple[tuple[ObservedRead, ...], RunOfUser]:
    counts, cache = read_counts(), cache_counts()
    began, cpu = time.perf_counter(), time.process_time()
    with observed_reads() as reads:
        run()
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    if not reads:
        raise StorageError(
            "the program read no volume in this process: let it read without worker processes "
            "(num_workers=0), and from volumes, not from a patch cache"
        )
    now = cache_counts()
    return tuple(reads), RunOfUser(
        reads=len(reads),
        arrays=len({read.uri for read in reads}),
        wall_s=wall_s,
        cpu_s=cpu_s,
        counts=read_counts() - counts,
        hits=now.hits - cache.hits,
        misses=now.misses - cache.misses,
    )


def _chosen(
    collection: VolumeCollection, reads: Sequence[ObservedRead], most: int, random: np.random.Generator
) -> tuple[list[Volume], tuple[Window, ...]]:
    """The volumes to read, and what a program of the user's own read of them."""
    if not reads:
        chosen = random.choice(len(collection), size=min(most, len(collection)), replace=False)
        return [collection.iloc[int(i)] for i in sorted(chosen)], ()
    places = {str(token): i for i, token in enumerate(collection.to_obs()["volume"])}
    tokens = list(dict.fromkeys(t for read in reads if (t := read.uri.rpartition("/")[2]) in places))
    numbers = {token: number for number, token in enumerate(tokens[:_RUN_VOLUMES])}
    windows = [
        Window(numbers[token], read.start, read.size)
        for read in reads
        if (token := read.uri.rpartition("/")[2]) in numbers
    ]
    return [collection.iloc[places[token]] for token in numbers], tuple(windows[:_RUN_WINDOWS])


def _measured(
    collection: VolumeCollection,
    volumes: Sequence[Volume],
    *,
    judged: tuple[AccessPattern, ...],
    patterns: tuple[AccessPattern, ...],
    own: tuple[Window, ...],
    user: RunOfUser | None,
    patch_voxels: tuple[int, int, int],
    workers: int,
    open_s: float,
    random: np.random.Generator,
    ctx: TileDBContext | None,
) -> CollectionReads:
    config = get_radiobject_config()
    layouts = tuple(volume.stored_layout for volume in volumes)
    shapes = [layout.shape for layout in layouts]
    too_large = max(layout.voxel_bytes for layout in layouts) > config.read.memory_budget_mb * 2**20 // 2
    stretches = [stretch_now()]
    found = {}
    windows = {
        pattern: windows_of(pattern, shapes, patch_voxels, random)
        for pattern in patterns
        if not (pattern is AccessPattern.WHOLE and too_large)
    }
    if own:
        windows[AccessPattern.RUN] = own
    for pattern, some in windows.items():
        found[pattern] = measure_pattern(
            pattern, volumes, some, config.read.max_workers, n_volumes=len(collection)
        )
        stretches.append(stretch_now())
    on_s3 = local_path(volumes[0].uri) is None
    far = None
    if on_s3:
        own_reads = [found[one].cold for one in judged if one in found]
        # an array's index is read once, when it is opened
        requests = sum(one.counts.reads - one.counts.opened for one in own_reads)
        n_reads = max(1, sum(one.reads for one in own_reads))
        fetched = sum(one.counts.stored_bytes for one in own_reads)
        far = try_far_storage(volumes[0].uri, ctx, max(1, requests / n_reads), fetched / n_reads)
    foreign = collection.is_radiobjects
    return CollectionReads(
        collection=collection.name,
        n_volumes=len(collection),
        on_s3=on_s3,
        foreign=foreign,
        obs_ids=tuple(str(volume.obs_id) for volume in volumes),
        layouts=layouts,
        patterns=found,
        judged=judged,
        segments=0 if foreign else len(obs_table(collection.uri, ctx).state.segments),
        open_s=open_s,
        stretch=float(np.median(stretches)),
        config=config,
        memory_mb=usable_memory_mb(),
        workers=workers,
        trials=volumes[0].codec_trials(),
        far=far,
        disk_mb_per_s=None if on_s3 else plain_disk_mb_per_s(volumes[0]),
        run=user,
    )


# -- mends --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AppliedMend:
    """A mend, and what it brought."""

    collection: str
    cause: Cause
    gain: float
    """Measured: how many times faster the same reads are than before."""
    is_kept: bool
    """Whether it holds from now on; a setting was tried in this process and has to be set where reads are."""

    @property
    def text(self) -> str:
        """Predicted and measured gain side by side."""
        kept = "" if self.is_kept else f" (tried here; to keep it, set {self.cause.setting})"
        return (
            f"{self.collection}: {self.cause.kind.problem}: predicted {self.cause.gain:.1f} times faster, "
            f"measured {self.gain:.1f} times{kept}"
        )


def apply_mends(
    store: str,
    diagnosis: ReadDiagnosis,
    *,
    ctx: TileDBContext | None = None,
    on_progress: Progress | None = None,
) -> tuple[AppliedMend, ...]:
    """Apply the first mend of each collection that is safe, and measure the same reads again.

    Stored volumes are changed only by `rewrite_volumes` and `consolidate`: voxels stay equal by digest, and
    snapshots keep what they name. Settings are tried in this process and put back.

    Raises
    ------
    StorageError
        If storage fails; what was committed before stays.
    """
    applied = []
    for reads in diagnosis.collections:
        for cause in diagnosis.causes[reads.collection][:TOLD]:
            if cause.change is not None and cause.kind.mend.is_safe:
                applied.append(_applied(store, reads, cause, ctx, on_progress))
                break
    return tuple(applied)


def _applied(
    store: str, reads: CollectionReads, cause: Cause, ctx: TileDBContext | None, on_progress: Progress | None
) -> AppliedMend:
    change = cause.change
    assert change is not None
    if change.lay_out_anew:
        rewrite_volumes(
            store,
            reads.collection,
            tile=change.tile,
            compression=change.compression,
            ctx=ctx,
            on_progress=on_progress,
        )
    if change.consolidate:
        consolidate(store, ctx)
    with _settings(cause, ctx) as own:
        began = time.perf_counter()
        collection = RadiObject(store, ctx=own).collection(reads.collection)
        by_id = {obs_id: place for place, obs_id in enumerate(collection.obs_ids)}
        open_s = time.perf_counter() - began
        if change.consolidate:
            return AppliedMend(reads.collection, cause, reads.open_s / max(1e-9, open_s), True)
        volumes = [collection.iloc[by_id[obs_id]] for obs_id in reads.obs_ids]
        before = after = 0.0
        for one in judged_of(reads):
            again = measure_pattern(
                one.pattern,
                volumes,
                one.windows,
                reads.config.read.max_workers,
                n_volumes=reads.n_volumes,
            )
            before += work_s(reads, one) / max(1, one.cold.asked_bytes)
            after += work_s(reads, again) / max(1, again.cold.asked_bytes)
    return AppliedMend(reads.collection, cause, before / max(1e-9, after), change.is_stored)


@contextmanager
def _settings(cause: Cause, ctx: TileDBContext | None) -> Iterator[TileDBContext | None]:
    """The settings that a mend names, for the length of the block; the context to read with."""
    change, config = cause.change, get_radiobject_config()
    assert change is not None
    try:
        if change.cache_mb is not None:
            configure(read=config.read.model_copy(update={"tile_cache_size_mb": change.cache_mb}))
        if change.fast_voxels:
            configure(voxels="fast")
        if change.parallel is not None:
            if ctx is None:
                configure(s3=config.s3.model_copy(update={"max_parallel_ops": change.parallel}))
            else:
                ctx = ctx_with(ctx, **{"vfs.s3.max_parallel_ops": str(change.parallel)})
        yield ctx
    finally:
        if get_radiobject_config() is not config:
            set_radiobject_config(config)
