"""Buffers that are used again as soon as, and only when, nothing refers to them any more."""

from __future__ import annotations

import sys
from collections.abc import Callable

from radiobject_assets.training.cache.cache_reading import PatchBatch


class BufferPool:
    """Hands out batches of one shape, again and again.

    A fresh 33 MB tensor for each batch costs more than filling it: the kernel takes large allocations back
    and faults them in again, page by page. A ring of buffers would be quick, but silently overwrites a
    batch that the training loop still holds. So a buffer is handed out again only when its arrays have no
    references beside the pool's own: tensors made by `torch.from_numpy`, and all their views, hold one to
    the array.

    Parameters
    ----------
    make
        Makes a new batch.
    keep
        Buffers to keep; a caller that holds on to more batches gets fresh ones.
    """

    def __init__(self, make: Callable[[], PatchBatch], keep: int = 4) -> None:
        self._make = make
        self._keep = keep
        self._kept: list[PatchBatch] = []

    def take(self) -> PatchBatch:
        """A batch that nobody else uses; its content is undefined."""
        for i in range(len(self._kept)):
            # one reference is the list's own, one the argument of getrefcount
            if sys.getrefcount(self._kept[i]) <= 2 and _unused(self._kept[i]):
                return self._kept[i]
        batch = self._make()
        if len(self._kept) < self._keep:
            self._kept.append(batch)
        return batch

    def __len__(self) -> int:
        return len(self._kept)


def _unused(batch: PatchBatch) -> bool:
    image_free = sys.getrefcount(batch.image) <= 2
    return image_free and (batch.label is None or sys.getrefcount(batch.label) <= 2)
