"""One volume's array, from its slabs: written in place on disks, and on S3 as finished objects.

Whose the array is stands in it before any voxel does, so that what a killed writer leaves can be told; the
tile index is the last of its files. For S3 the array is made in a temporary folder of this machine and its
files are then put, one request each: TileDB itself takes about thirty, one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import StorageError
from radiobject_assets.store.arrays.array_files import names_below, put_file, remove_unfinished, upload
from radiobject_assets.store.arrays.block_writer import BlockWriter
from radiobject_assets.store.arrays.doors import VoxelWriter
from radiobject_assets.store.arrays.tiledb_array import TileDBWriter, create_array, write_meta
from radiobject_assets.store.arrays.voxels import VoxelDigest, aligned_chunks, fitting_tile
from radiobject_assets.store.blocks.index import INDEX_NAME, TileIndex, checksum_of, index_digest_of
from radiobject_assets.store.storage.config import CompressionConfig, TileConfig, get_radiobject_config
from radiobject_assets.store.storage.errors import storage_errors
from radiobject_assets.store.storage.uris import child_names, local_path, tree_bytes
from radiobject_assets.system.temporary import temporary_folder

_DOING = "write voxels to"


@dataclass(frozen=True)
class Written:
    """What came of a volume's voxels."""

    voxel_digest: str
    stored_bytes: int
    index_digest: str
    """`blocks.index.index_digest_of` the tile index; "" where the array has none."""


@dataclass(frozen=True)
class ArrayPlan:
    """How a volume's array is to be made."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    tile: TileConfig
    compression: CompressionConfig
    buffer_bytes: int
    threads: int
    """That make tiles beside the caller's."""
    describe: Callable[[str], dict[str, Any]]
    """What the array says of itself, given the digest of its voxels ("" while it is not known)."""

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def write_array(
    uri: str, plan: ArrayPlan, slabs: Iterable[tuple[int, int, NDArray[Any]]], ctx: tiledb.Ctx, fresh: bool
) -> Written:
    """Create the array at `uri` and write all slabs into it.

    The array is removed if anything goes wrong, the caller's interruption included.

    Parameters
    ----------
    fresh
        Nothing can be at `uri`: its name was never used.

    Raises
    ------
    StorageError
        If something is there already, or storage fails.
    """
    if not fresh and child_names(uri, ctx):  # whatever it is, it would be removed with an array that fails
        raise StorageError(f"cannot create the array {uri}: it already exists, or other files are there")
    folder = local_path(uri)
    if folder is not None:
        return _write_at(folder, uri, plan, slabs, ctx)
    with ExitStack() as until_there:
        with storage_errors("make a temporary folder for", uri, ctx):
            made = until_there.enter_context(temporary_folder()) / "array"
        written = _write_at(made, uri, plan, slabs, ctx)
        with _removed_on_error(uri, ctx):
            upload(made, uri, ctx)
    return written


@contextmanager
def _removed_on_error(uri: str, ctx: tiledb.Ctx) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        remove_unfinished(uri, ctx, error)
        raise


def _write_at(
    folder: Path, place: str, plan: ArrayPlan, slabs: Iterable[tuple[int, int, NDArray[Any]]], ctx: tiledb.Ctx
) -> Written:
    """Make the array in `folder`; errors of the slabs name `place`, where it is meant for."""
    uri = str(folder)
    doing = f"write voxels to {folder}, a temporary folder, for" if local_path(place) is None else _DOING
    digest = VoxelDigest()
    tile = fitting_tile(plan.tile, plan.shape, plan.dtype.itemsize, plan.buffer_bytes)
    extents = tile.extents_for_shape(plan.shape)
    layout = create_array(uri, plan.shape, plan.dtype, tile, plan.compression, ctx)
    with _removed_on_error(uri, ctx), storage_errors(doing, place, ctx):
        with tiledb.open(uri, "w", ctx=ctx) as array:
            write_meta(array, plan.describe(""))
        unfinished = list((folder / "__meta").iterdir())
        writer: VoxelWriter
        if layout is None or get_radiobject_config().voxels == "tiledb":
            writer = TileDBWriter(folder, layout, ctx)
        else:
            writer = BlockWriter(folder, layout, plan.compression.level, plan.threads)
        with writer, ThreadPoolExecutor(1, thread_name_prefix="voxel-digest") as beside:
            for chunk in aligned_chunks(slabs, plan.shape, plan.dtype, extents, plan.buffer_bytes):
                hashed = beside.submit(digest.update, chunk.voxels)
                writer.write(chunk)
                hashed.result()  # the chunk's buffer may be used again for the next
            index = writer.finish()
        with tiledb.open(uri, "w", ctx=ctx) as array:
            write_meta(array, plan.describe(digest.value))
        for path in unfinished:
            path.unlink()
        index_digest = "" if index is None else write_index(folder, index)
        return Written(digest.value, tree_bytes(uri, ctx), index_digest)


def write_index(folder: Path, index: TileIndex) -> str:
    """Put `index` beside the array in `folder`, with checksums of the array's other files; its digest."""
    known = {INDEX_NAME, *(file.name for file in index.files)}
    others = {name: checksum_of((folder / name).read_bytes()) for name in names_below(folder)}
    content = replace(index, others={n: c for n, c in others.items() if n not in known}).encode()
    put_file(folder / INDEX_NAME, content)
    return index_digest_of(content)
