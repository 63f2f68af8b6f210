"""Whether an array's voxels are those that were written, and whether its tile index describes them."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import tiledb

from radiobject_assets.store.arrays.array_files import ArrayFiles
from radiobject_assets.store.arrays.checking import damaged_file, has_fragments, load_index
from radiobject_assets.store.arrays.tiledb_array import TileDBReader
from radiobject_assets.store.arrays.voxels import VoxelDigest
from radiobject_assets.store.blocks.chunks import NotIndexableError, build_index
from radiobject_assets.store.blocks.index import IndexDamagedError
from radiobject_assets.store.blocks.regions import Region
from radiobject_assets.store.blocks.tile_layout import DamagedBlockError
from radiobject_assets.store.storage.config import MB
from radiobject_assets.store.storage.errors import storage_errors

_PIECE_BYTES = 32 * MB


def voxel_problem(
    uri: str, ctx: tiledb.Ctx, dtype: np.dtype[Any], voxel_digest: str, digest: str | None
) -> tuple[str, str] | None:
    """A code (`files`, `digest` or `index`) and a sentence where something is wrong, else None.

    TileDB reads all voxels, past the index.

    Raises
    ------
    StorageError
        If a tile's own checksum fails, or the array cannot be read.
    """
    damaged = file_problem(uri, ctx, digest)
    if damaged is not None:  # TileDB parses these without a checksum
        return "files", damaged
    reader = TileDBReader(uri, ctx, digest, None)
    shape, tile_depth = reader.shape, reader.tile[2]
    whole = math.prod(shape[:2]) * dtype.itemsize * tile_depth
    depth = max(1, _PIECE_BYTES // whole) * tile_depth
    found = VoxelDigest()
    for *t, z in product(*(range(n) for n in shape[3:]), range(0, shape[2], depth)):
        size = (*shape[:2], min(depth, shape[2] - z), *(1 for _ in t))
        voxels = np.empty(size, reader.dtype, order="F")
        reader.read(Region((0, 0, z, *t), size), voxels)
        found.update(voxels.view(dtype))
    if found.value != voxel_digest:
        return "digest", "the voxels are not those that were written"
    wrong = _index_problem(ArrayFiles(uri, ctx), digest)
    return None if wrong is None else ("index", wrong)


def file_problem(uri: str, ctx: tiledb.Ctx, digest: str | None = "") -> str | None:
    """What is wrong with the files of the array at `uri` that hold no voxels; None where nothing is."""
    files = ArrayFiles(uri, ctx)
    try:
        index = load_index(files, digest)
    except IndexDamagedError:
        return None  # nothing can be said; `voxel_problem` says so
    if index is None or not has_fragments(files, index):
        return None
    name = damaged_file(files, index)
    return None if name is None else f"{name} is not what was written"


def _index_problem(files: ArrayFiles, digest: str | None) -> str | None:
    """What is wrong with the tile index of an array; None where they agree, or there is none."""
    try:
        index = load_index(files, digest or "")
        if index is None:
            return None
        if not has_fragments(files, index):
            return "the array has other fragments than its tile index"
        read = [(file.name, file.nbytes, partial(files.range, file.name)) for file in index.files]
        with storage_errors("read", files.uri, files.ctx):
            found = build_index(index.layout, read, index.others)
    except (DamagedBlockError, NotIndexableError) as error:
        return str(error)
    return None if found.encode() == index.encode() else "the tile index is not that of its array"
