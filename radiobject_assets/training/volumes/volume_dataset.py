"""Images, of one or several modalities, as a PyTorch data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from radiobject_assets.store import VolumeCollection
from radiobject_assets.training.sampling import PatchPlace
from radiobject_assets.training.volumes.label_values import LabelSource, label_values
from radiobject_assets.training.volumes.loading import DatasetConfig
from radiobject_assets.training.volumes.subject_groups import (
    as_collections,
    check_are_images,
    check_channels,
    group_by_subject,
    points_in,
)
from radiobject_assets.training.volumes.volume_items import Group, Item, Transform, VolumeItems


class VolumeCollectionDataset(VolumeItems):
    """Volumes of one collection, or of several as channels of one image.

    Items are `{"image": float32 (C, X, Y, Z) in physical units, "idx": volume number, "obs_id",
    "obs_subject_id"}`, with `"label"` where labels are given, `"patch_idx"` and `"patch_start"` for patches,
    `"slice_idx"` for slices (image (C, X, Y) for axial ones).

    Parameters
    ----------
    collections
        One collection, or several of the same subjects: they are paired by subject and must have one grid.
    config
        Whole volumes by default.
    labels
        See `label_values`.
    transform
        Applied to each item; MONAI's dictionary transforms fit.
    as_meta
        Whether images are MONAI's `MetaTensor`, with affine; by default where the transform is MONAI's.

    Raises
    ------
    AlignmentError
        Subjects, shapes or places of the collections differ, one of several channels is of labels, or a
        volume has no label.
    ConfigurationError
        No collection, an unknown modality or label column; when it is read, a whole volume that is larger
        than `ReadConfig.memory_budget_mb`.
    ShapeError
        Slices of volumes with a fourth axis.

    Patches are others in every epoch. Our loaders count epochs; with a plain `DataLoader` call `set_epoch`,
    or leave it to the data set, which notices when it is asked for an item again.
    """

    def __init__(
        self,
        collections: VolumeCollection | Sequence[VolumeCollection],
        config: DatasetConfig | None = None,
        labels: LabelSource = None,
        transform: Transform | None = None,
        *,
        as_meta: bool | None = None,
    ) -> None:
        config = config or DatasetConfig()
        chosen = as_collections(collections, config.modalities)
        if config.value_filter is not None:
            chosen = _filtered(chosen, config.value_filter)
        self._names = [collection.name for collection in chosen]
        groups = group_by_subject(chosen)
        check_channels(groups, self._names)
        if len(chosen) > 1:
            for channel, name in enumerate(self._names):
                check_are_images((group[channel] for group in groups), name)
        transforms = [] if transform is None else [transform]
        super().__init__(groups, config, transforms, points_in(chosen, config.point), as_meta)
        self._labels = label_values(chosen[0], config.label_column if labels is None else labels)

    @property
    def collection_names(self) -> list[str]:
        """Names of the collections, in the order of their channels."""
        return self._names

    @property
    def n_channels(self) -> int:
        """Channels of an image: one a collection."""
        return len(self._names)

    def _whole(self, group: Group, plane: tuple[int, int] | None) -> Item:
        return {"image": self._image_whole(group, plane)}

    def _patch(self, group: Group, place: PatchPlace, size: tuple[int, int, int]) -> Item:
        return {"image": self._image_patch(group, place, size)}

    def _more(self, number: int) -> Item:
        return {} if self._labels is None else {"label": _as_label(self._labels[number])}


def _filtered(collections: list[VolumeCollection], condition: str) -> list[VolumeCollection]:
    first = collections[0].filter(condition)
    subjects = set(first.obs_subject_ids)
    others = [
        other[np.array([subject in subjects for subject in other.obs_subject_ids], dtype=bool)]
        for other in collections[1:]
    ]
    return [first, *others]


def _as_label(value: Any) -> Any:
    if isinstance(value, (bool, int, float, np.bool_, np.number)):
        return torch.tensor(value.item() if isinstance(value, np.generic) else value)
    return value
