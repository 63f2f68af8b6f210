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

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from radiobject_assets.training.epoch_order import EpochOrder, EpochProgress
from radiobject_assets.training.epochs import EpochClock
from radiobject_assets.training.meta_tensors import is_monai, meta_batch, meta_tensor, wants_meta
from radiobject_assets.training.seeded_transforms import apply_seeded

Batch = dict[str, Any]
Transform = Callable[[Batch], Batch]
_NAMED_AFTER = {"image": "obs_id", "label": "label_obs_id"}
"""The ids of the volumes that an item is cut from, after which MONAI names the files that it saves."""


class PatchCacheDataset(Dataset[Batch]):
    """A patch cache as a map-style dataset.

    Items are `{"image": float32 (1, X, Y, Z), "label": (1, X, Y, Z) where there are labels, "index": int}`;
    `dataset.cache.row(index)` tells where the patch came from.

    Parameters
    ----------
    path
        The cache's folder, or an open `PatchCache`.
    transform
        Applied to each item; MONAI's dictionary transforms fit. What it draws is a function of (seed, epoch,
        item), whatever process it runs in.
    seed
        Of the random choices of `transform`.
    as_meta
        Whether images and labels are MONAI's `MetaTensor`, with the patch's affine (RAS+ millimetres); by
        default where `transform` is MONAI's.
    """

    def __init__(
        self,
        path: Path | str | PatchCache,
        transform: Transform | None = None,
        *,
        seed: int = 0,
        as_meta: bool | None = None,
    ) -> None:
        self.cache = path if isinstance(path, PatchCache) else PatchCache(path)
        self._transforms = () if transform is None else (transform,)
        self._as_meta = wants_meta(as_meta, self._transforms)
        self._seed = seed
        self._clock = EpochClock()

    def set_epoch(self, epoch: int) -> None:
        """Random choices are those of `epoch` from now on, in this process and in living workers.

        Without it an epoch is taken to begin when an item is asked for a second time.
        """
        self._clock.set(epoch)

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, i: int) -> Batch:
        items = self.__getitems__([i])
        return items[0] if len(items) == 1 else items  # type: ignore[return-value]  # several crops of one

    def __getitems__(self, indices: Sequence[int]) -> list[Batch]:
        """The items of one batch at once: what `DataLoader` calls."""
        batch = self.cache.gather(indices)
        items = []
        for i, index in enumerate(indices):
            item: Batch = {"image": torch.from_numpy(batch.image[i])[None], "index": int(index) % len(self)}
            if batch.label is not None:
                item["label"] = torch.from_numpy(batch.label[i])[None]
            number = int(item["index"])
            if self._as_meta:
                (affine,), (part,) = self.cache.affines([number]), self.cache.column("patch", [number])
                for name, ids in _NAMED_AFTER.items():
                    if name in item:
                        (obs_id,) = self.cache.column(ids, [number])
                        item[name] = meta_tensor(item[name], affine, obs_id, part)
            named = partial(self._named, number)
            item = apply_seeded(self._transforms, item, named, self._seed, self._clock.now(number), number)
            items += item if isinstance(item, list) else [item]
        return items

    def _named(self, index: int) -> str:
        return f"item {index} ({self.cache.row(index)['obs_id']})"


