"""Where voxels are read, by the way in which people read: planes one after another, regions, patches, all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class AccessPattern(StrEnum):
    """A way of reading volumes."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"
    REGION = "region"
    WHOLE = "whole"
    PATCH = "patch"
    BATCH = "batch"
    """Patches read on several threads, as the loaders read a batch."""
    RUN = "run"
    """What a program of the user's own read."""


MEASURED = tuple(pattern for pattern in AccessPattern if pattern is not AccessPattern.RUN)

_NORMAL = {AccessPattern.AXIAL: 2, AccessPattern.CORONAL: 1, AccessPattern.SAGITTAL: 0}
# Planes of a walk through a stack: enough that the first ones, which fill the cache, do not decide.
_PLANES = 48
_REGIONS = 3
PATCHES = 8


@dataclass(frozen=True)
class Window:
    """Voxels [start, start + size) of one of the volumes that are measured, all axes."""

    volume: int
    start: tuple[int, ...]
    size: tuple[int, ...]


def windows_of(
    pattern: AccessPattern,
    shapes: Sequence[tuple[int, ...]],
    patch_voxels: tuple[int, int, int],
    random: np.random.Generator,
) -> tuple[Window, ...]:
    """What is read of volumes with these shapes, in order.

    Planes follow each other as in a viewer or a data set of slices; patches are at random places of random
    volumes, as in training. Of a fourth axis one point is read, but for whole volumes.
    """
    windows: list[Window] = []
    for number, shape in enumerate(shapes):
        if pattern in _NORMAL:
            axis = _NORMAL[pattern]
            count = min(_PLANES, shape[axis])
            first = int(random.integers(0, shape[axis] - count + 1))
            for place in range(first, first + count):
                box = [(place, 1) if a == axis else (0, n) for a, n in enumerate(shape[:3])]
                windows.append(_window(number, box, shape))
        elif pattern is AccessPattern.WHOLE:
            windows.append(Window(number, (0,) * len(shape), tuple(shape)))
        else:
            a_third = tuple(max(1, n // 3) for n in shape[:3])
            size, count = (a_third, _REGIONS) if pattern is AccessPattern.REGION else (patch_voxels, PATCHES)
            for _ in range(count):
                box = []
                for length, wanted in zip(shape, size, strict=False):
                    extent = min(length, wanted)
                    box.append((int(random.integers(0, length - extent + 1)), extent))
                point = int(random.integers(0, shape[3])) if len(shape) == 4 else 0
                windows.append(_window(number, box, shape, point))
    if pattern in (AccessPattern.PATCH, AccessPattern.BATCH):
        return tuple(windows[i] for i in random.permutation(len(windows)))
    return tuple(windows)


def _window(
    volume: int, box: Sequence[tuple[int, int]], shape: tuple[int, ...], point: int | None = None
) -> Window:
    start, size = tuple(first for first, _ in box), tuple(length for _, length in box)
    if len(shape) == 4:
        start, size = (*start, shape[3] // 2 if point is None else point), (*size, 1)
    return Window(volume, start, size)
