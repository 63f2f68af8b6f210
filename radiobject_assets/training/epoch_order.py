"""Which items come in an epoch, in which order, and to which rank: functions of (seed, epoch) alone.

`EpochOrder` says it, `EpochProgress` keeps where a loader is, so that training which was interrupted goes on
with the very next batch. Both know nothing of what the items are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ConfigurationError


def process_group() -> tuple[int, int]:
    """This process's rank and how many there are: of PyTorch's process group, (0, 1) without one."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


@dataclass(frozen=True)
class EpochOrder:
    """The order of an epoch's items, divided among ranks.

    Batch i of all ranks together is items i * step to (i + 1) * step of the order, where `step` is the batch
    size times the number of ranks: so the same items meet in a step, whoever takes which of them.

    Raises
    ------
    ConfigurationError
        An impossible batch size or rank.
    """

    n_items: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False
    """Leave out what does not fill a batch of every rank; a set smaller than one such batch is kept."""
    even: bool = True
    """Whether every rank gets as many items, some of the first ones twice where they don't divide."""
    rank: int | None = None
    world_size: int | None = None
    """None: those of the process group, at the time of each iteration."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigurationError(f"batch_size is {self.batch_size}: use 1 or more")
        self.ranks()

    def ranks(self) -> tuple[int, int]:
        """This process's rank, and how many there are."""
        group = process_group()
        rank = group[0] if self.rank is None else self.rank
        world_size = group[1] if self.world_size is None else self.world_size
        if not 0 <= rank < world_size:
            raise ConfigurationError(f"rank {rank} of {world_size}: ranks go from 0 to world_size - 1")
        return rank, world_size

    @property
    def step(self) -> int:
        """Items in one batch of all ranks together."""
        return self.batch_size * self.ranks()[1]

    def of_all(self, epoch: int) -> NDArray[np.int64]:
        """The items in the order in which all ranks together see them."""
        if not self.shuffle:
            return np.arange(self.n_items)
        key = [self.seed % 2**63, epoch]
        return np.random.Generator(np.random.Philox(key)).permutation(self.n_items)

    def share(self, epoch: int, start: int = 0) -> NDArray[np.int64]:
        """Which items this rank sees in `epoch`, in order, from place `start` of the order of all ranks."""
        rank, world_size = self.ranks()
        order = self.of_all(epoch)
        rest = order[start:]
        # a set that is smaller than one batch is one small batch: an epoch of nothing trains nothing
        if self.drop_last and (start > 0 or len(rest) >= self.step):
            rest = rest[: len(rest) // self.step * self.step]
        elif self.even and len(rest) % world_size:
            rest = np.concatenate([rest, np.resize(order, -len(rest) % world_size)])
        return rest[rank::world_size]

    def n_items_of_rank(self, start: int = 0) -> int:
        """The length of this rank's `share`."""
        rank, world_size = self.ranks()
        left = max(0, self.n_items - start)
        if self.drop_last and (start > 0 or left >= self.step):
            return left // self.step * self.batch_size
        return -(-left // world_size) if self.even else len(range(rank, left, world_size))

    def n_batches(self, start: int = 0) -> int:
        """This rank's batches from place `start` of an epoch to its end."""
        return -(-self.n_items_of_rank(start) // self.batch_size)


class EpochProgress:
    """Where a loader is: which epoch comes next, from which place, and what was handed out.

    Parameters
    ----------
    order
        The order of its items.
    data
        What the items are, by name: a state of other data is refused.
    """

    def __init__(self, order: EpochOrder, data: Mapping[str, str]) -> None:
        self.order = order
        self._data = dict(data)
        self.next = (0, 0)
        self._reached = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is `epoch`: of the one that `load_state_dict` went back to, its rest.

        Training loops say before each epoch which it is, also before the one that they resume.
        """
        if epoch != self.next[0]:
            self.next = self._reached = (epoch, 0)

    def begin(self) -> tuple[int, int, int]:
        """An iteration begins: its epoch, first place and number of batches. The next epoch follows it."""
        epoch, start = self.next
        n_batches = self.order.n_batches(start)
        self.next = (epoch + 1, 0)
        # of a rest that is smaller than one batch nothing comes: it is at its end
        self._reached = (epoch, start) if n_batches else self.next
        return epoch, start, n_batches

    def handed_out(self, epoch: int, start: int, n_batches: int, count: int) -> None:
        """`count` of the `n_batches` that began at place `start` were handed out."""
        done = count >= n_batches
        self._reached = (epoch + 1, 0) if done else (epoch, start + count * self.order.step)

    def state_dict(self) -> dict[str, Any]:
        """After the last batch that was handed out. Small, and plain values alone."""
        epoch, position = self._reached
        own = {"seed": self.order.seed, "shuffle": self.order.shuffle}
        return {"epoch": epoch, "position": position, **own, **self._data}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises
        ------
        ConfigurationError
            The state is of other data, another seed or order: it would give other items than were left.
        """
        own = self.state_dict()
        names = [name for name in own if name not in ("epoch", "position")]
        different = [name for name in sorted(names) if state.get(name) != own[name]]
        if different:
            raise ConfigurationError(
                f"this state was saved with another {' and '.join(different)}: open the same data "
                "with the same seed and shuffle to go on, or begin anew"
            )
        self.next = self._reached = (int(state["epoch"]), int(state["position"]))
