"""Which epoch it is, so that random patches differ from one to the next."""

from __future__ import annotations

import torch
from torch.utils.data import get_worker_info


class EpochClock:
    """The epoch as a data set sees it, in the training process and in its workers.

    Once `set` was called (our loaders do it at the start of every iteration), all processes see that epoch,
    living workers too: it is kept in shared memory. Before that, in a plain `DataLoader`, a new epoch is
    taken to begin when an index is asked for a second time; in a worker, the loader's seed of the epoch
    counts as well.
    """

    def __init__(self) -> None:
        self._explicit = torch.full((1,), -1, dtype=torch.int64)
        self._explicit.share_memory_()  # type: ignore[no-untyped-call]  # torch has no types for it
        self._round = 0
        self._seen: set[int] = set()

    def set(self, epoch: int) -> None:
        """It is `epoch` from now on, 0 or more."""
        self._explicit[0] = max(0, epoch)

    def now(self, index: int) -> int:
        """The epoch in which item `index` is asked for."""
        explicit = int(self._explicit[0])
        if explicit >= 0:
            return explicit
        if index in self._seen:
            self._round += 1
            self._seen.clear()
        self._seen.add(index)
        worker = get_worker_info()
        return self._round if worker is None else worker.seed - worker.id + self._round
