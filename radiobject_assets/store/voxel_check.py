"""Whether an array's voxels are those that were written, and whether its tile index describes them."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import tiledb

from radiobject_assets.store.config import MB
from radiobject_assets.store.deadline import storage_errors
from radiobject_assets.store.handles import open_array
from radiobject_assets.store.index_files import index_problem
from radiobject_assets.store.uris import local_path
from radiobject_assets.store.voxel_source import read_by_tiledb
from radiobject_assets.store.voxels import VoxelDigest

_PIECE_BYTES = 32 * MB


def voxel_problem(
    uri: str, ctx: tiledb.Ctx, shape: tuple[int, ...], dtype: np.dtype[Any], digest: str
) -> tuple[str, str] | None:
    """A code (`digest` or `index`) and a sentence where something is wrong, else None.

    Raises
    ------
    StorageError
        If a tile's own checksum fails, or the array cannot be read.
    """
    with storage_errors("open the volume", uri, ctx), open_array(uri, ctx) as array:
        tile_depth = int(array.schema.domain.dim(2).tile)
    whole = math.prod(shape[:2]) * dtype.itemsize * tile_depth
    depth = max(1, _PIECE_BYTES // whole) * tile_depth
    found = VoxelDigest()
    for *t, z in product(*(range(n) for n in shape[3:]), range(0, shape[2], depth)):
        size = (*shape[:2], min(depth, shape[2] - z), *(1 for _ in t))
        found.update(read_by_tiledb(uri, ctx, (0, 0, z, *t), size, dtype))
    if found.value != digest:
        return "digest", "the voxels are not those that were written"
    folder = local_path(uri)
    wrong = None if folder is None else index_problem(folder)
    return None if wrong is None else ("index", wrong)
