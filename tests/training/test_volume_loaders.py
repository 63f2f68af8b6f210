"""Loaders over volumes: defaults that neither hang, nor repeat, nor come out empty."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from radiobject_assets.errors import ShapeError
from radiobject_assets.store import RadiObject
from radiobject_assets.training import (
    DatasetConfig,
    LoadingMode,
    VolumeCollectionDataset,
    create_distributed_dataloader,
    create_inference_dataloader,
    create_segmentation_dataloader,
    create_training_dataloader,
    create_validation_dataloader,
    patch_loader,
    set_epoch,
)
from tests.store.radiobject_layout import write_old_store

SIZE = (9, 8, 7)


def seen(loader):
    """(volume, patch start) of every item of one iteration."""
    found = []
    for batch in loader:
        starts = zip(*[axis.tolist() for axis in batch["patch_start"]], strict=True)
        found += list(zip(batch["obs_id"], starts, strict=True))
    return found


def test_training_batches_of_whole_volumes(cohort):
    loader = create_training_dataloader(RadiObject(cohort.uri).ct, batch_size=2)
    batches = list(loader)
    assert [tuple(batch["image"].shape) for batch in batches] == [(2, 1, 30, 26, 21)]
    for batch in batches:
        for image, obs_id in zip(batch["image"], batch["obs_id"], strict=True):
            assert np.array_equal(image[0].numpy(), cohort.physical(obs_id))


def test_fewer_items_than_a_batch_are_one_batch(cohort):
    radi = RadiObject(cohort.uri)
    assert [len(b["idx"]) for b in create_training_dataloader(radi.ct, batch_size=8)] == [3]
    assert [len(b["idx"]) for b in create_segmentation_dataloader(radi.ct, radi.seg, batch_size=8)] == [3]
    assert [len(b["idx"]) for b in create_distributed_dataloader(radi.ct, 0, 2, batch_size=8)] == [2]
    assert list(create_training_dataloader(radi.ct.head(0), patch_size=SIZE)) == []


def test_every_iteration_of_training_is_a_new_epoch(cohort):
    loader = create_training_dataloader(RadiObject(cohort.uri).ct, patch_size=SIZE, patches_per_volume=4)
    epochs = [seen(loader) for _ in range(3)]
    assert all(len(epoch) == 12 for epoch in epochs)
    assert not set(epochs[0]) & set(epochs[1])
    set_epoch(loader, 0)
    assert set(seen(loader)) == set(epochs[0])


def test_validation_is_the_same_every_time(cohort):
    loader = create_validation_dataloader(RadiObject(cohort.uri).ct, patch_size=SIZE, patches_per_volume=2)
    assert seen(loader) == seen(loader)
    assert [obs_id for obs_id, _ in seen(loader)] == [f"sub-{n}_ct" for n in (1, 1, 2, 2, 3, 3)]


@pytest.mark.parametrize("persistent", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_worker_processes_give_the_same_batches_and_new_epochs(cohort, persistent):
    radi = RadiObject(cohort.uri)
    settings = {"patch_size": SIZE, "batch_size": 3, "foreground_sampling": True, "patches_per_volume": 2}
    here = create_segmentation_dataloader(radi.ct, radi.seg, **settings)
    there = create_segmentation_dataloader(
        radi.ct, radi.seg, num_workers=2, persistent_workers=persistent, **settings
    )
    epochs = [set(seen(there)) for _ in range(2)]
    assert [set(seen(here)) for _ in range(2)] == epochs
    assert epochs[0] != epochs[1]


def test_a_plain_dataloader_with_forked_workers_neither_hangs_nor_repeats(cohort):
    config = DatasetConfig(loading_mode=LoadingMode.PATCH, patch_size=SIZE, patches_per_volume=2)
    dataset = VolumeCollectionDataset(RadiObject(cohort.uri).ct, config)
    _ = dataset[0]  # TileDB is at work in this process before it forks
    loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=60)
    first, second = set(seen(loader)), set(seen(loader))
    assert len(first) == 6
    assert first != second


def test_inference_takes_volumes_of_any_shape_one_by_one(make_store):
    store = make_store()
    store.add_subject(1, shape=(12, 13, 14))
    store.add_subject(2, shape=(15, 16, 17))
    ct = RadiObject(store.uri).ct
    assert [tuple(b["image"].shape) for b in create_inference_dataloader(ct)] == [
        (1, 1, 12, 13, 14),
        (1, 1, 15, 16, 17),
    ]
    with pytest.raises(ShapeError, match="different shapes"):
        create_training_dataloader(ct, batch_size=2)
    assert len(list(create_training_dataloader(ct, batch_size=2, patch_size=(20, 20, 20)))) == 1


def test_ranks_share_the_volumes(cohort):
    ct = RadiObject(cohort.uri).ct
    loaders = [create_distributed_dataloader(ct, rank, 3, batch_size=1, patch_size=SIZE) for rank in range(3)]
    assert all(isinstance(loader.sampler, DistributedSampler) for loader in loaders)
    for _ in range(2):
        volumes = [obs_id for loader in loaders for obs_id, _ in seen(loader)]
        assert sorted(volumes) == ["sub-1_ct", "sub-2_ct", "sub-3_ct"]
    set_epoch(loaders[0], 5)
    assert loaders[0].sampler.epoch == 5
    orders = set()
    for _ in range(8):
        orders.add(tuple(obs_id for loader in loaders for obs_id, _ in seen(loader)))
    assert len(orders) > 1


def test_set_epoch_reaches_every_kind_of_loader(cohort):
    config = DatasetConfig(loading_mode=LoadingMode.PATCH, patch_size=SIZE)
    dataset = VolumeCollectionDataset(RadiObject(cohort.uri).ct, config)
    plain = DataLoader(dataset, batch_size=1)
    set_epoch(plain, 3)
    assert seen(plain) == seen(plain)
    set_epoch(DataLoader([1, 2, 3]), 3)
    set_epoch(object(), 3)
    assert callable(patch_loader)


def test_a_dataset_pickles_and_reads_the_same_afterwards(cohort):
    config = DatasetConfig(loading_mode=LoadingMode.PATCH, patch_size=SIZE)
    dataset = VolumeCollectionDataset(RadiObject(cohort.uri).ct.tail(2), config)
    dataset.set_epoch(1)
    copy = pickle.loads(pickle.dumps(dataset))
    cohort.add_subject(0)  # sorts before all others: positions shift, volumes must not
    for index in range(len(dataset)):
        assert copy[index]["obs_id"] == dataset[index]["obs_id"]
        assert torch.equal(copy[index]["image"], dataset[index]["image"])


def test_a_gradient_flows(cohort):
    radi = RadiObject(cohort.uri)
    loader = create_segmentation_dataloader(radi.ct, radi.seg, patch_size=(8, 8, 8), foreground_sampling=True)
    model = torch.nn.Conv3d(1, 2, 1)
    for batch in loader:
        loss = torch.nn.functional.cross_entropy(
            model(batch["image"] / 1000), (batch["mask"][:, 0] > 0).long()
        )
        loss.backward()
    assert model.weight.grad is not None
    assert bool(model.weight.grad.abs().sum() > 0)


def test_a_store_that_radiobject_wrote_is_loaded_by_id(tmp_path):
    uri, truth = write_old_store(str(tmp_path / "old"))
    batch = next(iter(create_validation_dataloader(RadiObject(uri).t1, batch_size=3)))
    assert batch["obs_id"] == ["a0_t1", "m1_t1", "m2_t1"]
    for obs_id, image in zip(batch["obs_id"], batch["image"], strict=True):
        assert np.array_equal(image[0].numpy(), truth[obs_id])
