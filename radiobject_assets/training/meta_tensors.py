"""Tensors that know their place in the world: MONAI's `MetaTensor`, with affine and metadata.

MONAI takes a plain tensor to have voxels of 1 mm and its first voxel at the origin, without a word: it
resamples to other sizes than asked for, and saves images at the wrong place. Items that go to MONAI
therefore carry the affine of what they show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data._utils.collate import default_collate_fn_map

from radiobject_assets.errors import ConfigurationError


def is_monai(transform: Any) -> bool:
    """Whether a transform is MONAI's, or made from one of its classes."""
    return any(kind.__module__.partition(".")[0] == "monai" for kind in type(transform).__mro__)


def wants_meta(asked: bool | None, transforms: Iterable[Any]) -> bool:
    """Whether tensors are to be MONAI's: as it was asked for, else where a transform is MONAI's.

    Raises
    ------
    ConfigurationError
        They were asked for, and MONAI is not installed.
    """
    wanted = any(map(is_monai, transforms)) if asked is None else asked
    if wanted:
        _monai_data()
    return wanted


def meta_tensor(tensor: torch.Tensor, affine: NDArray[np.float64], obs_id: str, part: int | None) -> Any:
    """One item's `tensor` (C, X, Y, Z) with its `affine` (4x4, voxel index to RAS+ millimetres).

    `filename_or_obj` is what MONAI's `SaveImage` names files after, and `patch_index` keeps the patches of
    one volume apart there.
    """
    meta: dict[str, Any] = {
        # SaveImage takes off what follows the last dot, which may be a part of the id
        "filename_or_obj": f"{obs_id}.nii.gz",
        "space": "RAS",
        "original_affine": np.array(affine),
        "original_channel_dim": 0,
        "spatial_shape": np.array(tensor.shape[1:]),
    }
    if part is not None:
        meta["patch_index"] = part
    return _monai_data().MetaTensor(tensor, affine=torch.from_numpy(np.array(affine)), meta=meta)


def meta_batch(tensor: torch.Tensor, affines: NDArray[np.float64], obs_ids: Sequence[str], parts: Any) -> Any:
    """A batch (B, C, X, Y, Z) as MONAI's collate function would make it of B items."""
    n = len(obs_ids)
    affine = torch.from_numpy(np.array(affines))
    batch = _monai_data().MetaTensor(tensor)
    batch.meta = {
        "affine": affine,
        "filename_or_obj": [f"{obs_id}.nii.gz" for obs_id in obs_ids],
        "space": ["RAS"] * n,
        "original_affine": affine.clone(),
        "original_channel_dim": torch.zeros(n, dtype=torch.int64),
        "spatial_shape": torch.tensor([list(tensor.shape[2:])] * n),
        "patch_index": torch.as_tensor(parts),
    }
    batch.applied_operations = [[] for _ in obs_ids]
    batch.is_batch = True
    return batch


def collate_meta(items: list[Any]) -> Any:
    """MONAI's collate function: affines and metadata are stacked too; several crops of an item are items."""
    return _monai_data().list_data_collate(items)


def _monai_data() -> Any:
    try:
        import monai.data
        from monai.data.meta_tensor import MetaTensor
        from monai.data.utils import collate_meta_tensor_fn
    except ImportError as error:
        raise ConfigurationError("MONAI is not installed; `pip install monai`") from error
    # PyTorch would stack them too, and give the batch the affine of its first item; MONAI does the same
    default_collate_fn_map.setdefault(MetaTensor, collate_meta_tensor_fn)
    return monai.data
