"""Loaders over volumes: their order, resume and ranks are those of patch caches."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store import RadiObject
from radiobject_assets.training import (
    create_inference_dataloader,
    create_segmentation_dataloader,
    create_training_dataloader,
    create_validation_dataloader,
    set_epoch,
)
from radiobject_assets.training.epoch_order import EpochOrder

SIZE = (9, 8, 7)


def draw(item):
    return {**item, "drawn": torch.rand(2)}


def told(batch):
    starts = torch.stack(list(batch["patch_start"]), 1).tolist()
    return list(zip(batch["obs_id"], starts, batch["drawn"].tolist(), strict=True))


def loader_of(store, **settings):
    radi = RadiObject(store.uri)
    return create_segmentation_dataloader(
        radi.ct, radi.seg, patch_size=SIZE, patches_per_volume=4, transform=draw, **settings
    )


def test_training_from_volumes_goes_on_with_the_very_next_batch(written_cohort):
    whole = loader_of(written_cohort, batch_size=2, seed=5)
    expected = [told(batch) for _ in range(3) for batch in whole]
    assert len({str(one) for one in expected}) == 18
    chance = random.Random(0)
    for _ in range(3):
        got, state = [], None
        while len(got) < len(expected):
            loader = loader_of(written_cohort, batch_size=2, seed=5)
            if state is not None:
                loader.load_state_dict(state)
            until = min(len(got) + chance.randint(1, 8), len(expected))
            while len(got) < until:
                for batch in loader:
                    got.append(told(batch))
                    if len(got) >= until:
                        break
            state = loader.state_dict()
        assert got == expected


@pytest.mark.parametrize(("batch_size", "ranks"), [(3, 1), (1, 3)])
def test_other_ranks_of_volumes_go_on_with_the_same_steps(written_cohort, batch_size, ranks):
    whole = loader_of(written_cohort, batch_size=3, seed=2)
    steps = [sorted(told(batch)) for batch in whole]
    first = loader_of(written_cohort, batch_size=3, seed=2)
    next(iter(first))
    resumed = [
        loader_of(written_cohort, batch_size=batch_size, seed=2, rank=rank, world_size=ranks)
        for rank in range(ranks)
    ]
    for one in resumed:
        one.load_state_dict(first.state_dict())
        set_epoch(one, 0)  # as training loops do before each epoch: it is the one that goes on
    assert [sorted(chain.from_iterable(map(told, step))) for step in zip(*resumed, strict=True)] == steps[1:]
    assert {len(one) for one in resumed} == {4}, "trainers count with whole epochs"


def test_a_state_of_other_volumes_or_another_seed_is_refused(written_cohort):
    ct = RadiObject(written_cohort.uri).ct
    state = create_training_dataloader(ct, seed=1).state_dict()
    create_training_dataloader(ct, seed=1, batch_size=2).load_state_dict(state)
    with pytest.raises(ConfigurationError, match="another seed"):
        create_training_dataloader(ct, seed=2).load_state_dict(state)
    with pytest.raises(ConfigurationError, match="another volumes"):
        create_training_dataloader(ct.head(2), seed=1).load_state_dict(state)
    with pytest.raises(ConfigurationError, match="another volumes"):
        create_training_dataloader(ct, seed=1, patch_size=SIZE).load_state_dict(state)


@pytest.mark.parametrize("n_items", [0, 1, 5, 6, 7, 23, 24])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_an_epoch_of_any_size(n_items, world_size):
    """Training and the cache drop or repeat, inference neither."""
    for drop_last, even in ((True, True), (False, True), (False, False)):
        orders = [
            EpochOrder(n_items, 2, 1, True, drop_last, even, rank, world_size) for rank in range(world_size)
        ]
        shares = [order.share(3).tolist() for order in orders]
        seen = list(chain.from_iterable(shares))
        for order, share in zip(orders, shares, strict=True):
            assert (order.n_items_of_rank(), order.n_batches()) == (len(share), -(-len(share) // 2))
        if even:
            assert len({len(share) for share in shares}) == 1
        if drop_last and n_items >= 2 * world_size:
            assert len(set(seen)) == len(seen) == n_items - n_items % (2 * world_size)
        else:
            assert set(seen) == set(range(n_items))
            assert len(seen) - n_items == (-n_items % world_size if even and n_items else 0)


def test_ranks_of_inference_get_each_volume_once(written_cohort):
    ct = RadiObject(written_cohort.uri).ct
    shares = [
        [batch["obs_id"][0] for batch in create_inference_dataloader(ct, rank=rank, world_size=2)]
        for rank in range(2)
    ]
    assert shares == [["sub-1_ct", "sub-3_ct"], ["sub-2_ct"]]


def test_validation_has_masks_and_the_same_batches_every_time(written_cohort):
    radi = RadiObject(written_cohort.uri)
    loader = create_validation_dataloader(
        radi.ct, mask=radi.seg, patch_size=SIZE, patches_per_volume=2, transform=draw
    )
    epochs = [[told(batch) for batch in loader] for _ in range(2)]
    assert epochs[0] == epochs[1]
    assert next(iter(loader))["mask"].shape == (4, 1, *SIZE)
    with pytest.raises(ConfigurationError, match="no `labels`"):
        create_validation_dataloader(radi.ct, "shape", mask=radi.seg)


RANK = """
import sys
import torch.distributed as distributed
from radiobject_assets.store import RadiObject
from radiobject_assets.training import create_training_dataloader, create_inference_dataloader
rank, size, meeting, uri = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
ct = RadiObject(uri).ct
training = create_training_dataloader(ct, batch_size=1, patch_size=(9, 8, 7), patches_per_volume=3)
inference = create_inference_dataloader(ct)
distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
seen = [[(b["idx"].item(), b["patch_idx"].item()) for b in training] for _ in range(2)]
print((seen, [b["idx"].item() for b in inference]))
distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_of_a_process_group_that_began_later_share_the_volumes(written_cohort, tmp_path, size):
    command = [sys.executable, "-c", RANK]
    where = [str(size), str(tmp_path / "met"), written_cohort.uri]
    ranks = [subprocess.Popen([*command, str(rank), *where], stdout=subprocess.PIPE) for rank in range(size)]
    said = [eval(process.communicate(timeout=600)[0]) for process in ranks]
    for epoch in range(2):
        items = list(chain.from_iterable(seen[epoch] for seen, _ in said))
        assert len(set(items)) == len(items) == 9 // size * size
    assert sorted(chain.from_iterable(inference for _, inference in said)) == [0, 1, 2]


