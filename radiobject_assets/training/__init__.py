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
    from radiobject_assets.training.leakage import find_leakage
    from radiobject_assets.training.patch_batches import PatchCacheDataset, PatchLoader, patch_loader
    from radiobject_assets.training.patch_cache import Patch, PatchBatch, PatchCache
    from radiobject_assets.training.splits import assign_splits

_MODULES = {
    "CacheProblem": "cache_verify",
    "Patch": "patch_cache",
    "PatchBatch": "patch_cache",
    "PatchCache": "patch_cache",
    "PatchCacheDataset": "patch_batches",
    "PatchCacheInfo": "cache_build",
    "PatchLoader": "patch_batches",
    "assign_splits": "splits",
    "build_patch_cache": "cache_build",
    "find_leakage": "leakage",
    "patch_loader": "patch_batches",
    "verify_patch_cache": "cache_verify",
}

__all__ = [
    "CacheProblem",
    "Patch",
    "PatchBatch",
    "PatchCache",
    "PatchCacheDataset",
    "PatchCacheInfo",
    "PatchLoader",
    "assign_splits",
    "build_patch_cache",
    "find_leakage",
    "patch_loader",
    "verify_patch_cache",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
