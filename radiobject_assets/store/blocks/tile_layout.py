"""How the voxels of an array are cut into tiles, and tiles into the blocks that are stored.

TileDB keeps a tile as a row of blocks ("chunks" in its format) of 64 KB before compression, each of them
filtered on its own: the least that can be decoded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Version of TileDB's format that is written and read here.
FORMAT_VERSION = 22
# Bytes of a block before compression; TileDB's own, whatever an array's schema says.
BLOCK_BYTES = 64 * 1024
CODECS = frozenset(["zstd", "lz4", "gzip", "none"])


class DamagedBlockError(ValueError):
    """Stored bytes are not those that were written."""


@dataclass(frozen=True)
class TileLayout:
    """How the voxels of an array are cut into tiles and blocks, all of them in Fortran order."""

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    dtype: str
    """Name of the dtype that carries the voxels."""
    codec: str
    """`zstd`, `lz4`, `gzip` or `none`."""

    @cached_property
    def itemsize(self) -> int:
        """Bytes of a voxel."""
        return np.dtype(self.dtype).itemsize

    @property
    def shuffled(self) -> bool:
        """Whether a block holds all first bytes of its voxels, then all second bytes, and so on."""
        return self.codec != "none" and self.itemsize > 1

    @cached_property
    def tile_cells(self) -> int:
        """Voxels of a tile; those at the far faces are stored whole as well."""
        return math.prod(self.tile)

    @cached_property
    def block_cells(self) -> int:
        """Voxels of a block; the last one of a tile may have fewer."""
        return min(self.tile_cells, BLOCK_BYTES // self.itemsize)

    @cached_property
    def blocks_per_tile(self) -> int:
        """Blocks of a tile."""
        return -(-self.tile_cells // self.block_cells)

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Tiles along each axis."""
        return tuple(-(-size // extent) for size, extent in zip(self.shape, self.tile, strict=True))

    @cached_property
    def box(self) -> tuple[int, ...]:
        """Extents of what is decoded as one: of a block where blocks are boxes of voxels, else of a tile."""
        inner = 1
        for axis, extent in enumerate(self.tile):
            thick, rest = divmod(self.block_cells, inner)
            if rest:
                break
            if thick <= extent and (extent % thick == 0 or math.prod(self.tile[axis + 1 :]) == 1):
                return (*self.tile[:axis], thick, *(1,) * (len(self.tile) - axis - 1))
            inner *= extent
        return self.tile

    @cached_property
    def blocks_per_box(self) -> int:
        """1, or all blocks of a tile where a block alone is no box."""
        return self.blocks_per_tile if self.box == self.tile else 1

    def cells_of(self, block: int) -> int:
        """Voxels of the block with this number within its tile."""
        return min(self.block_cells, self.tile_cells - block * self.block_cells)

    def extents_of(self, cells: int) -> tuple[int, ...]:
        """Extents of a box of so many voxels: the last one of a tile may be thinner along its thick axis."""
        box = self.box
        whole = math.prod(box)
        if cells == whole:
            return box
        axis = max(a for a, extent in enumerate(box) if extent > 1)
        return (*box[:axis], cells * box[axis] // whole, *box[axis + 1 :])
