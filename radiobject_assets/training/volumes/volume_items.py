"""Items read straight from volumes: the part that all data sets of volumes share.

1. The number of an item is divided into a volume's number and the part's (patch or slice) within it.
2. For a patch, a place is drawn from (seed, obs_id, patch number, epoch).
3. Each key of the item (`image`, `mask`) is read at that place, the items of a batch on threads that share
   one TileDB context, open arrays and the tile cache.
4. The transforms are applied, in the caller's thread; what they draw is a function of (seed, epoch, item).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from radiobject_assets.errors import ShapeError
from radiobject_assets.store import Volume, map_on_threads
from radiobject_assets.training.epochs import EpochClock
from radiobject_assets.training.item_errors import at_item
from radiobject_assets.training.sampling import PatchPlace, random_start
from radiobject_assets.training.seeded_transforms import apply_seeded
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
    """

    def __init__(
        self,
        groups: Sequence[Group],
        config: DatasetConfig,
        transforms: Sequence[Transform],
        points: Mapping[str, int] | None = None,
    ) -> None:
        self._groups = list(groups)
        self._config = config
        self._transforms = tuple(transforms)
        self._clock = EpochClock()
        self._points = dict(points or {})
        self._readers = ReaderPool(points=self._points)
        self._volume_shape = uniform_shape(self._shape(volume) for group in self._groups for volume in group)
        self._ends = np.cumsum([self._parts(self._shape(group[0])) for group in self._groups], dtype=np.int64)

    def _shape(self, volume: Volume) -> tuple[int, ...]:
        """The shape of what is loaded of a volume."""
        return volume.shape[:3] if volume.uri in self._points else volume.shape

    def _parts(self, shape: tuple[int, ...]) -> int:
        match self._config.loading_mode:
            case LoadingMode.FULL_VOLUME:
                return 1
            case LoadingMode.PATCH:
                return self._config.patches_per_volume
            case LoadingMode.SLICE_2D:
                return shape[PLANE_AXIS[self._config.slice_orientation]]

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def n_volumes(self) -> int:
        """How many groups of volumes there are."""
        return len(self._groups)

    @property
    def volume_shape(self) -> tuple[int, ...] | None:
        """The shape that all volumes share, or None."""
        return self._volume_shape

    @property
    def has_uniform_items(self) -> bool:
        """Whether all items have one shape, so that any of them can be batched."""
        if self._config.loading_mode is LoadingMode.PATCH:
            return True
        shapes = {self._shape(group[0]) for group in self._groups}
        if self._config.loading_mode is LoadingMode.SLICE_2D:
            axis = PLANE_AXIS[self._config.slice_orientation]
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
                self._config.seed,
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
        group = self._groups[number]
        tensors = at_item(
            lambda: f"item {index} ({group[0].obs_id or group[0].uri})",
            lambda: self._read_part(group, part, epoch),
        )
        item = {**tensors, "idx": number}
        item["obs_id"] = group[0].obs_id or ""
        item["obs_subject_id"] = group[0].obs_subject_id or ""
        return {**item, **self._more(number)}

    def _read_part(self, group: Group, part: int, epoch: int) -> Item:
        match self._config.loading_mode:
            case LoadingMode.FULL_VOLUME:
                return self._whole(group, None)
            case LoadingMode.SLICE_2D:
                axis = PLANE_AXIS[self._config.slice_orientation]
                return {**self._whole(group, (axis, part)), "slice_idx": part}
            case LoadingMode.PATCH:
                size = self._config.patch_size
                if size is None:
                    raise ShapeError("patch_size required when loading_mode is PATCH")
                place = self._place(group, part, epoch, size)
                return {**self._patch(group, place, size), "patch_idx": part, "patch_start": place.start}

    def _place(self, group: Group, part: int, epoch: int, size: tuple[int, int, int]) -> PatchPlace:
        key = group[0].obs_id or group[0].uri
        start, t = random_start(self._shape(group[0]), size, self._config.seed, key, part, epoch)
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
        return torch.from_numpy(np.stack([self._readers.get(volume).image(plane) for volume in volumes]))

    def _image_patch(
        self, volumes: Sequence[Volume], place: PatchPlace, size: tuple[int, int, int]
    ) -> torch.Tensor:
        """Channels of an image patch: float32 (C, X, Y, Z)."""
        image = np.empty((len(volumes), *size), np.float32)
        for channel, volume in enumerate(volumes):
            self._readers.get(volume).image_patch(place, size, image[channel])
        return torch.from_numpy(image)


def _named(index: int, obs_id: str) -> str:
    return f"item {index} ({obs_id})"


def label_tensor(labels: NDArray[Any]) -> torch.Tensor:
    """Labels with a channel axis in front, in a dtype that PyTorch computes with."""
    if labels.dtype.kind == "u" and labels.dtype.itemsize > 1:
        labels = labels.astype(np.int32 if labels.dtype.itemsize == 2 else np.int64)
    return torch.from_numpy(np.ascontiguousarray(labels))[None]
