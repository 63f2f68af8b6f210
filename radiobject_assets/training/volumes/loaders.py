"""PyTorch `DataLoader`s over volumes, with defaults that work.

- `num_workers=0` reads the items of a batch on threads in the training process: no processes to start, copy
  between, or lose. With workers, they are started afresh (`forkserver`, or `spawn` where there is none),
  since a forked child inherits TileDB's locks without its threads. They get this process's configuration,
  and their share of its memory budget.
- Each iteration is a new epoch with other patches and another order, both functions of (seed, epoch);
  `set_epoch` chooses one, `state_dict` and `load_state_dict` go on in the middle of one. Validation and
  inference see the same patches every time.
- In a process group each rank gets its share. Training drops what does not fill a batch of every rank, but
  never the only batch; validation repeats some of the first items where ranks would come out uneven;
  inference repeats none.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch.utils.data import default_collate

from radiobject_assets.errors import ConfigurationError, ShapeError
from radiobject_assets.store import VolumeCollection
from radiobject_assets.training.epoch_order import EpochOrder
from radiobject_assets.training.meta_tensors import collate_meta
from radiobject_assets.training.volumes.label_values import LabelSource
from radiobject_assets.training.volumes.loader_memory import WorkerSettings, divided_budget
from radiobject_assets.training.volumes.loading import DatasetConfig, LoadingMode
from radiobject_assets.training.volumes.segmentation_dataset import SegmentationDataset
from radiobject_assets.training.volumes.subject_groups import check_are_images
from radiobject_assets.training.volumes.volume_dataset import VolumeCollectionDataset
from radiobject_assets.training.volumes.volume_items import Item, Transform, VolumeItems
from radiobject_assets.training.volumes.volume_loader import VolumeLoader, VolumeSampler, items_digest

Collections: TypeAlias = VolumeCollection | Sequence[VolumeCollection]
PatchSize = tuple[int, int, int] | None


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
    *,
    seed: int = 0,
    rank: int | None = None,
    world_size: int | None = None,
    as_meta: bool | None = None,
) -> VolumeLoader:
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
        Page-locked batches, where there is a GPU.
    seed
        With the epoch, decides the order, the places of patches, and what transforms draw.
    rank, world_size
        This process's number and how many there are; by default those of the process group, where there is
        one, when an iteration begins. Where something else divides batches among ranks: 0 and 1.
    as_meta
        Whether images are MONAI's `MetaTensor`, with affine; by default where `transform` is MONAI's.

    Raises
    ------
    AlignmentError
        Subjects or grids of the collections differ, or one is of labels.
    ShapeError
        Whole volumes of different shapes can't be batched.
    ConfigurationError
        `ReadConfig.memory_budget_mb` does not hold the batches, or a transform can't be sent to workers.
    """
    config = _config(patch_size, patches_per_volume, seed)
    dataset = _images(collections, config, labels, transform, as_meta)
    order = EpochOrder(len(dataset), batch_size, seed, True, drop_last=True, rank=rank, world_size=world_size)
    return _loader(dataset, order, num_workers, pin_memory, persistent_workers)


def create_validation_dataloader(
    collections: Collections,
    labels: LabelSource = None,
    batch_size: int = 4,
    patch_size: PatchSize = None,
    num_workers: int = 0,
    pin_memory: bool = True,
    transform: Transform | None = None,
    patches_per_volume: int = 1,
    *,
    mask: VolumeCollection | None = None,
    leave_out_unmatched: bool = False,
    persistent_workers: bool = True,
    seed: int = 0,
    rank: int | None = None,
    world_size: int | None = None,
    as_meta: bool | None = None,
) -> VolumeLoader:
    """Batches in order, complete, and the same every time; see `create_training_dataloader`.

    With `mask` they are those of `create_segmentation_dataloader`, for one collection of images.
    """
    config = _config(patch_size, patches_per_volume, seed)
    dataset: VolumeItems
    if mask is None:
        dataset = _images(collections, config, labels, transform, as_meta)
    elif not isinstance(collections, VolumeCollection) or labels is not None:
        raise ConfigurationError("with `mask`, give one collection of images, and no `labels`")
    else:
        dataset = SegmentationDataset(
            collections, mask, config, transform, leave_out_unmatched=leave_out_unmatched, as_meta=as_meta
        )
    order = EpochOrder(len(dataset), batch_size, seed, False, rank=rank, world_size=world_size)
    return _loader(dataset, order, num_workers, pin_memory, persistent_workers)


