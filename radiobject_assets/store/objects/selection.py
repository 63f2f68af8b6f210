"""NumPy's indexing, translated to the smallest box of voxels that covers it."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Selection:
    """A box to read, and the index that picks the answer out of it: an array, if it has an Ellipsis."""

    start: tuple[int, ...]
    size: tuple[int, ...]
    inner: tuple[Any, ...]


def parse_selection(key: Any, shape: tuple[int, ...]) -> Selection:
    """Box and inner index for `key` on an array of `shape`.

    Index arrays and masks pick from the whole volume, which is read for them: slices are cheaper.

    Raises
    ------
    IndexError
        As NumPy does, for positions outside and too many indices.
    """
    items = list(key) if isinstance(key, tuple) else [key]
    if any(_is_array(item) for item in items):
        return Selection((0,) * len(shape), shape, tuple(items))
    for item in items:
        if item is None or item is Ellipsis or isinstance(item, slice) or _is_integer(item):
            continue
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), newaxis (`None`), and arrays of integers or "
            "booleans are valid indices"
        )
    if sum(item is Ellipsis for item in items) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    used = sum(item is not None and item is not Ellipsis for item in items)
    if used > len(shape):
        raise IndexError(f"too many indices: the volume is {len(shape)}-dimensional, but {used} were indexed")
    fill: list[Any] = [slice(None)] * (len(shape) - used)
    array_wanted = any(item is Ellipsis for item in items)
    if array_wanted:
        where = next(i for i, item in enumerate(items) if item is Ellipsis)
        items[where : where + 1] = fill
    else:
        items += fill
    start: list[int] = []
    size: list[int] = []
    inner: list[Any] = []
    axis = 0
    for item in items:
        if item is None:
            inner.append(None)
            continue
        length = shape[axis]
        if isinstance(item, slice):
            positions = range(*item.indices(length))
            low = min(positions[0], positions[-1]) if positions else 0
            high = max(positions[0], positions[-1]) if positions else -1
            start.append(low)
            size.append(high - low + 1)
            inner.append(slice(None, None, positions.step if positions else 1))
        else:
            position = operator.index(item)
            if not -length <= position < length:
                raise IndexError(f"index {position} is out of bounds for axis {axis} with size {length}")
            start.append(position % length)
            size.append(1)
            inner.append(0)
        axis += 1
    # NumPy gives an array without axes in place of a scalar where the index has an Ellipsis.
    return Selection(tuple(start), tuple(size), (*inner, Ellipsis) if array_wanted else tuple(inner))


def _is_array(item: Any) -> bool:
    """Whether it is what NumPy takes for advanced indexing: an array, a list or a single boolean."""
    if isinstance(item, (bool, np.bool_)):
        return True
    if isinstance(item, list):
        item = np.asarray(item, None if item else np.intp)
    return isinstance(item, np.ndarray) and item.ndim > 0 and item.dtype.kind in "biu"


def _is_integer(item: Any) -> bool:
    try:
        operator.index(item)
    except TypeError:
        return False
    return True
