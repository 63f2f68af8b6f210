"""An array in memory, seen as a stored volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ArraySource:
    """A `VoxelSource` over an array that remembers every box that it was asked for."""

    def __init__(self, voxels: NDArray[Any], tile_depth: int = 1) -> None:
        self.voxels, self.tile_depth = voxels, tile_depth
        self.shape, self.dtype = voxels.shape, voxels.dtype
        self.boxes: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []

    def read(self, low: Sequence[int], high: Sequence[int], t: int) -> NDArray[Any]:
        self.boxes.append((tuple(low), tuple(high), t))
        assert all(0 <= first < last <= n for first, last, n in zip(low, high, self.shape, strict=False))
        volume = self.voxels[..., t] if self.voxels.ndim == 4 else self.voxels
        return np.asfortranarray(volume[low[0] : high[0], low[1] : high[1], low[2] : high[2]])

    @property
    def largest_bytes(self) -> int:
        """Bytes of the largest box that was read."""
        sizes = [np.prod(np.subtract(high, low)) for low, high, _ in self.boxes]
        return int(max(sizes)) * self.dtype.itemsize


def expected_patch(
    voxels: NDArray[Any], start: Sequence[int], size: Sequence[int], padding: Any
) -> NDArray[Any]:
    """The patch as NumPy would cut it from a volume that is padded all round."""
    margin = [(n, n) for n in size]
    padded = np.pad(voxels, margin, constant_values=padding)
    return padded[tuple(slice(first + n, first + 2 * n) for first, n in zip(start, size, strict=True))]
