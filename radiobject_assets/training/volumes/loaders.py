"""PyTorch `DataLoader`s over volumes, with defaults that work.

- `num_workers=0` reads the items of a batch on threads in the training process: no processes to start, copy
  between, or lose. With workers, they are started afresh (`forkserver`, or `spawn` where there is none),
  since a forked child inherits TileDB's locks without its threads.
- Each iteration is a new epoch with other patches and another order; `set_epoch` chooses one. Validation and
  inference see the same patches every time.
- `drop_last` never drops the only batch.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch.utils.data import BatchSampler, DataLoader
from torch.utils.data.distributed import DistributedSampler

from radiobject_assets.errors import ShapeError
from radiobject_assets.store import VolumeCollection
from radiobject_assets.training.volumes.label_values import LabelSource
from radiobject_assets.training.volumes.loading import DatasetConfig, LoadingMode
from radiobject_assets.training.volumes.segmentation_dataset import SegmentationDataset
from radiobject_assets.training.volumes.volume_dataset import VolumeCollectionDataset
from radiobject_assets.training.volumes.volume_items import Item, Transform, VolumeItems

Collections: TypeAlias = VolumeCollection | Sequence[VolumeCollection]
PatchSize = tuple[int, int, int] | None


class VolumeLoader(DataLoader[Item]):
    """A `DataLoader` over volumes that counts epochs for its data set and its sampler."""

    def __init__(self, dataset: VolumeItems, *, new_patches: bool, **settings: Any) -> None:
        super().__init__(dataset, **settings)
        batches = self.batch_sampler
        if isinstance(batches, BatchSampler) and len(batches) == 0:
            batches.drop_last = False  # the only batch is kept, however small
        self._items = dataset
        self.new_patches = new_patches  # public: Lightning makes loaders again from such attributes
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; without it, every iteration is the next one."""
        self._epoch = epoch
        if isinstance(self.sampler, DistributedSampler):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]  # DataLoader declares its private iterator
        self._items.set_epoch(self._epoch if self.new_patches else 0)
        if isinstance(self.sampler, DistributedSampler):
            self.sampler.set_epoch(self._epoch)
        self._epoch += 1
        return super().__iter__()


def set_epoch(loader: Any, epoch: int) -> None:
    """Choose the epoch of a loader's next iteration: its order and, for random patches, their places.

    For any of our loaders, and for a plain `DataLoader` whose sampler or data set has `set_epoch`; of others
    nothing is asked.
    """
    if hasattr(loader, "set_epoch"):
        loader.set_epoch(epoch)
        return
    for name in ("sampler", "dataset"):
        part = getattr(loader, name, None)
        if part is not None and hasattr(part, "set_epoch"):
            part.set_epoch(epoch)


def create_training_dataloader(
    collections: Collections,
    labels: LabelSource = None,
    batch_size: int = 4,
    patch_size: PatchSize = None,
    num_workers: int = 0,
    pin_memory: bool = True,
    persistent_workers: bool = True,
    transform: Transform | None = None,
    patches_per_volume: int = 1,
) -> DataLoader[Item]:
    """Shuffled batches of whole volumes, or of random patches where `patch_size` is given.

    Parameters
    ----------
    collections
        One collection, or several as channels, paired by subject.
    labels
        A label for each volume; see `label_values`.
    patch_size
        Patch extents (X, Y, Z) in voxels.
    num_workers
        Worker processes; 0 reads on threads, which is usually faster.
    pin_memory
        Page-locked batches, where there are workers and a GPU.

    Raises
    ------
    AlignmentError
        Subjects or grids of the collections differ.
    ShapeError
        Whole volumes of different shapes can't be batched.
    """
    dataset = _volumes(collections, labels, patch_size, patches_per_volume, transform)
    return _loader(dataset, batch_size, num_workers, pin_memory, persistent_workers, training=True)


def create_validation_dataloader(
    collections: Collections,
    labels: LabelSource = None,
    batch_size: int = 4,
    patch_size: PatchSize = None,
    num_workers: int = 0,
    pin_memory: bool = True,
    transform: Transform | None = None,
    patches_per_volume: int = 1,
) -> DataLoader[Item]:
    """Batches in order, complete, and the same every time; see `create_training_dataloader`."""
    dataset = _volumes(collections, labels, patch_size, patches_per_volume, transform)
    return _loader(dataset, batch_size, num_workers, pin_memory, False, training=False)


