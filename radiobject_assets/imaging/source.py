"""What a decoder hands over: an image of known shape whose voxels arrive as slabs of slices.

Axes are (column, row, slice[, time]) as in NIfTI; the affine maps voxel indices to RAS+ millimetres.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

AttributeValue = str | int | float | None


@dataclass(frozen=True)
class Slab:
    """Voxels of the slices `[z, z + depth)` of time point `t`.

    `voxels` has shape (X, Y, depth) in the source's stored dtype and any memory order; it belongs to the
    receiver, who may keep or change it.
    """

    z: int
    t: int
    voxels: NDArray[Any]


@runtime_checkable
class ImageSource(Protocol):
    """One image volume that can be read once, front to back, in bounded memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z) or (X, Y, Z, T)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype in native byte order."""
        ...

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) voxel index to RAS+ mm."""
        ...

    @property
    def slope(self) -> float:
        """physical = stored * slope + intercept."""
        ...

    @property
    def intercept(self) -> float:
        """physical = stored * slope + intercept."""
        ...

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """Allow-listed acquisition parameters, snake_case with units in the names."""
        ...

    def slabs(self, depth: int) -> Iterator[Slab]:
        """Yield every slice exactly once, time outermost, `depth` slices at a time (the last may be thinner).

        A slab is the caller's: the source does not touch its voxels again.

        Raises
        ------
        ImageReadError
            With a reason code, where a file cannot be read or decoded.
        """
        ...

    def source_digest(self) -> str:
        """Hexadecimal blake3 digest over the source files' bytes; valid once `slabs` was exhausted."""
        ...
