"""How fast a collection's volumes read, and why: a small measurement, and the arithmetic of its tiles.

The measurement depends on the machine; the read amplification does not. So the verdict rests on the
amplification first, and on the time only where it is far beyond what any layout explains.
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

# Out of 64 x 64 x 32 tiles, a patch of 64^3 decodes 6 times its own voxels and one of 32^3 17 times; out of
# whole slices of 512 x 512, 64 and 256 times.
HIGHEST_AMPLIFICATION = 32.0
ISOTROPIC_TILE = (64, 64, 32)
# On S3 at 50 ms latency, open and one tile take 225 ms (measured); what takes longer has another cause.
SLOWEST_PATCH_MS = 500.0
# Below this nobody waits: a few threads read a batch of such patches while a GPU makes a step.
NOTICEABLE_PATCH_MS = 20.0


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

    @property
    def tiles_are_coarse(self) -> bool:
        """Whether other tiles would make patches read faster, by so much that somebody would notice."""
        cubes = read_amplification(self.patch_voxels, ISOTROPIC_TILE, self.shape_voxels)
        return (
            self.amplification > HIGHEST_AMPLIFICATION
            and self.amplification > 2 * cubes
            and self.patch_ms > NOTICEABLE_PATCH_MS
        )

    @property
    def problem(self) -> str:
        """What makes reading slow; empty when nothing does."""
        if self.tiles_are_coarse:
            return (
                f"a patch of {_by(self.patch_voxels)} takes {self.patch_ms:.0f} ms and decodes "
                f"{self.amplification:.0f} times its own voxels, because tiles are {_by(self.tile_voxels)}"
            )
        if self.patch_ms > SLOWEST_PATCH_MS:
            return f"a patch takes {self.patch_ms:.0f} ms, more than its tiles explain"
        return ""


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


def _by(extents: Sequence[int]) -> str:
    return " x ".join(map(str, extents))
