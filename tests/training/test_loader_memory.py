"""What loaders hold stays within the budget, and what can't is refused with what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from test_patch_cache import build

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store import (
    RadiObject,
    ReadConfig,
    commit_volumes,
    configure,
    ensure_collection,
    ensure_store,
    get_radiobject_config,
    reset_radiobject_config,
    stage_volume,
    upsert_subjects,
)
from radiobject_assets.training import (
    DatasetConfig,
    LoadingMode,
    VolumeCollectionDataset,
    create_inference_dataloader,
    create_training_dataloader,
    patch_loader,
)
from radiobject_assets.training.volumes.loader_memory import divided_budget

MB = 2**20


@pytest.fixture(autouse=True)
def own_configuration():
    yield
    reset_radiobject_config()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A volume of 36 MB as float32: of one value, so that it costs nothing to write."""
    uri = str(tmp_path_factory.mktemp("large") / "store")
    ensure_store(uri)
    collection = ensure_collection(uri, "ct")
    voxels = np.zeros((256, 256, 144), np.uint8)
    ids = [{"obs_id": name, "obs_subject_id": name} for name in "ab"]
    commit_volumes(
        collection, [stage_volume(collection, voxels=voxels, affine=np.eye(4), **one) for one in ids]
    )
    upsert_subjects(uri, pd.DataFrame({"obs_subject_id": ["a", "b"]}))
    return RadiObject(uri).ct


def test_a_volume_that_is_larger_than_the_budget_is_refused(large):
    assert create_inference_dataloader(large).dataset.item_bytes == 36 * MB
    configure(read=ReadConfig(memory_budget_mb=64, tile_cache_size_mb=0))
    with pytest.raises(ConfigurationError, match=r"36 MB.*memory_budget_mb=\d+"):
        create_inference_dataloader(large)
    with pytest.raises(ConfigurationError, match="takes 72 MB in memory and memory_budget_mb is 64"):
        VolumeCollectionDataset([large, large])[0]
    configure(read=ReadConfig(memory_budget_mb=96, tile_cache_size_mb=0))
    assert next(iter(create_inference_dataloader(large)))["image"].shape == (1, 1, 256, 256, 144)
    with pytest.raises(ConfigurationError, match="smaller batch_size"):
        create_training_dataloader(large, batch_size=2)
    patches = create_training_dataloader(large, batch_size=2, patch_size=(32, 32, 32))
    assert len(list(patches)) == 1


def test_the_least_budget_that_a_refusal_names_is_enough(large):
    for workers in (0, 2, 4):
        configure(read=ReadConfig(memory_budget_mb=64))
        with pytest.raises(ConfigurationError) as refused:
            create_training_dataloader(large, batch_size=2, num_workers=workers)
        named = int(str(refused.value).rpartition("memory_budget_mb=")[2].rstrip(")"))
        configure(read=ReadConfig(memory_budget_mb=named))
        create_training_dataloader(large, batch_size=2, num_workers=workers)


@pytest.mark.parametrize("budget_mb", [128, 256, 512, 2048, 8192])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_what_workers_hold_together_is_the_budget(budget_mb, workers):
    configure(read=ReadConfig(memory_budget_mb=budget_mb))
    batch = 4 * MB
    memory = divided_budget(batch, 4, workers, pinned=False)
    ahead = memory.prefetch_factor or 0
    # slabs of four threads are a quarter of a worker's budget
    reading = workers * (memory.worker_cache_mb + memory.worker_mb // 4) * MB
    assert batch * (1 + workers * (ahead + 1)) + reading <= budget_mb * MB
    assert memory.worker_cache_mb <= 128


def told(item):
    read = get_radiobject_config().read
    return {**item, "read": torch.tensor([read.memory_budget_mb, read.tile_cache_size_mb, read.max_workers])}


@pytest.mark.slow
def test_workers_have_the_configuration_of_this_process_and_their_share(large):
    configure(read=ReadConfig(memory_budget_mb=512, max_workers=2))
    loader = create_training_dataloader(
        large, batch_size=1, patch_size=(64, 64, 64), num_workers=2, transform=told
    )
    for batch in loader:
        budget, cache, threads = batch["read"][0].tolist()
        assert 200 < budget < 256
        assert cache <= budget // 2
        assert threads == 2


def test_a_transform_that_workers_can_not_have_is_named(large):
    with pytest.raises(ConfigurationError, match=r"<lambda> can't be sent to worker.*num_workers=0"):
        create_training_dataloader(large, patch_size=(8, 8, 8), num_workers=1, transform=lambda item: item)


def test_pinned_memory_is_used_where_there_is_a_gpu(cohort, tmp_path):
    loader = patch_loader(build(cohort, tmp_path / "cache").path, pin_memory=True)
    assert next(iter(loader))["image"].is_pinned() == torch.cuda.is_available()
    volumes = create_training_dataloader(RadiObject(cohort.uri).ct, patch_size=(8, 8, 8))
    assert next(iter(volumes))["image"].is_pinned() == torch.cuda.is_available()


def test_voxels_that_are_nan_are_told_once_a_volume(make_store):
    store = make_store()
    voxels = np.ones((12, 12, 12), np.float32)
    store.add("pet", "fine", "a", voxels)
    store.add("pet", "broken", "b", np.where(np.arange(12) == 3, np.nan, voxels))
    config = DatasetConfig(loading_mode=LoadingMode.PATCH, patch_size=(12, 12, 12), patches_per_volume=3)
    with pytest.warns(UserWarning, match="not a number") as warned:
        list(VolumeCollectionDataset(RadiObject(store.uri).pet, config))
    assert len([one for one in warned if "not a number" in str(one.message)]) == 1
