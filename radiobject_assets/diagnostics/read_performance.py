"""How fast a collection's patches read: one figure that is comparable over the months.

What makes it slow is told by `reads.diagnosis`; here is the measurement whose past is kept.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radiobject_assets.diagnostics.yardstick import plain_read_ms
from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject, TileDBContext, Volume


@dataclass(frozen=True)
class ReadPerformance:
    """What reading random patches of one collection costs."""

    collection: str
    n_volumes: int
    samples: int
    patch_voxels: tuple[int, int, int]
    tile_voxels: tuple[int, ...]
    shape_voxels: tuple[int, ...]
    open_ms: float
    """Median time to open a volume and read one voxel."""
    patch_ms: float
    """Median time to read a patch of an open volume."""
    slowest_patch_ms: float
    mb_per_s: float
    """Patch bytes returned a second."""
    times_plain_read: float
    """`patch_ms` as a multiple of what a plain file of as many bytes takes on this machine at this time."""
    amplification: float
    """Voxels that are decoded for each voxel of a patch, on average."""


def read_amplification(
    patch_voxels: Sequence[int], tile_voxels: Sequence[int], shape_voxels: Sequence[int]
) -> float:
    """Voxels decoded for each voxel returned, averaged over all places of a patch.

    Along one axis a patch of p voxels at a random place touches 1 + (p - 1) / t tiles of t voxels.
    """
    factors = []
    for patch, tile, size in zip(patch_voxels, tile_voxels, shape_voxels, strict=False):
        wanted = min(patch, size)
        decoded = min((1 + (wanted - 1) / tile) * tile, math.ceil(size / tile) * tile)
        factors.append(decoded / wanted)
    return math.prod(factors)


def measure_reads(
    store_uri: str,
    collection: str,
    *,
    snapshot: str | None = None,
    patch_voxels: tuple[int, int, int] = (64, 64, 64),
    samples: int = 12,
    seed: int = 0,
    ctx: TileDBContext | None = None,
) -> ReadPerformance:
    """Read random patches of a collection's volumes and time them.

    Raises
    ------
    StorageError
        There is no such collection, or it has no volume.
    """
    store = RadiObject(store_uri, ctx=ctx, timestamp=snapshot)
    volumes = store.collection(collection)
    if len(volumes) == 0:
        raise StorageError(f"collection {collection!r} has no volume to read")
    random = np.random.default_rng(seed)
    chosen = random.choice(len(volumes), size=min(4, len(volumes)), replace=False)
    open_ms: list[float] = []
    patch_ms: list[float] = []
    n_bytes = 0
    opened: list[Volume] = []
    for index in sorted(int(i) for i in chosen):
        started = time.perf_counter()
        volume = volumes.iloc[index]
        volume[0, 0, 0] if volume.ndim == 3 else volume[0, 0, 0, 0]
        open_ms.append((time.perf_counter() - started) * 1000)
        opened.append(volume)
    for sample in range(samples):
        volume = opened[sample % len(opened)]
        corner = [
            int(random.integers(0, max(1, s - p + 1)))
            for s, p in zip(volume.shape, patch_voxels, strict=False)
        ]
        window = tuple(slice(c, c + p) for c, p in zip(corner, patch_voxels, strict=True))
        started = time.perf_counter()
        patch = volume[window] if volume.ndim == 3 else volume[(*window, 0)]
        patch_ms.append((time.perf_counter() - started) * 1000)
        n_bytes += patch.nbytes
    tiles = opened[0].tile_extents
    return ReadPerformance(
        collection=collection,
        n_volumes=len(volumes),
        samples=samples,
        patch_voxels=patch_voxels,
        tile_voxels=tiles,
        shape_voxels=opened[0].shape,
        open_ms=round(statistics.median(open_ms), 2),
        patch_ms=round(statistics.median(patch_ms), 2),
        slowest_patch_ms=round(max(patch_ms), 2),
        times_plain_read=round(
            statistics.median(patch_ms) / plain_read_ms(max(1, n_bytes // max(1, samples))), 3
        ),
        mb_per_s=round(n_bytes / 2**20 / (sum(patch_ms) / 1000), 1),
        amplification=round(read_amplification(patch_voxels, tiles, opened[0].shape), 2),
    )
