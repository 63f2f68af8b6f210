"""PyTorch batches from a patch cache.

    for epoch in range(100):
        for batch in loader:            # {"image": float32 (B, 1, X, Y, Z), "label": ..., "index": int64
        (B,)}
            ...

`patch_loader` gathers whole batches from memory-mapped shards in the training process itself: at that speed
(`benchmarks/train.py`) no worker process is needed, and none can crash. `PatchCacheDataset` is for those
who want a `torch.utils.data.DataLoader` with a transform for each sample; it works in spawned, forked and
forkserver workers, since it pickles as its path and maps the files anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.training.cache.buffers import BufferPool
from radiobject_assets.training.cache.cache_reading import PatchBatch, PatchCache
from radiobject_assets.training.item_errors import transformed

Batch = dict[str, Any]
Transform = Callable[[Batch], Batch]


class PatchCacheDataset(Dataset[Batch]):
    """A patch cache as a map-style dataset.

    Items are `{"image": float32 (1, X, Y, Z), "label": (1, X, Y, Z) where there are labels, "index": int}`;
    `dataset.cache.row(index)` tells where the patch came from.

    Parameters
    ----------
    path
        The cache's folder, or an open `PatchCache`.
    transform
        Applied to each item; MONAI's dictionary transforms fit.
    """

    def __init__(self, path: Path | str | PatchCache, transform: Transform | None = None) -> None:
        self.cache = path if isinstance(path, PatchCache) else PatchCache(path)
        self._transform = transform

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, i: int) -> Batch:
        return self.__getitems__([i])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Batch]:
        """The items of one batch at once: what `DataLoader` calls."""
        batch = self.cache.gather(indices)
        items = []
        for i, index in enumerate(indices):
            item: Batch = {"image": torch.from_numpy(batch.image[i])[None], "index": int(index) % len(self)}
            if batch.label is not None:
                item["label"] = torch.from_numpy(batch.label[i])[None]
            if self._transform is not None:
                item = transformed(partial(self._named, item["index"]), self._transform, item)
            items.append(item)
        return items

    def _named(self, index: int) -> str:
        return f"item {index} ({self.cache.row(index)['obs_id']})"


class PatchLoader:
    """Batches of a patch cache, in an order of its own every epoch. Made by `patch_loader`."""

    def __init__(
        self,
        cache: PatchCache,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        drop_last: bool,
        rank: int,
        world_size: int,
        pin_memory: bool,
        transform: Transform | None,
    ) -> None:
        if batch_size < 1:
            raise ConfigurationError(f"batch_size is {batch_size}: use 1 or more")
        if not 0 <= rank < world_size:
            raise ConfigurationError(f"rank {rank} of {world_size}: ranks go from 0 to world_size - 1")
        self.cache = cache
        self.batch_size = batch_size
        self._seed, self._shuffle, self._drop_last = seed, shuffle, drop_last
        self._rank, self._world_size = rank, world_size
        self._pin_memory = pin_memory
        self._transform = transform
        self._epoch = 0
        self._pool = BufferPool(lambda: cache.empty_batch(batch_size))

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration; without it, every iteration is the next epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Batches in an epoch: the same for every rank."""
        mine = -(-len(self.cache) // self._world_size)
        return mine // self.batch_size if self._drops(mine) else -(-mine // self.batch_size)

    def _drops(self, mine: int) -> bool:
        # a set that is smaller than one batch is one small batch: an epoch of nothing trains nothing
        return self._drop_last and mine >= self.batch_size

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Which patches this rank sees in `epoch`, in order.

        All ranks together see every patch; the first ones are seen twice where ranks would come out uneven.
        """
        n = len(self.cache)
        order = np.arange(n)
        if self._shuffle:
            order = np.random.Generator(np.random.Philox([self._seed % 2**63, epoch])).permutation(n)
        if n % self._world_size:
            order = np.concatenate([order, np.resize(order, -n % self._world_size)])
        return order[self._rank :: self._world_size]

    def __iter__(self) -> Iterator[Batch]:
        order = self.order(self._epoch)
        self._epoch += 1
        n_batches = len(self)
        batches = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(n_batches)]
        for number, indices in enumerate(batches):
            if number + 1 < n_batches:
                self.cache.will_need(batches[number + 1])
            batch = self._tensors(indices)
            if self._transform is not None:
                batch = transformed(partial(_batch_of, indices), self._transform, batch)
            yield batch
            del batch  # so that its buffers are free for the next but one

    def _tensors(self, indices: NDArray[np.int64]) -> Batch:
        n = len(indices)
        if self._pin_memory:
            # PyTorch keeps pinned blocks itself, and knows which a copy to the GPU still reads from
            image = torch.empty((n, *self.cache.size_voxels), dtype=torch.float32, pin_memory=True)
            label = None
            if self.cache.label_dtype is not None:
                kind = torch.from_numpy(np.empty(0, self.cache.label_dtype)).dtype
                label = torch.empty((n, *self.cache.size_voxels), dtype=kind, pin_memory=True)
            self.cache.gather(indices, PatchBatch(image.numpy(), None if label is None else label.numpy()))
        else:
            buffers = self._pool.take()
            part = PatchBatch(buffers.image[:n], None if buffers.label is None else buffers.label[:n])
            self.cache.gather(indices, part)
            image = torch.from_numpy(part.image)
            label = None if part.label is None else torch.from_numpy(part.label)
        batch: Batch = {"image": image[:, None], "index": torch.from_numpy(indices.copy())}
        if label is not None:
            batch["label"] = label[:, None]
        return batch


def _batch_of(indices: NDArray[np.int64]) -> str:
    return f"the batch of items {indices.tolist()}"


def patch_loader(
    path: Path | str | PatchCache,
    batch_size: int = 4,
    *,
    seed: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    transform: Transform | None = None,
) -> PatchLoader:
    """Batches for training from a patch cache, without worker processes.

    Parameters
    ----------
    path
        The cache's folder (`PatchCacheInfo.path`), or an open `PatchCache`.
    seed
        With the epoch, decides the order; the same on every rank.
    drop_last
        Leave out the last batch where it is smaller; a cache smaller than one batch still gives that one.
    rank, world_size
        For distributed training: this process's number and how many there are. Every rank gets as many
        batches.
    pin_memory
        Page-locked tensors for asynchronous copies to a GPU (needs CUDA).
    transform
        Applied to each batch (not each sample).

    Returns
    -------
    An iterable of `{"image": float32 (B, 1, X, Y, Z) in physical units, "label": (B, 1, X, Y, Z), "index":
    int64 (B,)}` with `len` and `set_epoch`. A batch is the caller's for as long as it keeps any tensor of it;
    once all are gone, the memory is used for a later batch.

    Examples
    --------
    >>> loader = patch_loader("work/patches/train/patches-0123", batch_size=8)  # doctest: +SKIP
    >>> for batch in loader:                                                    # doctest: +SKIP
    ...     loss = model(batch["image"])
    """
    cache = path if isinstance(path, PatchCache) else PatchCache(path)
    return PatchLoader(
        cache,
        batch_size,
        seed=seed,
        shuffle=shuffle,
        drop_last=drop_last,
        rank=rank,
        world_size=world_size,
        pin_memory=pin_memory,
        transform=transform,
    )
