"""One volume's array with its tile index: written in place on disks, and on S3 as finished objects.

For S3 the array is made in a temporary folder of this machine and its files are then put, one request each:
TileDB itself takes about thirty, one after another, and the index is made from files that are at hand.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import StorageError
from radiobject_assets.store.config import CompressionConfig, TileConfig
from radiobject_assets.store.context import ctx_for_small_objects, keep_for_ever
from radiobject_assets.store.deadline import DeadlineError, begin, on_storage, storage_errors
from radiobject_assets.store.index_files import write_index
from radiobject_assets.store.s3_objects import S3Objects, s3_objects
from radiobject_assets.store.tile_index import describe_layout
from radiobject_assets.store.uris import join, local_path, object_kind, remove_tree, tree_bytes
from radiobject_assets.store.voxels import (
    VoxelDigest,
    aligned_chunks,
    carrier_dtype,
    create_array,
    write_meta,
    write_region,
)

_log = logging.getLogger(__name__)

_DOING = "write voxels to"


@dataclass(frozen=True)
class Written:
    """What came of a volume's voxels."""

    voxel_digest: str
    stored_bytes: int


@dataclass(frozen=True)
class ArrayPlan:
    """How a volume's array is to be made."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    tile: TileConfig
    compression: CompressionConfig
    buffer_bytes: int
    describe: Callable[[str], dict[str, Any]]
    """What the array says of itself, given the digest of its voxels."""

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
    objects = s3_objects(uri, ctx)
    if objects is None:
        return _write_at(uri, uri, plan, slabs, ctx_for_small_objects(ctx, uri, plan.nbytes))
    if not fresh and object_kind(uri, ctx) is not None:
        raise StorageError(f"cannot create the array {uri}: it already exists")
    with tempfile.TemporaryDirectory(prefix="radiobject-assets-") as folder:
        made = Path(folder) / "array"
        written = _write_at(str(made), uri, plan, slabs, ctx)
        with _removed_on_error(uri, ctx):
            call = partial(_upload, made, uri, objects, ctx)
            on_storage(_DOING, uri, ctx, call, nbytes=plan.nbytes)
    return written


def _upload(folder: Path, uri: str, objects: S3Objects, ctx: tiledb.Ctx) -> None:
    # The schema's name says when the array was made: vacuum may not find anything older than that.
    found = [path for path in folder.rglob("*") if path.is_file()]
    files = sorted(found, key=lambda path: path.parent.name != "__schema")
    most = int(ctx.config()["vfs.s3.multipart_part_size"])

    def put(path: Path) -> None:
        target = join(uri, path.relative_to(folder).as_posix())
        if path.stat().st_size <= most:
            objects.write(target, path.read_bytes())
            return
        with path.open("rb") as source, tiledb.VFS(ctx=ctx).open(target, "wb") as out:
            while piece := source.read(most):
                out.write(piece)

    put(files[0])
    for first in range(1, len(files), objects.parallel):
        under_way = [begin(partial(put, path)) for path in files[first : first + objects.parallel]]
        for one in under_way:
            one.result()


@contextmanager
def _removed_on_error(uri: str, ctx: tiledb.Ctx) -> Iterator[None]:
    try:
        yield
    except DeadlineError:
        # Storage that does not answer would not answer to a removal either, and whoever writes may still
        # be at it. Nothing names the array; vacuum removes it.
        raise
    except BaseException:
        try:
            remove_tree(uri, ctx)
        except StorageError:  # the first error is the one to report; vacuum finds the rest
            _log.warning("an unfinished array could not be removed; vacuum will", exc_info=True)
        raise


def _write_at(
    uri: str, place: str, plan: ArrayPlan, slabs: Iterable[tuple[int, int, NDArray[Any]]], ctx: tiledb.Ctx
) -> Written:
    """Make the array at `uri`; errors of the slabs name `place`, where it is meant for."""
    digest = VoxelDigest()
    extents = create_array(uri, plan.shape, plan.dtype, plan.tile, plan.compression, ctx)
    fragments: list[str] = []
    with _removed_on_error(uri, ctx):
        array = on_storage(_DOING, uri, ctx, lambda: tiledb.open(uri, "w", ctx=ctx))
        try:
            with (
                storage_errors(_DOING, place, ctx),  # the slabs may come from a disk that fails
                ThreadPoolExecutor(1, thread_name_prefix="voxel-digest") as beside,
            ):
                for chunk in aligned_chunks(slabs, plan.shape, plan.dtype, extents, plan.buffer_bytes):
                    hashed = beside.submit(digest.update, chunk.voxels)
                    write = partial(write_region, array, ctx, chunk.start, chunk.voxels)
                    fragments.append(on_storage(_DOING, uri, ctx, write, nbytes=chunk.voxels.nbytes))
                    hashed.result()  # the chunk's buffer may be used again for the next
            write_meta(array, plan.describe(digest.value))
        except DeadlineError:
            keep_for_ever(array)  # the call that was given up still uses it
            raise
        except BaseException:
            array.close()
            raise
        on_storage("finish writing", uri, ctx, array.close, holds_lock=True)
        folder = local_path(uri)
        if folder is not None:
            layout = describe_layout(
                plan.shape, extents, carrier_dtype(plan.dtype), plan.compression.algorithm
            )
            with storage_errors("write the tile index of", uri, ctx):
                write_index(folder, layout, fragments)
        return Written(digest.value, tree_bytes(uri, ctx))