def create_inference_dataloader(
    collections: Collections,
    batch_size: int = 1,
    num_workers: int = 0,
    pin_memory: bool = True,
    transform: Transform | None = None,
) -> DataLoader[Item]:
    """Whole volumes in order; with `batch_size=1` they may have different shapes."""
    dataset = VolumeCollectionDataset(collections, DatasetConfig(), None, transform)
    return _loader(dataset, batch_size, num_workers, pin_memory, False, training=False)


def create_segmentation_dataloader(
    image: VolumeCollection,
    mask: VolumeCollection,
    batch_size: int = 4,
    patch_size: PatchSize = None,
    num_workers: int = 0,
    pin_memory: bool = True,
    persistent_workers: bool = True,
    image_transform: Transform | None = None,
    spatial_transform: Transform | None = None,
    foreground_sampling: bool = False,
    foreground_threshold: float = 0.0,
    foreground_max_retries: int = 10,
    patches_per_volume: int = 1,
    transform: Transform | None = None,
) -> DataLoader[Item]:
    """Shuffled batches `{"image": (B, 1, X, Y, Z), "mask": (B, 1, X, Y, Z), ...}`; see
    `SegmentationDataset`."""
    dataset = SegmentationDataset(
        image,
        mask,
        _config(patch_size, patches_per_volume),
        transform,
        foreground_sampling,
        image_transform=image_transform,
        spatial_transform=spatial_transform,
        foreground_threshold=foreground_threshold,
        foreground_max_retries=foreground_max_retries,
    )
    return _loader(dataset, batch_size, num_workers, pin_memory, persistent_workers, training=True)


def create_distributed_dataloader(
    collections: Collections,
    rank: int,
    world_size: int,
    labels: LabelSource = None,
    batch_size: int = 4,
    patch_size: PatchSize = None,
    num_workers: int = 0,
    pin_memory: bool = True,
    persistent_workers: bool = True,
    transform: Transform | None = None,
    patches_per_volume: int = 1,
) -> DataLoader[Item]:
    """This rank's share of the shuffled batches; every rank gets as many. See
    `create_training_dataloader`."""
    dataset = _volumes(collections, labels, patch_size, patches_per_volume, transform)
    sampler: DistributedSampler[Item] = DistributedSampler(
        dataset, num_replicas=world_size, rank=rank, shuffle=True
    )
    return _loader(
        dataset, batch_size, num_workers, pin_memory, persistent_workers, training=True, sampler=sampler
    )


def _volumes(
    collections: Collections,
    labels: LabelSource,
    patch_size: PatchSize,
    patches_per_volume: int,
    transform: Transform | None,
) -> VolumeCollectionDataset:
    return VolumeCollectionDataset(collections, _config(patch_size, patches_per_volume), labels, transform)


def _config(patch_size: PatchSize, patches_per_volume: int) -> DatasetConfig:
    mode = LoadingMode.PATCH if patch_size else LoadingMode.FULL_VOLUME
    return DatasetConfig(loading_mode=mode, patch_size=patch_size, patches_per_volume=patches_per_volume)


def _loader(
    dataset: VolumeItems,
    batch_size: int,
    num_workers: int,
    pin_memory: bool,
    persistent_workers: bool,
    *,
    training: bool,
    sampler: DistributedSampler[Item] | None = None,
) -> VolumeLoader:
    if batch_size > 1 and not dataset.has_uniform_items:
        raise ShapeError(
            "the volumes have different shapes and can't be batched; give a patch_size, use batch_size=1, "
            "or resample them to one shape"
        )
    n_items = len(dataset) if sampler is None else sampler.num_samples
    workers = max(0, num_workers)
    return VolumeLoader(
        dataset,
        new_patches=training,
        batch_size=batch_size,
        # an empty data set is an empty loader, not the RandomSampler's error
        shuffle=training and sampler is None and n_items > 0,
        sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory and workers > 0 and torch.cuda.is_available(),
        persistent_workers=persistent_workers and workers > 0,
        multiprocessing_context=_start_method() if workers > 0 else None,
        drop_last=training,
    )


def _start_method() -> str:
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
