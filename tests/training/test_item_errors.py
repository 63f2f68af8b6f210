"""An error in a loader of ours says at which item and in which transform it happened."""

from __future__ import annotations

import shutil
import traceback
from pathlib import Path

import pytest
import torch

from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.training import (
    PatchCacheDataset,
    VolumeCollectionDataset,
    VolumeCollectionSubjectsDataset,
    build_patch_cache,
    create_inference_dataloader,
)


class Compose:
    def __init__(self, *transforms):
        self.transforms = transforms

    def __call__(self, value):
        for transform in self.transforms:
            value = transform(value)
        return value


class Scale:
    def __call__(self, item):
        return {**item, "image": item["image"] / 10}


class Photograph:
    def __call__(self, item):
        item["image"].sub_(torch.zeros(3, 1, 1, 1))
        return item


def told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_a_data_set_names_the_item_and_the_part_of_the_compose(cohort) -> None:
    dataset = VolumeCollectionDataset(
        RadiObject(cohort.uri).collection("ct"), transform=Compose(Scale(), Compose(Photograph()))
    )
    with pytest.raises(RuntimeError, match="broadcast shape") as found:
        dataset[1]
    assert "in Photograph, applied to item 1 (sub-" in told(found.value)


def test_a_volume_that_is_gone_is_named(cohort) -> None:
    store = RadiObject(cohort.uri)
    dataset = VolumeCollectionDataset(store.collection("ct"))
    shutil.rmtree(Path(store.collection("ct").iloc[2].uri))
    with pytest.raises(StorageError) as found:
        dataset[2]
    assert "while reading item 2 (sub-" in told(found.value)


def test_a_worker_hands_the_names_to_the_main_process(cohort) -> None:
    loader = create_inference_dataloader(
        RadiObject(cohort.uri).collection("ct"), num_workers=1, transform=Photograph()
    )
    with pytest.raises(RuntimeError) as found:
        list(loader)
    assert "in Photograph, applied to item 0 (sub-" in told(found.value)


def test_a_patch_cache_names_the_image_of_the_patch(cohort, tmp_path) -> None:
    info = build_patch_cache(
        cohort.uri, snapshot=cohort.snapshot(), subjects=["sub-1", "sub-2"],
        patches=PatchesConfig(image="ct", size_voxels=(8, 8, 8), per_volume=2), out_dir=tmp_path / "cache",
        budget=MemoryBudget(256),
    )  # fmt: skip
    with pytest.raises(RuntimeError) as found:
        PatchCacheDataset(info.path, transform=Compose(Scale(), Photograph()))[3]
    assert "in Photograph, applied to item 3 (sub-" in told(found.value)


def test_a_torchio_subject_is_named(cohort) -> None:
    pytest.importorskip("torchio")

    def fail(subject):
        raise ValueError("no")

    dataset = VolumeCollectionSubjectsDataset(RadiObject(cohort.uri).collection("ct"), transform=fail)
    with pytest.raises(ValueError, match="no") as found:
        dataset[0]
    assert "in fail, applied to item 0 (sub-" in told(found.value)
