"""Random choices of transforms as a function of (seed, epoch, item), whoever makes them and wherever.

A transform draws from some generator: its own (MONAI's `Randomizable`), PyTorch's (TorchIO, torchvision),
NumPy's or Python's. Left alone, each worker process has a copy of them all, and draws what its siblings
draw, or what it drew an epoch ago. Here every generator is set before an item's transforms, from a digest of
what the item is, and the process's own generators are put back afterwards.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from radiobject_assets.training.item_errors import transformed


def apply_seeded(
    transforms: Sequence[Callable[[Any], Any]], item: Any, named: Callable[[], str], *key: int
) -> Any:
    """An item after all transforms, whose random choices are a function of `key`.

    Parameters
    ----------
    named
        Says which item it is, where a transform fails.
    """
    if not transforms:
        return item
    with drawn_from(*key) as seed:
        for number, transform in enumerate(transforms):
            _reseed(transform, seed + number)
            item = transformed(named, transform, item)
    return item


@contextmanager
def drawn_from(*key: int) -> Iterator[int]:
    """In this block Python's, NumPy's and PyTorch's generators draw what `key` gives; yields its seed."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8, person=b"transform").digest()
    seed = int.from_bytes(digest, "little") >> 1
    of_torch = torch.default_generator
    before = random.getstate(), np.random.get_state(), of_torch.get_state()  # noqa: NPY002  (theirs)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    of_torch.manual_seed(seed)
    try:
        yield seed
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        of_torch.set_state(before[2])


def _reseed(transform: Any, seed: int) -> None:
    """Set a transform's own generators: MONAI's convention, for what is composed of several too."""
    if hasattr(transform, "set_random_state"):
        transform.set_random_state(seed=seed % 2**32)
