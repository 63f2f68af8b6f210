"""Batches from a patch cache: complete epochs in their own order, and memory that is never pulled away."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.training.cache.build import build_patch_cache
from radiobject_assets.training.cache.cache_reading import PatchCache
from radiobject_assets.training.cache.patch_batches import PatchCacheDataset, patch_loader

SIZE = (6, 5, 4)


@pytest.fixture
def cache(cohort, tmp_path):
    """Fifteen patches with labels."""
    info = build_patch_cache(
        cohort.uri,
        snapshot=cohort.snapshot(),
        subjects=["sub-1", "sub-2", "sub-3"],
        patches=PatchesConfig(image="ct", labels="seg", size_voxels=SIZE, per_volume=5),
        out_dir=tmp_path / "patches",
        budget=MemoryBudget(64),
    )
    return PatchCache(info.path)


def seen(batches):
    return [index for batch in batches for index in batch["index"].tolist()]


def assert_batch_is_true(batch, cache):
    for place, index in enumerate(batch["index"].tolist()):
        image, label, _ = cache[index]
        assert np.array_equal(batch["image"][place, 0].numpy(), image)
        assert np.array_equal(batch["label"][place, 0].numpy(), label)


def test_batches_hold_images_in_physical_units_with_their_labels(cache):
    loader = patch_loader(cache.path, batch_size=4)
    batches = list(loader)
    assert len(loader) == len(batches) == 4
    assert [tuple(batch["image"].shape) for batch in batches] == [(4, 1, *SIZE)] * 3 + [(3, 1, *SIZE)]
    assert {(batch["image"].dtype, batch["label"].dtype) for batch in batches} == {
        (torch.float32, torch.uint8)
    }
    for batch in batches:
        assert_batch_is_true(batch, cache)


def test_batches_that_are_kept_are_not_overwritten(cache):
    kept, views = [], []
    for _ in range(3):
        for batch in patch_loader(cache, batch_size=2, seed=3):
            kept.append(batch)
            views.append((batch["index"], batch["image"][1:2]))
    for batch in kept:
        assert_batch_is_true(batch, cache)
    del kept, batch
    for index, view in views:
        if len(view):
            assert np.array_equal(view[0, 0].numpy(), cache[int(index[1])].image)


def test_a_loop_that_keeps_nothing_uses_two_buffers(cache):
    loader = patch_loader(cache, batch_size=2)
    addresses = {batch["image"].data_ptr() for _ in range(3) for batch in loader}
    assert len(addresses) == 2


def test_every_epoch_has_its_own_order_and_all_patches(cache):
    loader = patch_loader(cache, batch_size=4, seed=1)
    epochs = [seen(loader) for _ in range(3)]
    assert all(sorted(epoch) == list(range(15)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    loader.set_epoch(1)
    assert seen(loader) == epochs[1]
    assert seen(patch_loader(cache, batch_size=4, seed=1)) == epochs[0]
    assert seen(patch_loader(cache, batch_size=4, seed=2)) != epochs[0]
    assert seen(patch_loader(cache, batch_size=4, shuffle=False)) == list(range(15))


@pytest.mark.parametrize("world_size", [1, 2, 4, 7])
@pytest.mark.parametrize("drop_last", [False, True])
def test_ranks_share_an_epoch_evenly(cache, world_size, drop_last):
    ranks = [
        patch_loader(cache, batch_size=2, rank=rank, world_size=world_size, drop_last=drop_last)
        for rank in range(world_size)
    ]
    counts = {len(list(loader)) for loader in ranks}
    assert counts == {len(ranks[0])}
    orders = np.concatenate([loader.order(5) for loader in ranks])
    if drop_last:  # whole batches of all ranks, and nothing twice
        assert len(set(orders.tolist())) == len(orders) == 15 // (2 * world_size) * 2 * world_size
    else:
        assert set(orders.tolist()) == set(range(15))
        assert len(orders) < 15 + world_size


def test_dropping_the_last_batch_never_drops_everything(cache):
    assert [len(b["index"]) for b in patch_loader(cache, batch_size=4, drop_last=True)] == [4, 4, 4]
    assert [len(b["index"]) for b in patch_loader(cache, batch_size=100, drop_last=True)] == [15]


def test_a_transform_sees_whole_batches(cache):
    def halve(batch):
        return {**batch, "image": batch["image"] / 2}

    for batch in patch_loader(cache, batch_size=5, transform=halve):
        expected = cache.gather(batch["index"].tolist()).image / 2
        assert np.array_equal(batch["image"][:, 0].numpy(), expected)


@pytest.mark.parametrize(
    "settings", [{"batch_size": 0}, {"rank": 1}, {"rank": -1}, {"rank": 2, "world_size": 2}]
)
def test_impossible_settings_are_refused(cache, settings):
    with pytest.raises(ConfigurationError):
        patch_loader(cache, **settings)


def add_one(item):
    return {**item, "image": item["image"] + 1}


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "spawn"), (2, "fork"), (1, "forkserver")])
def test_the_dataset_works_in_every_kind_of_worker(cache, workers, context):
    dataset = PatchCacheDataset(cache.path, transform=add_one)
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=context)
    batches = list(loader)
    assert seen(batches) == list(range(15))
    for batch in batches:
        assert_batch_is_true({**batch, "image": batch["image"] - 1}, cache)


def test_a_model_trains_on_it(cache):
    torch.manual_seed(0)
    model = torch.nn.Conv3d(1, 2, 3, padding=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        total = 0.0
        for batch in patch_loader(cache, batch_size=4, seed=1):
            labels = (batch["label"][:, 0] > 0).long()
            loss = torch.nn.functional.cross_entropy(model(batch["image"] / 2000), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total)
    assert losses[-1] < losses[0]
