"""Where patches are cut: pure functions of (seed, obs_id, patch number, epoch) and the volume's shape.

Every number comes from a keyed hash, not from a generator's state: patch 5 of a volume is the same whether 6
or 600 patches are asked for, in which order, in which process; two volumes of one shape get different places.

A patch that is longer than its volume starts at a negative index: the volume lies in its middle and the rest
is padded, so patches of one size never come out ragged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from radiobject_assets.errors import ShapeError


@dataclass(frozen=True)
class PatchPlace:
    """Where one patch lies in its volume."""

    number: int
    """The patch's number within its volume, from 0."""
    start: tuple[int, int, int]
    """First voxel along columns, rows and slices; negative where the patch is longer than the volume."""
    t: int
    """Time point; 0 for a 3D volume."""
    foreground: bool
    """True if the patch was placed around a labelled voxel."""


def hashed_integers(seed: int, obs_id: str, number: int, epoch: int, bounds: Sequence[int]) -> list[int]:
    """One integer below each of up to 8 `bounds`, from BLAKE2b over the arguments.

    Raises
    ------
    ShapeError
        A bound is below 1, or there are more than 8.
    """
    if len(bounds) > 8 or any(bound < 1 for bound in bounds):
        raise ShapeError(f"bounds {tuple(bounds)}: give up to 8 numbers, each at least 1")
    key = f"{seed}\0{number}\0{epoch}\0{obs_id}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(key, digest_size=64, person=b"patch").digest()
    # multiply-and-shift: the bias is below bound / 2**64, and there is no loop that could differ
    return [
        (int.from_bytes(digest[8 * i : 8 * i + 8], "big") * bound) >> 64 for i, bound in enumerate(bounds)
    ]


def is_foreground(number: int, fraction: float) -> bool:
    """Whether patch `number` is one of those placed around a labelled voxel.

    The `fraction` is spread evenly over the numbers, so that any prefix of them has about the right share.

    >>> [is_foreground(number, 0.5) for number in range(4)]
    [False, True, False, True]
    """
    return _rounded_down((number + 1) * fraction) > _rounded_down(number * fraction)


def _rounded_down(value: float) -> int:
    return int(value + 1e-9)  # 0.1 * 30 must count as 3


def random_start(
    shape: Sequence[int], size: Sequence[int], seed: int, obs_id: str, number: int, epoch: int = 0
) -> tuple[tuple[int, int, int], int]:
    """Draw a place uniformly: (start voxel, time point).

    Parameters
    ----------
    shape
        (X, Y, Z) or (X, Y, Z, T) of the volume.
    size
        Patch extents (X, Y, Z) in voxels.
    """
    _check(shape, size)
    room = [max(0, extent - wanted) + 1 for extent, wanted in zip(shape[:3], size, strict=True)]
    n_times = shape[3] if len(shape) == 4 else 1
    *drawn, t = hashed_integers(seed, obs_id, number, epoch, [*room, n_times])
    start = [
        offset if extent >= wanted else centred(extent, wanted)
        for offset, extent, wanted in zip(drawn, shape[:3], size, strict=True)
    ]
    return (start[0], start[1], start[2]), t


def centred(extent: int, wanted: int) -> int:
    """The (negative) start that puts a volume of `extent` voxels in the middle of a patch of `wanted`."""
    return -((wanted - extent) // 2)


def start_around(centre: Sequence[int], shape: Sequence[int], size: Sequence[int]) -> tuple[int, int, int]:
    """The start of the patch around `centre`, moved inwards where it would leave the volume."""
    start = [
        min(max(0, middle - wanted // 2), extent - wanted) if extent >= wanted else centred(extent, wanted)
        for middle, extent, wanted in zip(centre[:3], shape[:3], size, strict=True)
    ]
    return start[0], start[1], start[2]


class Foreground(Protocol):
    """The labelled voxels of a volume, by number."""

    def __len__(self) -> int: ...

    def voxel(self, number: int) -> tuple[int, int, int]:
        """Column, row and slice of labelled voxel `number`, 0 <= number < len."""


def place_patches(
    shape: Sequence[int],
    size: Sequence[int],
    count: int,
    *,
    seed: int,
    obs_id: str,
    epoch: int = 0,
    foreground_fraction: float = 0.0,
    foreground: Foreground | None = None,
) -> tuple[PatchPlace, ...]:
    """Place the patches 0 to `count` - 1 of one volume.

    Parameters
    ----------
    foreground_fraction
        Part of the patches that are centred on a labelled voxel, each such voxel being equally likely. In a
        volume without any they are placed uniformly, like the others.
    foreground
        The labelled voxels; needed when `foreground_fraction` is above 0.
    """
    places = []
    for number in range(count):
        start, t = random_start(shape, size, seed, obs_id, number, epoch)
        on_foreground = False
        if is_foreground(number, foreground_fraction):
            if foreground is None:
                raise ShapeError("foreground sampling needs the volume's labels")
            if len(foreground):
                # the fifth number of the same hash: the first four are the uniform place
                chosen = hashed_integers(seed, obs_id, number, epoch, [1, 1, 1, 1, len(foreground)])[4]
                start = start_around(foreground.voxel(chosen), shape, size)
                on_foreground = True
        places.append(PatchPlace(number, start, t, on_foreground))
    return tuple(places)


def _check(shape: Sequence[int], size: Sequence[int]) -> None:
    if len(shape) not in (3, 4) or any(extent < 1 for extent in shape):
        raise ShapeError(
            f"volume of shape {tuple(shape)}: patches are cut from 3D or 4D volumes that have voxels"
        )
    if len(size) != 3 or any(extent < 1 for extent in size):
        raise ShapeError(f"patch of {tuple(size)} voxels: give three extents, each at least 1")