WITHOUT_GUARD = """
import sys
from radiobject_assets.store import RadiObject
from radiobject_assets.training import create_training_dataloader
loader = create_training_dataloader(RadiObject(sys.argv[1]).ct, patch_size=(9, 8, 7), num_workers=1)
print(len(list(loader)))
"""


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_what_it_lacks(written_cohort, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(WITHOUT_GUARD)
    done = subprocess.run(
        [sys.executable, str(script), written_cohort.uri],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode != 0
    assert "below `if __name__ == '__main__':`" in done.stderr


LIGHTNING = Path(__file__).with_name("lightning_run.py")


def run_lightning(*arguments):
    done = subprocess.run(
        [sys.executable, str(LIGHTNING), *map(str, arguments)], capture_output=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def shown(folder):
    return [
        [eval(line) for line in file.read_text().splitlines()] for file in sorted(folder.glob("rank*.txt"))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["volumes", "cache"])
@pytest.mark.parametrize("devices", [1, 2])
def test_lightning_trains_and_resumes_in_the_middle_of_an_epoch(cohort, tmp_path, kind, devices):
    pytest.importorskip("lightning")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    run_lightning(cohort.uri, tmp_path, whole, kind, devices, 0)
    run_lightning(cohort.uri, tmp_path, parts, kind, devices, 4)
    run_lightning(cohort.uri, tmp_path, parts, kind, devices, -1)
    assert shown(whole) == shown(parts)
    ranks = shown(whole)
    assert len(ranks) == devices
    per_epoch = 12 // devices // 2
    for epoch in range(2):
        items = [
            item
            for rank in ranks
            for batch in rank[epoch * per_epoch : (epoch + 1) * per_epoch]
            for item in batch
        ]
        assert sorted(items) == list(range(12))
    assert ranks[0][:per_epoch] != ranks[0][per_epoch : 2 * per_epoch]
