# ruff: noqa: NPY002  (users' transforms draw from NumPy's old generator)
"""Which patches come, in which order, and what transforms draw: functions of (seed, epoch, place) alone."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from itertools import chain

import numpy as np
import pytest
import torch
from test_patch_cache import build
from torch.utils.data import DataLoader
from truth_store import TruthStore

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store import RadiObject, ensure_store
from radiobject_assets.training.cache.cache_reading import PatchCache
from radiobject_assets.training.cache.patch_batches import PatchCacheDataset, patch_loader
from radiobject_assets.training.volumes.loaders import create_training_dataloader


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("order")
    ensure_store(str(folder / "store"))
    store = TruthStore(str(folder / "store"))
    subjects = [store.add_subject(number) for number in (1, 2, 3, 4)]
    return PatchCache(build(store, folder / "cache", subjects=subjects).path)


def draw(item):
    """As users write them: every generator that there is."""
    values = [random.random(), float(np.random.random()), float(torch.rand(()))]
    return {**item, "drawn": torch.tensor(values, dtype=torch.float64)}


def monai_draw():
    from monai.transforms import Compose, Lambdad, RandScaleIntensityd

    return Compose([RandScaleIntensityd(keys="image", factors=0.9, prob=1.0), Lambdad("image", torch.sum)])


def told(batch):
    shown = batch["drawn"] if "drawn" in batch else batch["image"]
    return [(int(i), *map(float, row.flatten()[:3])) for i, row in zip(batch["index"], shown, strict=True)]


def test_a_training_that_is_interrupted_anywhere_goes_on_with_the_very_next_batch(cache):
    epochs = 3
    whole = patch_loader(cache, batch_size=3, seed=5, transform=draw)
    expected = [(b["index"].tolist(), b["drawn"].tolist()) for _ in range(epochs) for b in whole]
    chance = random.Random(0)
    for _ in range(40):
        got, state = [], None
        while len(got) < len(expected):
            loader = patch_loader(cache, batch_size=3, seed=5, transform=draw)
            if state is not None:
                loader.load_state_dict(state)
            until = len(got) + chance.randint(1, 11)
            while len(got) < min(until, len(expected)):
                for batch in loader:
                    got.append((batch["index"].tolist(), batch["drawn"].tolist()))
                    if len(got) >= until:
                        break
            state = loader.state_dict()
        assert got == expected


@pytest.mark.parametrize(("batch_size", "ranks"), [(6, 1), (3, 2), (2, 3), (1, 6)])
def test_other_ranks_go_on_with_what_is_left_of_an_epoch(cache, batch_size, ranks):
    loader = patch_loader(cache, batch_size=6, seed=2)
    batches = [set(batch["index"].tolist()) for batch in loader]
    first = patch_loader(cache, batch_size=6, seed=2)
    iterator = iter(first)
    next(iterator)
    state = first.state_dict()
    resumed = [
        patch_loader(cache, batch_size=batch_size, seed=2, rank=rank, world_size=ranks)
        for rank in range(ranks)
    ]
    for one in resumed:
        one.load_state_dict(state)
    lengths = {len(one) for one in resumed}
    assert len(lengths) == 1
    together = [set().union(*(b["index"].tolist() for b in step)) for step in zip(*resumed, strict=True)]
    assert together[: len(batches) - 2] == batches[1:-1]
    # uneven ranks see some of the first ones twice
    assert set().union(*together) >= set().union(*batches[1:])


def test_a_rest_that_is_smaller_than_a_batch_ends_its_epoch(cache):
    loader = patch_loader(cache, batch_size=6, seed=2, drop_last=True)
    batches = iter(loader)
    next(batches), next(batches)
    larger = patch_loader(cache, batch_size=9, seed=2, drop_last=True)
    larger.load_state_dict(loader.state_dict())
    assert [batch["index"] for batch in larger] == []
    assert larger.state_dict()["epoch"] == 1
    assert len(list(larger)) == 2


def test_a_state_of_another_cache_or_seed_is_refused(cache):
    state = patch_loader(cache, seed=1).state_dict()
    with pytest.raises(ConfigurationError, match="another seed"):
        patch_loader(cache, seed=2).load_state_dict(state)
    with pytest.raises(ConfigurationError, match="another cache"):
        patch_loader(cache, seed=1).load_state_dict({**state, "cache": "x"})


def test_leaving_an_epoch_early_begins_the_next_one(cache):
    loader = patch_loader(cache, batch_size=4, seed=1)
    second = [b["index"].tolist() for b in list(loader) and loader]
    again = patch_loader(cache, batch_size=4, seed=1)
    next(iter(again))
    assert [b["index"].tolist() for b in again] == second


@pytest.mark.parametrize("make", [lambda: draw, monai_draw], ids=["generators", "monai"])
def test_what_transforms_draw_does_not_depend_on_the_number_of_workers(cache, make):
    epochs = {}
    for workers in (0, 2):
        dataset = PatchCacheDataset(cache, make(), seed=3)
        loader = DataLoader(
            dataset, batch_size=4, num_workers=workers, multiprocessing_context="fork" if workers else None
        )
        seen = []
        for epoch in range(2):
            dataset.set_epoch(epoch)
            seen.append([row for batch in loader for row in told(batch)])
        epochs[workers] = seen
    assert epochs[0] == epochs[2]
    drawn = [row[1:] for epoch in epochs[0] for row in epoch]
    assert len(set(drawn)) == len(drawn), "a draw is repeated"


def test_a_process_keeps_its_own_generators(cache):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.random(), float(torch.rand(()))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    list(patch_loader(cache, transform=draw))
    assert (random.random(), np.random.random(), float(torch.rand(()))) == expected


@pytest.mark.slow
def test_volume_loaders_draw_the_same_with_and_without_workers(make_store):
    store = make_store()
    for number in (1, 2, 3, 4):
        store.add_subject(number)
    seen = {}
    for workers in (0, 2):
        torch.manual_seed(0)
        loader = create_training_dataloader(
            RadiObject(store.uri).collection("ct"),
            batch_size=2,
            patch_size=(8, 8, 8),
            num_workers=workers,
            transform=draw,
        )
        seen[workers] = [
            sorted(zip(batch["idx"].tolist(), batch["drawn"].tolist(), strict=True))
            for _ in range(2)
            for batch in loader
        ]
    flat = [
        sorted(row for epoch in one[start : start + 2] for row in epoch)
        for one in seen.values()
        for start in (0, 2)
    ]
    assert flat[0] == flat[2]
    assert flat[1] == flat[3]
    assert flat[0] != flat[1]


def test_crops_that_a_transform_makes_of_one_item_are_items(cache):
    from monai.transforms import RandSpatialCropSamplesd

    crops = RandSpatialCropSamplesd(keys=("image", "label"), roi_size=(4, 4, 4), num_samples=3)
    loader = DataLoader(PatchCacheDataset(cache, crops), batch_size=2)
    assert next(iter(loader))["image"].shape == (6, 1, 4, 4, 4)


RANK = """
import sys
import torch.distributed as distributed
from radiobject_assets.training.cache.patch_batches import patch_loader
rank, size, store, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
print([b["index"].tolist() for b in patch_loader(path, batch_size=2, seed=4)])
distributed.destroy_process_group()
"""


def test_ranks_are_those_of_a_process_group_that_began_after_the_loader(cache):
    from torch.testing._internal.distributed.fake_pg import FakeStore

    loader = patch_loader(cache, batch_size=2, seed=4)
    alone = [batch["index"].tolist() for batch in loader]
    torch.distributed.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
    try:
        loader.set_epoch(0)
        second = [batch["index"].tolist() for batch in loader]
    finally:
        torch.distributed.destroy_process_group()
    order = list(chain.from_iterable(alone))
    assert list(chain.from_iterable(second)) == order[1::2]


@pytest.mark.slow
def test_ranks_are_those_of_the_process_group(cache, tmp_path):
    command = [sys.executable, "-c", RANK]
    with tempfile.NamedTemporaryFile() as meeting:
        where = f"{meeting.name}-met"
        ranks = [
            subprocess.Popen([*command, str(rank), "2", where, str(cache.path)], stdout=subprocess.PIPE)
            for rank in range(2)
        ]
        said = [eval(process.communicate(timeout=300)[0]) for process in ranks]
    flat = [{i for batch in one for i in batch} for one in said]
    assert flat[0].isdisjoint(flat[1])
    assert flat[0] | flat[1] == set(range(20))
