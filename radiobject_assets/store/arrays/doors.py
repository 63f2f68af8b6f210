"""The doors through which voxels come out of an array and go into it.

Each has two implementations: TileDB's own (`tiledb_array`), the reference, and ours (`block_reader`,
`block_writer`), several times faster, which knows one version of TileDB's format and one set of filters and
is used only where an array has them. `RadiObjectConfig.voxels` chooses.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.store.arrays.voxels import Chunk
from radiobject_assets.store.blocks.index import TileIndex
from radiobject_assets.store.blocks.regions import Region


class VoxelReader(Protocol):
    """Reads regions of one array. Thread-safe."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array, in voxels."""

    @property
    def tile(self) -> tuple[int, ...]:
        """Tile extents in voxels."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that carries the voxels."""

    def read(self, region: Region, out: NDArray[Any]) -> None:
        """Put the voxels of a region into `out`, an array of its size in Fortran order.

        Raises
        ------
        StorageError
            If storage fails, what is stored was damaged, or the array has no such region.
        """


class VoxelWriter(Protocol):
    """Writes all voxels of one array that was just created on a local disk."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, chunk: Chunk) -> None:
        """Write the next chunk: whole layers of tiles (X, Y, depth[, T]) in the order of storage.

        Raises
        ------
        OSError
            If the disk does not take it.
        """

    def finish(self) -> TileIndex | None:
        """Complete the array, on the disk; its tile index, where its bytes are such as one describes.

        Raises
        ------
        OSError
            If the disk does not take it.
        ShapeError
            If what was written are not the array's tiles.
        """
