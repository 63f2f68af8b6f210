"""Decoded tiles kept in memory: bounded in bytes, least recently used first out, shared by a process.

TileDB itself keeps no decoded tiles. A tile is kept when it is wanted for the second time: data that is read
once (a full pass, a copy) pays nothing and pushes nothing out. A hit costs a memory copy.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.store.config import MB, config_generation, get_radiobject_config
from radiobject_assets.store.handles import POOL
from radiobject_assets.store.voxel_source import INDEXES

TileKey = tuple[str, tuple[int, ...]]
Reader = Callable[[tuple[int, ...], tuple[int, ...]], NDArray[Any]]

# Keys of tiles that were wanted once; only names are held, about 200 bytes each.
_REMEMBERED = 50_000


@dataclass(frozen=True)
class CacheCounts:
    """What the cache did so far, in tiles, and what it holds."""

    hits: int = 0
    misses: int = 0
    held_bytes: int = 0


class TileCache:
    """Decoded tiles by array and tile position. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._tiles: OrderedDict[TileKey, NDArray[Any]] = OrderedDict()
        self._once: OrderedDict[TileKey, None] = OrderedDict()
        self._bytes = 0
        self._hits = 0
        self._misses = 0

    @property
    def counts(self) -> CacheCounts:
        """Hits and misses in tiles, and bytes held."""
        with self._lock:
            return CacheCounts(self._hits, self._misses, self._bytes)

    def read(
        self,
        uri: str,
        start: tuple[int, ...],
        size: tuple[int, ...],
        shape: tuple[int, ...],
        extents: tuple[int, ...],
        dtype: np.dtype[Any],
        reader: Reader,
    ) -> NDArray[Any]:
        """Voxels [start, start + size) of the array at `uri`, from tiles held here or through `reader`.

        `reader(start, size)` reads stored voxels; it is called with the region itself where tiles are new,
        and with a box of whole tiles where they are worth keeping.
        """
        if 0 in size:
            return reader(start, size)
        first = tuple(s // e for s, e in zip(start, extents, strict=True))
        last = tuple((s + n - 1) // e for s, n, e in zip(start, size, extents, strict=True))
        box_start = tuple(f * e for f, e in zip(first, extents, strict=True))
        box_end = tuple(min((p + 1) * e, whole) for p, e, whole in zip(last, extents, shape, strict=True))
        box_size = tuple(b - a for a, b in zip(box_start, box_end, strict=True))
        if math.prod(box_size) * dtype.itemsize > self.max_bytes // 2:
            self._count_misses(first, last)
            return reader(start, size)
        keys = [(uri, tile) for tile in product(*(range(a, b + 1) for a, b in zip(first, last, strict=True)))]
        with self._lock:
            held = {key: self._tiles[key] for key in keys if key in self._tiles}
            for key in held:
                self._tiles.move_to_end(key)
            known = len(held) == len(keys) or all(key in self._once or key in held for key in keys)
            self._hits += len(held)
            self._misses += len(keys) - len(held)
            if not known:
                for key in keys:
                    self._once[key] = None
                while len(self._once) > _REMEMBERED:
                    self._once.popitem(last=False)
        if len(held) < len(keys):
            if not known:
                return reader(start, size)
            return self._fill(keys, box_start, box_size, start, size, extents, reader)
        out = np.empty(size, dtype, order="F")
        for (_, tile), voxels in held.items():
            origin = [p * e for p, e in zip(tile, extents, strict=True)]
            from_, to = [], []
            for axis, (s, n, o) in enumerate(zip(start, size, origin, strict=True)):
                low, high = max(s, o), min(s + n, o + voxels.shape[axis])
                from_.append(slice(low - o, high - o))
                to.append(slice(low - s, high - s))
            out[tuple(to)] = voxels[tuple(from_)]
        return out

    def _fill(
        self,
        keys: list[TileKey],
        box_start: tuple[int, ...],
        box_size: tuple[int, ...],
        start: tuple[int, ...],
        size: tuple[int, ...],
        extents: tuple[int, ...],
        reader: Reader,
    ) -> NDArray[Any]:
        box = reader(box_start, box_size)
        for key in keys:
            part = tuple(
                slice(p * e - b, min((p + 1) * e - b, n))
                for p, e, b, n in zip(key[1], extents, box_start, box_size, strict=True)
            )
            self._keep(key, np.asfortranarray(box[part]).copy(order="F"))
        inner = tuple(slice(s - b, s - b + n) for s, b, n in zip(start, box_start, size, strict=True))
        return np.array(box[inner], order="F")

    def _keep(self, key: TileKey, voxels: NDArray[Any]) -> None:
        voxels.flags.writeable = False
        with self._lock:
            old = self._tiles.pop(key, None)
            self._bytes += voxels.nbytes - (0 if old is None else old.nbytes)
            self._tiles[key] = voxels
            self._once.pop(key, None)
            while self._bytes > self.max_bytes:
                _, dropped = self._tiles.popitem(last=False)
                self._bytes -= dropped.nbytes

    def _count_misses(self, first: tuple[int, ...], last: tuple[int, ...]) -> None:
        with self._lock:
            self._misses += math.prod(b - a + 1 for a, b in zip(first, last, strict=True))

    def drop(self, uri: str) -> None:
        """Forget the tiles of an array."""
        with self._lock:
            for key in [key for key in self._tiles if key[0] == uri]:
                self._bytes -= self._tiles.pop(key).nbytes
            for key in [key for key in self._once if key[0] == uri]:
                del self._once[key]

    def clear(self) -> None:
        """Forget all tiles; the counts go on."""
        with self._lock:
            self._tiles.clear()
            self._once.clear()
            self._bytes = 0

    def after_fork(self) -> None:
        """In a forked child: a new lock, as the old one may be held by a thread that is not here."""
        self._lock = threading.Lock()


_cache = TileCache(get_radiobject_config().read.tile_cache_size_mb * MB)
_cache_generation = config_generation()
_replace = threading.Lock()


def tile_cache() -> TileCache:
    """The cache of this process; made anew when `ReadConfig.tile_cache_size_mb` was changed."""
    global _cache, _cache_generation
    if _cache_generation != config_generation():
        with _replace:
            size = get_radiobject_config().read.tile_cache_size_mb * MB
            if _cache.max_bytes != size:
                _cache = TileCache(size)
            _cache_generation = config_generation()
    return _cache


def forget_array(uri: str) -> None:
    """Close the kept handle of an array and drop its index and tiles: the next read goes to storage."""
    POOL.drop(uri)
    INDEXES.drop(uri)
    tile_cache().drop(uri)


def _after_fork() -> None:
    global _replace
    _replace = threading.Lock()
    _cache.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
