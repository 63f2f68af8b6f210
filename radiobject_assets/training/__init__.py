"""From a store to training batches: splits, the patch cache, and loaders for PyTorch, MONAI and TorchIO.

Two ways lead to batches:

- *The patch cache* (`build_patch_cache`, then `patch_loader`): patches are cut once and memory-mapped. The
  way to train, at the speed of memory.
- *Straight from volumes* (`create_training_dataloader` and its siblings): no preparation, other patches every
  epoch, for exploring, validation and inference on whole volumes.

Importing this package imports neither torch nor torchio: names that need them load them on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radiobject_assets.training.cache_build import PatchCacheInfo, build_patch_cache
    from radiobject_assets.training.cache_verify import CacheProblem, verify_patch_cache
    from radiobject_assets.training.label_values import LabelSource
    from radiobject_assets.training.leakage import find_leakage
    from radiobject_assets.training.loaders import (
        create_distributed_dataloader,
        create_inference_dataloader,
        create_segmentation_dataloader,
        create_training_dataloader,
        create_validation_dataloader,
        set_epoch,
    )
    from radiobject_assets.training.loading import DatasetConfig, LoadingMode
    from radiobject_assets.training.pairing import LeftOut, LeftOutReason
    from radiobject_assets.training.patch_batches import PatchCacheDataset, PatchLoader, patch_loader
    from radiobject_assets.training.patch_cache import Patch, PatchBatch, PatchCache
    from radiobject_assets.training.segmentation_dataset import SegmentationDataset
    from radiobject_assets.training.splits import assign_splits
    from radiobject_assets.training.torchio_subjects import VolumeCollectionSubjectsDataset
    from radiobject_assets.training.volume_dataset import VolumeCollectionDataset

_MODULES = {
    "CacheProblem": "cache_verify",
    "DatasetConfig": "loading",
    "LabelSource": "label_values",
    "LeftOut": "pairing",
    "LeftOutReason": "pairing",
    "LoadingMode": "loading",
    "Patch": "patch_cache",
    "PatchBatch": "patch_cache",
    "PatchCache": "patch_cache",
    "PatchCacheDataset": "patch_batches",
    "PatchCacheInfo": "cache_build",
    "PatchLoader": "patch_batches",
    "SegmentationDataset": "segmentation_dataset",
    "VolumeCollectionDataset": "volume_dataset",
    "VolumeCollectionSubjectsDataset": "torchio_subjects",
    "assign_splits": "splits",
    "build_patch_cache": "cache_build",
    "create_distributed_dataloader": "loaders",
    "create_inference_dataloader": "loaders",
    "create_segmentation_dataloader": "loaders",
    "create_training_dataloader": "loaders",
    "create_validation_dataloader": "loaders",
    "find_leakage": "leakage",
    "patch_loader": "patch_batches",
    "set_epoch": "loaders",
    "verify_patch_cache": "cache_verify",
}

__all__ = [
    "CacheProblem",
    "DatasetConfig",
    "LabelSource",
    "LeftOut",
    "LeftOutReason",
    "LoadingMode",
    "Patch",
    "PatchBatch",
    "PatchCache",
    "PatchCacheDataset",
    "PatchCacheInfo",
    "PatchLoader",
    "SegmentationDataset",
    "VolumeCollectionDataset",
    "VolumeCollectionSubjectsDataset",
    "assign_splits",
    "build_patch_cache",
    "create_distributed_dataloader",
    "create_inference_dataloader",
    "create_segmentation_dataloader",
    "create_training_dataloader",
    "create_validation_dataloader",
    "find_leakage",
    "patch_loader",
    "set_epoch",
    "verify_patch_cache",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