class PatchLoader:
    """Batches of a patch cache, in an order of its own every epoch. Made by `patch_loader`."""

    def __init__(
        self,
        cache: PatchCache,
        order: EpochOrder,
        *,
        pin_memory: bool,
        transform: Transform | None,
        as_meta: bool,
    ) -> None:
        self.cache = cache
        self.batch_size = order.batch_size
        self._progress = EpochProgress(order, {"cache": cache.meta.address})
        self._pin_memory = pin_memory and torch.cuda.is_available()
        self._as_meta = wants_meta(as_meta, ())
        self._transforms = () if transform is None else (transform,)
        self._pool = BufferPool(partial(cache.empty_batch, order.batch_size))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; without it, every iteration is the next one.

        Of the epoch that `load_state_dict` went back to, the rest comes.
        """
        self._progress.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches in a whole epoch: the same for every rank, and what trainers count with."""
        return self._progress.order.n_batches()

    def order(self, epoch: int, start: int = 0) -> NDArray[np.int64]:
        """Which patches this rank sees in `epoch`, in order, from place `start` of the order of all ranks.

        All ranks together see every patch; without `drop_last` the first ones are seen twice where ranks
        would come out uneven.
        """
        return self._progress.order.share(epoch, start)

    def state_dict(self) -> dict[str, Any]:
        """Where training is: after the last batch that was handed out. Small, and plain values alone.

        `load_state_dict` goes on with the batch that would have come next. The names are those of PyTorch's
        and Lightning's protocol for loaders that resume.
        """
        return self._progress.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next iteration is the rest of that epoch.

        Also with another batch size or another number of ranks: `position` counts the patches that all ranks
        together have seen. With the same number of patches in a batch of all ranks, the batches are the same.

        Raises
        ------
        ConfigurationError
            The state is of another cache, seed or order: it would give other patches than were left.
        """
        self._progress.load_state_dict(state)

    def __iter__(self) -> Iterator[Batch]:
        order = self._progress.order
        epoch, start, n_batches = self._progress.begin()
        share, rank = order.share(epoch, start), order.ranks()[0]
        batches = [share[i * self.batch_size : (i + 1) * self.batch_size] for i in range(n_batches)]
        for number, indices in enumerate(batches):
            if number + 1 < n_batches:
                self.cache.will_need(batches[number + 1])
            place = start + number * order.step
            batch = self._tensors(indices)
            named = partial(_batch_of, indices)
            batch = apply_seeded(self._transforms, batch, named, order.seed, epoch, place, rank)
            self._progress.handed_out(epoch, start, n_batches, number + 1)
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
        if self._as_meta:
            affines, parts = self.cache.affines(indices), self.cache.column("patch", indices)
            for name, ids in _NAMED_AFTER.items():
                if name in batch:
                    batch[name] = meta_batch(batch[name], affines, self.cache.column(ids, indices), parts)
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
    rank: int | None = None,
    world_size: int | None = None,
    pin_memory: bool = False,
    transform: Transform | None = None,
    as_meta: bool = False,
    allow_empty: bool = False,
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
        For distributed training: this process's number and how many there are; by default those of the
        process group, where there is one (`torch.distributed.init_process_group`). Every rank gets as many
        batches; without `drop_last` some see patches of the beginning again.
    pin_memory
        Page-locked tensors for asynchronous copies to a GPU, where there is one.
    transform
        Applied to each batch (not each sample). MONAI's transforms are for samples, and refused here:
        `PatchCacheDataset` takes them.
    as_meta
        Whether images and labels are batches of MONAI's `MetaTensor`, with the affine of each patch.
    allow_empty
        Whether a cache without any patch gives no batches rather than an error.

    Raises
    ------
    ConfigurationError
        The cache has no patches, a setting is impossible, or the transform is MONAI's.
    DamagedCacheError
        The cache is not what was written: now, or when a damaged patch is read.

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
    if len(cache) == 0 and not allow_empty:
        raise ConfigurationError(f"{cache.path}: this patch cache has no patches; training would see nothing")
    if is_monai(transform):
        raise ConfigurationError(
            "MONAI's transforms take one sample, and `transform` of patch_loader gets whole batches, whose "
            "axes they would mix up; use monai.data.DataLoader(PatchCacheDataset(path, transform), "
            "batch_size=...)"
        )
    order = EpochOrder(len(cache), batch_size, seed, shuffle, drop_last, rank=rank, world_size=world_size)
    return PatchLoader(cache, order, pin_memory=pin_memory, transform=transform, as_meta=as_meta)
