"""What the cache of decoded tiles would do, with other tiles or another size: exact, without a read.

The rules are those of `store.arrays.tile_cache`: a tile is kept when it is wanted for the second time, least
recently used first out, and no read of more than half of the cache is kept. A test holds the two together.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from radiobject_assets.diagnostics.reads.access_patterns import Window
from radiobject_assets.store import StoredLayout


@dataclass(frozen=True)
class SimulatedReads:
    """What a sequence of reads would take."""

    decoded_bytes: int
    hits: int
    misses: int

    @property
    def hit_rate(self) -> float:
        """Share of tiles that came from memory."""
        return self.hits / max(1, self.hits + self.misses)


def simulate(layouts: Sequence[StoredLayout], windows: Sequence[Window], cache_bytes: int) -> SimulatedReads:
    """Read windows of volumes that lie in storage like this, beginning with an empty cache."""
    held: OrderedDict[tuple[int, tuple[int, ...]], int] = OrderedDict()
    once: set[tuple[int, tuple[int, ...]]] = set()
    decoded = hits = misses = kept_bytes = 0
    for window in windows:
        layout = layouts[window.volume]
        itemsize = np.dtype(layout.dtype).itemsize
        first = [s // e for s, e in zip(window.start, layout.tile, strict=True)]
        last = [(s + n - 1) // e for s, n, e in zip(window.start, window.size, layout.tile, strict=True)]
        box_start = tuple(f * e for f, e in zip(first, layout.tile, strict=True))
        box_size = tuple(
            min((b + 1) * e, n) - s
            for b, e, n, s in zip(last, layout.tile, layout.shape, box_start, strict=True)
        )
        positions = list(product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))))
        if math.prod(box_size) * itemsize > cache_bytes // 2:
            misses += len(positions)
            decoded += layout.decoded_bytes(window.start, window.size)
            continue
        keys = [(window.volume, position) for position in positions]
        there = [key for key in keys if key in held]
        for key in there:
            held.move_to_end(key)
        hits += len(there)
        misses += len(keys) - len(there)
        if len(there) == len(keys):
            continue
        if not all(key in once or key in held for key in keys):
            once.update(keys)
            decoded += layout.decoded_bytes(window.start, window.size)
            continue
        decoded += layout.decoded_bytes(box_start, box_size)
        for key in keys:
            kept_bytes -= held.pop(key, 0)
            nbytes = itemsize * math.prod(
                min(e, n - p * e) for p, e, n in zip(key[1], layout.tile, layout.shape, strict=True)
            )
            held[key] = nbytes
            kept_bytes += nbytes
            once.discard(key)
            while kept_bytes > cache_bytes:
                kept_bytes -= held.popitem(last=False)[1]
    return SimulatedReads(decoded, hits, misses)
