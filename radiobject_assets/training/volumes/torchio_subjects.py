"""Volumes as TorchIO subjects, with their affines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.data import Dataset

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store import Volume, VolumeCollection
from radiobject_assets.training.epochs import EpochClock
from radiobject_assets.training.item_errors import at_item
from radiobject_assets.training.seeded_transforms import apply_seeded
from radiobject_assets.training.volumes.label_values import LabelSource, label_values
from radiobject_assets.training.volumes.subject_groups import as_collections, group_by_subject
from radiobject_assets.training.volumes.volume_items import label_tensor
from radiobject_assets.training.volumes.volume_reading import VolumeReader


class VolumeCollectionSubjectsDataset(Dataset[Any]):
    """One `torchio.Subject` for each subject, with an image a collection under the collection's name.

    Collections of labels become `torchio.LabelMap`, so that TorchIO never interpolates them; volumes may have
    different grids, since each carries its affine.

    Parameters
    ----------
    collections
        One collection, or several of the same subjects.
    labels
        See `label_values`; under `"label"` of the subject.
    transform
        A TorchIO transform. What it draws is a function of (seed, epoch, subject), in any process.
    seed
        Of its random choices.

    Raises
    ------
    ConfigurationError
        TorchIO is not installed.
    AlignmentError
        The collections' subjects differ, or a volume has no label.
    """

    def __init__(
        self,
        collections: VolumeCollection | Sequence[VolumeCollection],
        labels: LabelSource = None,
        transform: Callable[[Any], Any] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        _torchio()
        chosen = as_collections(collections)
        self._names = [collection.name for collection in chosen]
        self._groups = group_by_subject(chosen)
        self._labels = label_values(chosen[0], labels)
        self._transforms = () if transform is None else (transform,)
        self._seed, self._clock = seed, EpochClock()

    @property
    def collection_names(self) -> list[str]:
        """Names of the images in each subject."""
        return self._names

    def __len__(self) -> int:
        return len(self._groups)

    def set_epoch(self, epoch: int) -> None:
        """Random choices are those of `epoch` from now on; else one begins when a subject comes again."""
        self._clock.set(epoch)

    def __getitem__(self, index: int) -> Any:
        tio = _torchio()
        group = self._groups[index]

        def named() -> str:
            return f"item {index} ({group[0].obs_id or group[0].uri})"

        def read() -> dict[str, Any]:
            return {name: _image(tio, volume) for name, volume in zip(self._names, group, strict=True)}

        images = at_item(named, read)
        more: dict[str, Any] = {"obs_subject_id": group[0].obs_subject_id or ""}
        if self._labels is not None:
            more["label"] = self._labels[index]
        subject = tio.Subject({**images, **more})
        key = (self._seed, self._clock.now(index), index)
        return apply_seeded(self._transforms, subject, named, *key)

    def dry_iter(self) -> list[SimpleNamespace]:
        """The subjects' ids, without reading voxels: `torchio.Queue` counts its patches with this."""
        return [SimpleNamespace(obs_subject_id=group[0].obs_subject_id) for group in self._groups]


def _image(tio: Any, volume: Volume) -> Any:
    reader = VolumeReader(volume)
    if volume.kind == "labels":
        return tio.LabelMap(tensor=_channels(label_tensor(reader.labels())), affine=volume.affine)
    return tio.ScalarImage(tensor=_channels(torch.from_numpy(reader.image())[None]), affine=volume.affine)


def _channels(tensor: torch.Tensor) -> torch.Tensor:
    # TorchIO keeps time in the channels: (1, X, Y, Z, T) becomes (T, X, Y, Z)
    return tensor if tensor.ndim == 4 else tensor[0].movedim(-1, 0).contiguous()


def _torchio() -> Any:
    try:
        return import_module("torchio")
    except ImportError as error:
        raise ConfigurationError("TorchIO is not installed; `pip install torchio`") from error
