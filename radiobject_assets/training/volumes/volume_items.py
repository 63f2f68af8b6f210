"""Items read straight from volumes: the part that all data sets of volumes share.

1. The number of an item is divided into a volume's number and the part's (patch or slice) within it.
2. For a patch, a place is drawn from (seed, obs_id, patch number, epoch).
3. Each key of the item (`image`, `mask`) is read at that place, the items of a batch on threads that share
   one TileDB context, open arrays and the tile cache.
4. The transforms are applied, in the caller's thread; what they draw is a function of (seed, epoch, item).
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from radiobject_assets.errors import ConfigurationError, ShapeError
from radiobject_assets.store import Volume, get_radiobject_config, map_on_threads
from radiobject_assets.training.alignment import patch_affine
from radiobject_assets.training.epochs import EpochClock
from radiobject_assets.training.item_errors import at_item
from radiobject_assets.training.meta_tensors import meta_tensor, wants_meta
from radiobject_assets.training.sampling import PatchPlace, random_start
from radiobject_assets.training.seeded_transforms import apply_seeded
from radiobject_assets.training.volumes.loader_memory import check_item_fits
from radiobject_assets.training.volumes.loading import DatasetConfig, LoadingMode
from radiobject_assets.training.volumes.subject_groups import uniform_shape
from radiobject_assets.training.volumes.volume_reading import PLANE_AXIS, ReaderPool

Item = dict[str, Any]
Transform = Callable[[Item], Item]
Group = tuple[Volume, ...]


class VolumeItems(Dataset[Item], ABC):
    """Items made of groups of volumes: one group for each number, volumes of one grid within a group.

    Parameters
    ----------
    groups
        The volumes, first the one that names the item.
    config
        What an item is.
    transforms
        Applied to each item in turn.
    points
        The point of the fourth axis that is loaded, by the URI of the volume (`subject_groups.points_in`).
    as_meta
        Whether tensors are MONAI's `MetaTensor`, with affine; by default where a transform is MONAI's.

    Raises
    ------
    ShapeError
        Slices of volumes with a fourth axis.
    ConfigurationError
        Volumes that MONAI can't place; when it is read, a whole volume that is larger than
        `ReadConfig.memory_budget_mb` was.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        config: DatasetConfig,
        transforms: Sequence[Transform],
        points: Mapping[str, int] | None = None,
        as_meta: bool | None = None,
    ) -> None:
        self.groups = list(groups)
        self.config = config
        self._transforms = tuple(transforms)
        self._clock = EpochClock()
        self._points = dict(points or {})
        self._readers = ReaderPool(points=self._points)
        # of this process: workers have a share of it, which is for what they hold beside an item
        self._budget_mb = get_radiobject_config().read.memory_budget_mb
        self.as_meta = wants_meta(as_meta, self._transforms)
        self._check(as_meta)
        self._with_nan: set[str] = set()
        self._volume_shape = uniform_shape(self._shape(volume) for group in self.groups for volume in group)
        self._ends = np.cumsum([self._parts(self._shape(group[0])) for group in self.groups], dtype=np.int64)

    def _check(self, asked: bool | None) -> None:
        mode = self.config.loading_mode
        if mode is not LoadingMode.PATCH and any(len(self._shape(group[0])) == 4 for group in self.groups):
            hint = "set `point` of DatasetConfig to the one point to load, or load patches"
            if mode is LoadingMode.SLICE_2D:
                raise ShapeError(
                    f"slices are taken from 3D volumes, and some of these have a fourth axis; {hint}"
                )
            if self.as_meta:
                raise ConfigurationError(f"MONAI can't place volumes with a fourth axis; {hint}")
        if mode is LoadingMode.SLICE_2D and self.as_meta:
            if asked:
                raise ConfigurationError(
                    "as_meta: slices have no affine that MONAI understands; load patches"
                )
            self.as_meta = False

    @property
    def item_bytes(self) -> int:
        """Memory of the largest item, before its transforms."""
        return max(map(self._item_bytes, self.groups), default=0)

    def _item_bytes(self, group: Group) -> int:
        shape = self._shape(group[0])
        match self.config.loading_mode:
            case LoadingMode.PATCH:
                shape = self.config.patch_size or shape
            case LoadingMode.SLICE_2D:
                axis = PLANE_AXIS[self.config.slice_orientation]
                shape = shape[:axis] + shape[axis + 1 :]
        return int(np.prod(shape, dtype=np.int64)) * self._voxel_bytes(group)

    def _voxel_bytes(self, group: Group) -> int:
        """Bytes of a voxel's entries in an item."""
        return 4 * len(group)

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """What is applied to each item, in this order."""
        return self._transforms

    def _shape(self, volume: Volume) -> tuple[int, ...]:
        """The shape of what is loaded of a volume."""
        return volume.shape[:3] if volume.uri in self._points else volume.shape

    def _parts(self, shape: tuple[int, ...]) -> int:
        match self.config.loading_mode:
            case LoadingMode.FULL_VOLUME:
                return 1
            case LoadingMode.PATCH:
                return self.config.patches_per_volume
            case LoadingMode.SLICE_2D:
                return shape[PLANE_AXIS[self.config.slice_orientation]]

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def n_volumes(self) -> int:
        """How many groups of volumes there are."""
        return len(self.groups)

    @property
    def volume_shape(self) -> tuple[int, ...] | None:
        """The shape that all volumes share, or None."""
        return self._volume_shape

    @property
    def has_uniform_items(self) -> bool:
        """Whether all items have one shape, so that any of them can be batched."""
        if self.config.loading_mode is LoadingMode.PATCH:
            return True
        shapes = {self._shape(group[0]) for group in self.groups}
        if self.config.loading_mode is LoadingMode.SLICE_2D:
            axis = PLANE_AXIS[self.config.slice_orientation]
            shapes = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
        return len(shapes) <= 1

    def set_epoch(self, epoch: int) -> None:
        """Patches are those of `epoch` from now on, in this process and in living workers."""
        self._clock.set(epoch)

    def __getitem__(self, index: int) -> Item:
        items = self.__getitems__([index])
        return items[0] if len(items) == 1 else items  # type: ignore[return-value]  # as MONAI's data sets do

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """The items of one batch: what `DataLoader` calls."""
        wanted = [self._checked(int(index)) for index in indices]
        # drawn here, one after the other: which epoch it is must not depend on which thread comes first
        epochs = [self._clock.now(index) for index in wanted]
        pairs = list(zip(wanted, epochs, strict=True))
        if len(pairs) == 1:
            items = [self._read(*pairs[0])]
        else:
            items = map_on_threads(lambda pair: self._read(*pair), pairs)
        done = [
            apply_seeded(
                self._transforms,
                item,
                partial(_named, index, item["obs_id"]),  # a transform may drop it
                self.config.seed,
                epoch,
                index,
            )
            for item, (index, epoch) in zip(items, pairs, strict=True)
        ]
        # a transform that crops several times gives a list for an item (MONAI's RandCropByPosNegLabeld)
        return [one for item in done for one in (item if isinstance(item, list) else [item])]

    def _checked(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return index % len(self)

    def _read(self, index: int, epoch: int) -> Item:
        number = int(np.searchsorted(self._ends, index, side="right"))
        part = index - int(self._ends[number - 1]) if number else index
        group = self.groups[number]
        tensors = at_item(
            lambda: f"item {index} ({group[0].obs_id or group[0].uri})",
            lambda: self._read_part(group, part, epoch),
        )
        if self.as_meta:
            start = tensors.get("patch_start")
            affine = group[0].affine if start is None else patch_affine(group[0].affine, start)
            # MONAI names the files that it saves after the volume: a mask's is not that of its image
            ids = {"image": group[0].obs_id or "", "mask": group[-1].obs_id or ""}
            patch = tensors.get("patch_idx")
            placed = {n: meta_tensor(tensors[n], affine, ids[n], patch) for n in ids if n in tensors}
            tensors = {**tensors, **placed}
        item = {**tensors, "idx": number}
        item["obs_id"] = group[0].obs_id or ""
        item["obs_subject_id"] = group[0].obs_subject_id or ""
        return {**item, **self._more(number)}

    def _read_part(self, group: Group, part: int, epoch: int) -> Item:
        match self.config.loading_mode:
            case LoadingMode.FULL_VOLUME:
                check_item_fits(self._item_bytes(group), self._budget_mb)
                return self._whole(group, None)
            case LoadingMode.SLICE_2D:
                axis = PLANE_AXIS[self.config.slice_orientation]
                return {**self._whole(group, (axis, part)), "slice_idx": part}
            case LoadingMode.PATCH:
                size = self.config.patch_size
                if size is None:
                    raise ShapeError("patch_size required when loading_mode is PATCH")
                place = self._place(group, part, epoch, size)
                return {**self._patch(group, place, size), "patch_idx": part, "patch_start": place.start}

    def _place(self, group: Group, part: int, epoch: int, size: tuple[int, int, int]) -> PatchPlace:
        key = group[0].obs_id or group[0].uri
        start, t = random_start(self._shape(group[0]), size, self.config.seed, key, part, epoch)
        return PatchPlace(part, start, t, False)

    @abstractmethod
    def _whole(self, group: Group, plane: tuple[int, int] | None) -> Item:
        """The tensors of whole volumes, or of one plane of them."""

    @abstractmethod
    def _patch(self, group: Group, place: PatchPlace, size: tuple[int, int, int]) -> Item:
        """The tensors of one patch."""

    def _more(self, number: int) -> Item:
        """Further entries of the item of volume `number`."""
        return {}

    def _image_whole(self, volumes: Sequence[Volume], plane: tuple[int, int] | None) -> torch.Tensor:
        """Channels of whole images or planes: float32 (C, ...)."""
        shape = self._readers.get(volumes[0]).box_shape(plane)
        image = np.empty((len(volumes), *shape), np.float32)
        for channel, volume in enumerate(volumes):
            self._readers.get(volume).image(plane, image[channel])
            self._tell_nan(volume, image[channel])
        return torch.from_numpy(image)

    def _image_patch(
        self, volumes: Sequence[Volume], place: PatchPlace, size: tuple[int, int, int]
    ) -> torch.Tensor:
        """Channels of an image patch: float32 (C, X, Y, Z)."""
        image = np.empty((len(volumes), *size), np.float32)
        for channel, volume in enumerate(volumes):
            self._readers.get(volume).image_patch(place, size, image[channel])
            self._tell_nan(volume, image[channel])
        return torch.from_numpy(image)

    def _tell_nan(self, volume: Volume, image: NDArray[np.float32]) -> None:
        """Warn of the first NaN of a volume: one makes a loss NaN, and then every weight."""
        if volume.stored_dtype.kind != "f" or volume.uri in self._with_nan or not np.isnan(image.sum()):
            return
        if np.isnan(image).any():
            self._with_nan.add(volume.uri)
            warnings.warn(
                f"volume {volume.uri.rstrip('/').rpartition('/')[2]} has voxels that are NaN (not a number): "
                "replace them in a transform (torch.nan_to_num), or leave the volume out",
                stacklevel=2,
            )


def _named(index: int, obs_id: str) -> str:
    return f"item {index} ({obs_id})"


def label_tensor(labels: NDArray[Any]) -> torch.Tensor:
    """Labels with a channel axis in front, in a dtype that PyTorch computes with."""
    if labels.dtype.kind == "u" and labels.dtype.itemsize > 1:
        labels = labels.astype(np.int32 if labels.dtype.itemsize == 2 else np.int64)
    return torch.from_numpy(np.ascontiguousarray(labels))[None]