def create_inference_dataloader(
    collections: Collections,
    batch_size: int = 1,
    num_workers: int = 0,
    pin_memory: bool = True,
    transform: Transform | None = None,
    *,
    rank: int | None = None,
    world_size: int | None = None,
    as_meta: bool | None = None,
) -> VolumeLoader:
    """Whole volumes in order, each once; with `batch_size=1` they may have different shapes.

    Ranks get uneven numbers of them where they don't divide.
    """
    dataset = _images(collections, DatasetConfig(), None, transform, as_meta)
    order = EpochOrder(len(dataset), batch_size, shuffle=False, even=False, rank=rank, world_size=world_size)
    return _loader(dataset, order, num_workers, pin_memory, False)


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
    *,
    leave_out_unmatched: bool = False,
    seed: int = 0,
    rank: int | None = None,
    world_size: int | None = None,
    as_meta: bool | None = None,
) -> VolumeLoader:
    """Shuffled batches `{"image": (B, 1, X, Y, Z), "mask": (B, 1, X, Y, Z), ...}`; see
    `SegmentationDataset`, and `create_training_dataloader` for the rest.

    Images without a fitting mask are refused, or with `leave_out_unmatched=True` left out
    (`loader.dataset.left_out`), as the patch cache does.
    """
    dataset = SegmentationDataset(
        image,
        mask,
        _config(patch_size, patches_per_volume, seed),
        transform,
        foreground_sampling,
        image_transform=image_transform,
        spatial_transform=spatial_transform,
        foreground_threshold=foreground_threshold,
        foreground_max_retries=foreground_max_retries,
        leave_out_unmatched=leave_out_unmatched,
        as_meta=as_meta,
    )
    order = EpochOrder(len(dataset), batch_size, seed, True, drop_last=True, rank=rank, world_size=world_size)
    return _loader(dataset, order, num_workers, pin_memory, persistent_workers)


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
) -> VolumeLoader:
    """`create_training_dataloader` with `rank` and `world_size`, by default those of the process group."""
    return create_training_dataloader(
        collections,
        labels,
        batch_size,
        patch_size,
        num_workers,
        pin_memory,
        persistent_workers,
        transform,
        patches_per_volume,
        rank=rank,
        world_size=world_size,
    )


def _images(
    collections: Collections,
    config: DatasetConfig,
    labels: LabelSource,
    transform: Transform | None,
    as_meta: bool | None,
) -> VolumeCollectionDataset:
    dataset = VolumeCollectionDataset(collections, config, labels, transform, as_meta=as_meta)
    check_are_images((group[0] for group in dataset.groups), dataset.collection_names[0])
    return dataset


def _config(patch_size: PatchSize, patches_per_volume: int, seed: int) -> DatasetConfig:
    mode = LoadingMode.PATCH if patch_size else LoadingMode.FULL_VOLUME
    return DatasetConfig(
        loading_mode=mode, patch_size=patch_size, patches_per_volume=patches_per_volume, seed=seed
    )


def _loader(
    dataset: VolumeItems, order: EpochOrder, num_workers: int, pin_memory: bool, persistent_workers: bool
) -> VolumeLoader:
    if order.batch_size > 1 and not dataset.has_uniform_items:
        raise ShapeError(
            "the volumes have different shapes and can't be batched; give a patch_size, use batch_size=1, "
            "or resample them to one shape"
        )
    workers = max(0, num_workers)
    pinned = pin_memory and torch.cuda.is_available()
    largest_batch = min(order.batch_size, max(1, len(dataset)))
    memory = divided_budget(dataset.item_bytes * largest_batch, largest_batch, workers, pinned)
    with_workers: dict[str, Any] = {}
    if workers:
        _check_goes_to_workers(dataset)
        with_workers = {
            "persistent_workers": persistent_workers,
            "multiprocessing_context": _start_method(),
            "prefetch_factor": memory.prefetch_factor,
            "worker_init_fn": WorkerSettings(memory),
        }
    return VolumeLoader(
        dataset,
        batch_size=order.batch_size,
        sampler=VolumeSampler(order, items_digest(dataset)),
        num_workers=workers,
        pin_memory=pinned,
        collate_fn=collate_meta if dataset.as_meta else _collate,
        **with_workers,
    )


def _collate(items: list[Item]) -> Item:
    """PyTorch's; one item becomes its batch without a copy: a whole volume may be large."""
    if len(items) > 1 or not isinstance(items[0], dict):
        return default_collate(items)  # type: ignore[no-any-return]
    (item,) = items
    tensors = {name: value[None] for name, value in item.items() if type(value) is torch.Tensor}
    others = default_collate([{name: value for name, value in item.items() if name not in tensors}])
    return {name: tensors[name] if name in tensors else others[name] for name in item}


def _check_goes_to_workers(dataset: VolumeItems) -> None:
    for transform in dataset.transforms:
        try:
            pickle.dumps(transform)
        except Exception as error:
            name = getattr(transform, "__qualname__", type(transform).__name__)
            raise ConfigurationError(
                f"the transform {name} can't be sent to worker processes ({error}): make it a function of a "
                "module (no lambda, none within a function), or use num_workers=0, which reads on threads"
            ) from error


def _start_method() -> str:
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
