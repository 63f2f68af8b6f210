"""Decoded tiles kept in memory: bounded in bytes, least recently used first out, shared by a process.

TileDB itself keeps no decoded tiles. A tile is kept when it is wanted for the second time: data that is read
once (a full pass, a copy) pays nothing and pushes nothing out. A hit costs a memory copy.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.store.arrays.doors import VoxelReader
from radiobject_assets.store.arrays.handles import POOL
from radiobject_assets.store.arrays.reader_cache import READERS
from radiobject_assets.store.blocks.regions import Region
from radiobject_assets.store.storage.config import MB, config_generation, get_radiobject_config
from radiobject_assets.system.processes import after_fork

TileKey = tuple[str, tuple[int, ...]]

# Keys of tiles that were wanted once; only names are held, about 200 bytes each.
_REMEMBERED = 50_000


@dataclass(frozen=True)
class CacheCounts:
    """What the cache did so far, in tiles, and what it holds."""

    hits: int = 0
    misses: int = 0
    held_bytes: int = 0
    lost: int = 0
    """Of the misses, tiles that had been held and were pushed out."""


class TileCache:
    """Decoded tiles by array and tile position. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._tiles: OrderedDict[TileKey, NDArray[Any]] = OrderedDict()
        self._once: OrderedDict[TileKey, None] = OrderedDict()
        self._pushed_out: OrderedDict[TileKey, None] = OrderedDict()
        self._lost = 0
        self._bytes = 0
        self._hits = 0
        self._misses = 0

    @property
    def counts(self) -> CacheCounts:
        """Hits and misses in tiles, and bytes held."""
        with self._lock:
            return CacheCounts(self._hits, self._misses, self._bytes, self._lost)

    def read(self, uri: str, reader: VoxelReader, region: Region) -> NDArray[Any]:
        """Voxels of a region of the array at `uri` as they are carried, in Fortran order.

        From tiles held here, or through `reader`: the region itself where tiles are new, and the box of whole
        tiles around it where they are worth keeping.
        """
        if not region.within(reader.shape) or 0 in region.size:
            return _read(reader, region)
        extents = reader.tile
        ends = [s + n for s, n in zip(region.start, region.size, strict=True)]
        first = [s // e for s, e in zip(region.start, extents, strict=True)]
        last = [(end - 1) // e for end, e in zip(ends, extents, strict=True)]
        start = tuple(f * e for f, e in zip(first, extents, strict=True))
        box_ends = [min((p + 1) * e, n) for p, e, n in zip(last, extents, reader.shape, strict=True)]
        box = Region(start, tuple(b - a for a, b in zip(start, box_ends, strict=True)))
        if math.prod(box.size) * reader.dtype.itemsize > self.max_bytes // 2:
            with self._lock:
                self._misses += math.prod(b - a + 1 for a, b in zip(first, last, strict=True))
            return _read(reader, region)
        keys = [(uri, tile) for tile in product(*(range(a, b + 1) for a, b in zip(first, last, strict=True)))]
        with self._lock:
            held = {key: self._tiles[key] for key in keys if key in self._tiles}
            for key in held:
                self._tiles.move_to_end(key)
            known = len(held) == len(keys) or all(key in self._once or key in held for key in keys)
            self._hits += len(held)
            self._misses += len(keys) - len(held)
            self._lost += sum(key in self._pushed_out for key in keys)
            if not known:
                for key in keys:
                    self._once[key] = None
                while len(self._once) > _REMEMBERED:
                    self._once.popitem(last=False)
        if not known:
            return _read(reader, region)
        if len(held) < len(keys):
            voxels = _read(reader, box)
            for key in keys:
                tile = _tile_region(key[1], extents, reader.shape)
                self._keep(key, voxels[_within(tile, box.start)].copy(order="F"))
            return voxels[_within(region, box.start)].copy(order="F")
        out = np.empty(region.size, reader.dtype, order="F")
        for (_, position), voxels in held.items():
            tile = _tile_region(position, extents, reader.shape)
            begin = tuple(map(max, tile.start, region.start))
            stop = map(min, ends, (s + n for s, n in zip(tile.start, tile.size, strict=True)))
            part = Region(begin, tuple(b - a for a, b in zip(begin, stop, strict=True)))
            out[_within(part, region.start)] = voxels[_within(part, tile.start)]
        return out

    def _keep(self, key: TileKey, voxels: NDArray[Any]) -> None:
        voxels.flags.writeable = False
        with self._lock:
            old = self._tiles.pop(key, None)
            self._bytes += voxels.nbytes - (0 if old is None else old.nbytes)
            self._tiles[key] = voxels
            self._once.pop(key, None)
            self._pushed_out.pop(key, None)
            while self._bytes > self.max_bytes:
                pushed, dropped = self._tiles.popitem(last=False)
                self._bytes -= dropped.nbytes
                self._pushed_out[pushed] = None
                if len(self._pushed_out) > _REMEMBERED:
                    self._pushed_out.popitem(last=False)

    def drop(self, uri: str) -> None:
        """Forget the tiles of an array."""
        with self._lock:
            for key in [key for key in self._tiles if key[0] == uri]:
                self._bytes -= self._tiles.pop(key).nbytes
            for names in (self._once, self._pushed_out):
                for key in [key for key in names if key[0] == uri]:
                    del names[key]

    def clear(self) -> None:
        """Forget all tiles; the counts go on."""
        with self._lock:
            self._tiles.clear()
            self._once.clear()
            self._pushed_out.clear()
            self._bytes = 0

    def after_fork(self) -> None:
        """In a forked child: a new lock, as the old one may be held by a thread that is not here."""
        self._lock = threading.Lock()


def _read(reader: VoxelReader, region: Region) -> NDArray[Any]:
    out: NDArray[Any] = np.empty(region.size, reader.dtype, order="F")
    if out.size:
        reader.read(region, out)
    return out


def _tile_region(position: Sequence[int], extents: Sequence[int], shape: Sequence[int]) -> Region:
    """Voxels of a tile, those beyond the array's far faces left out."""
    start = tuple(p * e for p, e in zip(position, extents, strict=True))
    return Region(start, tuple(min(e, n - s) for s, e, n in zip(start, extents, shape, strict=True)))


def _within(region: Region, origin: Sequence[int]) -> tuple[slice, ...]:
    """Where a region is in an array whose first voxel is at `origin`."""
    begins = [s - o for s, o in zip(region.start, origin, strict=True)]
    return tuple(slice(b, b + n) for b, n in zip(begins, region.size, strict=True))


_cache = TileCache(get_radiobject_config().read.tile_cache_size_mb * MB)
_cache_generation = config_generation()
_replace = threading.Lock()


def cache_counts() -> CacheCounts:
    """What the cache of this process did so far."""
    return tile_cache().counts


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
    """Close the kept handle of an array and drop its reader and tiles: the next read goes to storage."""
    POOL.drop(uri)
    READERS.drop(uri)
    tile_cache().drop(uri)


def _after_fork() -> None:
    global _replace
    _replace = threading.Lock()
    _cache.after_fork()


after_fork(_after_fork)
