"""How `ReadConfig.memory_budget_mb` is divided between batches on their way, reading, and worker processes.

The budget is for voxels: batches that are being made, wait, or are held by the training loop; decoded tiles;
and buffers of reading. Interpreters and imported libraries come on top, as `system.memory.MemoryBudget` says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store import (
    RadiObjectConfig,
    get_radiobject_config,
    set_radiobject_config,
)

MB = 2**20
LEAST_FOR_WORKER = 16 * MB
"""For reading in one worker: what four threads read at once under the smallest budget that there is."""


def slab_bytes() -> int:
    """The largest part of a volume that a thread reads at once; all threads take a quarter of the budget."""
    read = get_radiobject_config().read
    return min(64 * MB, read.memory_budget_mb * MB // (4 * max(4, read.max_workers)))


def check_item_fits(item_bytes: int, budget_mb: int) -> None:
    """Refuse a whole volume that alone is larger than the budget, as `Volume.to_numpy` does.

    Raises
    ------
    ConfigurationError
        It is.
    """
    if item_bytes > budget_mb * MB:
        raise ConfigurationError(
            f"the volume takes {_mb(item_bytes)} MB in memory and memory_budget_mb is {budget_mb}: load "
            f"patches or slices of it, or allow more with "
            f"configure(read=ReadConfig(memory_budget_mb={2 * _mb(item_bytes)}))"
        )


@dataclass(frozen=True)
class LoaderMemory:
    """What a loader may hold."""

    prefetch_factor: int | None
    """Batches that each worker makes ahead; None without workers."""
    worker_mb: int
    """The budget of each worker's own reading."""
    worker_cache_mb: int
    """Of that, decoded tiles."""


def divided_budget(batch_bytes: int, batch_size: int, workers: int, pinned: bool) -> LoaderMemory:
    """Divide this process's budget.

    Parameters
    ----------
    batch_bytes
        One batch as the training loop gets it.
    pinned
        Whether batches are copied once more, into page-locked memory.

    Raises
    ------
    ConfigurationError
        It does not hold even the fewest batches that a loader needs.
    """
    read = get_radiobject_config().read
    budget = read.memory_budget_mb * MB
    if workers == 0:
        # the one that the training loop has, the one being made, and its items where they are put together
        batches = batch_bytes * (2 + (batch_size > 1) + pinned)
        threads = min(batch_size, read.max_workers)
        cache = read.tile_cache_size_mb * MB
        at_least = math.ceil((batches + cache) / (1 - threads / (4 * max(4, read.max_workers))))
        _check(batches + cache + threads * slab_bytes(), at_least, batch_bytes, workers)
        return LoaderMemory(None, read.memory_budget_mb, read.tile_cache_size_mb)
    for prefetch in (2, 1):
        # of each worker what it made ahead, and the items of the one it makes; the training loop's own
        batches = batch_bytes * (1 + workers * (prefetch + 1) + pinned)
        left = budget - batches
        if left >= workers * LEAST_FOR_WORKER:
            break
    at_least = batches + workers * LEAST_FOR_WORKER
    _check(at_least, at_least, batch_bytes, workers)
    share_mb = left // workers // MB
    worker_mb = max(64, share_mb)  # of which `slab_bytes` of all threads are a quarter
    return LoaderMemory(prefetch, worker_mb, min(read.tile_cache_size_mb, (share_mb - worker_mb // 4) // 2))


def _check(needed: int, at_least: int, batch_bytes: int, workers: int) -> None:
    budget_mb = get_radiobject_config().read.memory_budget_mb
    if needed > budget_mb * MB:
        raise ConfigurationError(
            f"a batch takes {_mb(batch_bytes)} MB, and with {workers} workers {_mb(needed)} MB are in memory "
            f"at once: batches that are made, wait, or are held, what is read, and decoded tiles up to "
            f"tile_cache_size_mb. memory_budget_mb is {budget_mb}: use a smaller batch_size or "
            f"patch_size, fewer workers, or configure(read=ReadConfig(memory_budget_mb={_mb(at_least)}))"
        )


def _mb(n_bytes: int) -> int:
    return -(-n_bytes // MB)


class WorkerSettings:
    """Gives a worker process the configuration of the training process, with its share of the budget.

    A `worker_init_fn`. The configuration is the one of when workers are started.
    """

    def __init__(self, memory: LoaderMemory) -> None:
        self._memory = memory
        self._config: RadiObjectConfig | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_memory": self._memory, "_config": get_radiobject_config()}

    def __call__(self, worker: int) -> None:
        config = self._config or get_radiobject_config()  # a forked worker has it
        mine = {
            "memory_budget_mb": self._memory.worker_mb,
            "tile_cache_size_mb": self._memory.worker_cache_mb,
        }
        set_radiobject_config(config.model_copy(update={"read": config.read.model_copy(update=mine)}))
