"""A buffer is used again only when nothing refers to it any more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from radiobject_assets.training.cache.buffers import BufferPool
from radiobject_assets.training.cache.cache_reading import PatchBatch


def make():
    return PatchBatch(np.empty((2, 3), np.float32), np.empty((2, 3), np.uint8))


def test_a_buffer_that_was_let_go_is_used_again():
    pool = BufferPool(make)
    first = id(pool.take().image)
    assert id(pool.take().image) == first
    assert len(pool) == 1


GRIPS = {
    "array": lambda batch: batch.image,
    "view": lambda batch: batch.image[:1],
    "label": lambda batch: batch.label,
    "tensor": lambda batch: torch.from_numpy(batch.image),
    "tensor view": lambda batch: torch.from_numpy(batch.image[:1])[:, None, 1:],
    "autograd": lambda batch: (torch.from_numpy(batch.image) * torch.ones(3, requires_grad=True)).sum(),
}


@pytest.mark.parametrize("grip", GRIPS)
def test_whatever_still_refers_to_a_buffer_protects_it(grip):
    pool = BufferPool(make)
    batch = pool.take()
    address = id(batch.image)
    kept = GRIPS[grip](batch)
    del batch
    assert id(pool.take().image) != address
    del kept
    assert id(pool.take().image) == address


def test_a_caller_that_keeps_everything_gets_fresh_buffers():
    pool = BufferPool(make, keep=2)
    batches = [pool.take() for _ in range(5)]
    images = [batch.image for batch in batches]
    assert len({id(image) for image in images}) == 5
    assert len(pool) == 2
