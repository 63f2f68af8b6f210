"""A `DataLoader` over volumes: its order and ranks, where it is, and what its errors say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from radiobject_assets.training.epoch_order import EpochOrder, EpochProgress
from radiobject_assets.training.volumes.volume_items import Item, VolumeItems


class VolumeSampler(DistributedSampler[int]):
    """The items of a loader's next iteration: a rank's share of the epoch that `progress` is at.

    PyTorch's class by name, since trainers divide the items of other samplers among ranks once more.
    """

    def __init__(self, order: EpochOrder, data: str) -> None:
        # without super(): it asks for the process group now, and trainers make one later
        self.progress = EpochProgress(order, {"volumes": data})
        self.now = self.progress.next
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; see `EpochProgress.set_epoch`."""
        self.progress.set_epoch(epoch)
        self.now, self.epoch = self.progress.next, epoch

    def begin(self) -> tuple[int, int, int]:
        """See `EpochProgress.begin`; the indices are those of this iteration until the next begins."""
        epoch, start, n_batches = self.progress.begin()
        self.now, self.epoch = (epoch, start), epoch
        return epoch, start, n_batches

    def __iter__(self) -> Iterator[int]:
        return iter(self.progress.order.share(*self.now).tolist())

    def __len__(self) -> int:
        return self.progress.order.n_items_of_rank()


class VolumeLoader(DataLoader[Item]):
    """A `DataLoader` over volumes whose order, patches and random choices are functions of (seed, epoch).

    It has `set_epoch`, `state_dict` and `load_state_dict`, as `PatchLoader` has them: a state is small, and
    training goes on with the batch that would have come next, whatever the number of workers or ranks.
    """

    def __init__(self, dataset: VolumeItems, **settings: Any) -> None:
        super().__init__(dataset, **settings)
        self._items = dataset
        # trainers make loaders again, around the same sampler or one of their own
        sampler = getattr(self.batch_sampler, "sampler", self.sampler)
        if not isinstance(sampler, VolumeSampler):
            order = EpochOrder(len(dataset), self._size(), shuffle=False, rank=0, world_size=1)
            sampler = VolumeSampler(order, items_digest(dataset))
        self._walk = sampler

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; without it, every iteration is the next one.

        Of the epoch that `load_state_dict` went back to, the rest comes.
        """
        self._walk.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where training is: after the last batch that was handed out. See `PatchLoader.state_dict`."""
        return self._walk.progress.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken. See `PatchLoader.load_state_dict`."""
        self._walk.progress.load_state_dict(state)

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]  # DataLoader declares its private iterator
        epoch, start, n_batches = self._walk.begin()
        self._items.set_epoch(epoch if self._walk.progress.order.shuffle else 0)
        batches, count = super().__iter__(), 0
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "exited unexpectedly" in str(error):
                    error.add_note(self._worker_is_gone(epoch, start, count))
                raise
            count += 1
            self._walk.progress.handed_out(epoch, start, n_batches, count)
            yield batch
            del batch  # its memory is needed for the next one

    def _size(self) -> int:
        return self.batch_size or int(getattr(self.batch_sampler, "batch_size", None) or 1)

    def _worker_is_gone(self, epoch: int, start: int, count: int) -> str:
        size = self._size()
        coming = self._walk.progress.order.share(epoch, start)[count * size : (count + 1) * size].tolist()
        return (
            f"while the batch of items {coming} was awaited. If no batch came at all: a script that starts "
            "workers must begin its work below `if __name__ == '__main__':`, since each worker imports it. "
            "Else the worker was killed, mostly for want of memory, or crashed in a library: num_workers=0 "
            "reads on threads, and `radiobject-assets probe` finds the item"
        )


def items_digest(dataset: VolumeItems) -> str:
    """A digest of which volumes a data set has, in which order, and of how they become items."""
    digest = hashlib.blake2b(dataset.config.model_dump_json(exclude={"seed"}).encode(), digest_size=16)
    for group in dataset.groups:
        for volume in group:
            # the array's own name is new at every write, wherever the store lies
            digest.update(f"\0{volume.obs_id}\0{volume.uri.rstrip('/').rpartition('/')[2]}".encode())
        digest.update(b"\1")
    return digest.hexdigest()
