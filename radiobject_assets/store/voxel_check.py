"""Whether an array's voxels are those that were written, and whether its tile index describes them."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import tiledb

from radiobject_assets.store.config import MB
from radiobject_assets.store.deadline import on_storage, storage_errors
from radiobject_assets.store.handles import open_array
from radiobject_assets.store.tile_index import (
    DamagedError,
    IndexDamagedError,
    NotIndexableError,
    build_index,
)
from radiobject_assets.store.voxel_source import damaged_file, has_fragments, load_index, read_by_tiledb
from radiobject_assets.store.voxels import VoxelDigest

_PIECE_BYTES = 32 * MB


def voxel_problem(
    uri: str, ctx: tiledb.Ctx, shape: tuple[int, ...], dtype: np.dtype[Any], digest: str
) -> tuple[str, str] | None:
    """A code (`files`, `digest` or `index`) and a sentence where something is wrong, else None.

    Raises
    ------
    StorageError
        If a tile's own checksum fails, or the array cannot be read.
    """
    damaged = file_problem(uri, ctx)
    if damaged is not None:  # TileDB parses these without a checksum
        return "files", damaged
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
    wrong = index_problem(uri, ctx)
    return None if wrong is None else ("index", wrong)


def file_problem(uri: str, ctx: tiledb.Ctx) -> str | None:
    """What is wrong with the files of the array at `uri` that hold no voxels; None where nothing is."""
    try:
        indexed = load_index(uri, ctx)
    except IndexDamagedError:
        return None  # nothing can be said; `index_problem` says so
    if indexed is None or not has_fragments(uri, indexed.index, ctx):
        return None
    name = damaged_file(uri, indexed.index, ctx)
    return None if name is None else f"{name} is not what was written"


def index_problem(uri: str, ctx: tiledb.Ctx) -> str | None:
    """What is wrong with the tile index of the array at `uri`; None where they agree, or there is none."""
    try:
        indexed = load_index(uri, ctx)
        if indexed is None:
            return None
        index = indexed.index
        files = [
            (file.name, file.nbytes, partial(indexed.files.read, number))
            for number, file in enumerate(index.files)
        ]
        if not has_fragments(uri, index, ctx):
            return "the array has other fragments than its tile index"
        build = partial(build_index, index.layout, files, index.others)
        found = on_storage("read", uri, ctx, build, nbytes=sum(file.nbytes for file in index.files))
    except (DamagedError, NotIndexableError) as error:
        return str(error)
    return None if found.encode() == index.encode() else "the tile index is not that of its array"
