"""One volume's array with its tile index: written in place on disks, and on S3 as finished objects.

For S3 the array is made in a temporary folder of this machine and its files are then put, one request each:
TileDB itself takes about thirty, one after another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import StorageError
from radiobject_assets.store.config import CompressionConfig, TileConfig
from radiobject_assets.store.deadline import DeadlineError, begin, is_remote, on_storage, storage_errors
from radiobject_assets.store.fragment_writer import FragmentWriter
from radiobject_assets.store.index_files import write_index
from radiobject_assets.store.s3_objects import s3_objects
from radiobject_assets.store.tile_index import describe_layout
from radiobject_assets.store.uris import join, list_names, local_path, remove_tree, tree_bytes
from radiobject_assets.store.voxels import (
    VoxelDigest,
    aligned_chunks,
    carrier_dtype,
    create_array,
    fitting_tile,
    write_meta,
)
from radiobject_assets.temporary import temporary_folder

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
    threads: int
    """That make tiles beside the caller's."""
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
    if not fresh and list_names(uri, ctx):  # whatever it is, it would be removed with an array that fails
        raise StorageError(f"cannot create the array {uri}: it already exists, or other files are there")
    if not is_remote(uri):
        return _write_at(uri, uri, plan, slabs, ctx)
    with ExitStack() as until_there:
        with storage_errors("make a temporary folder for", uri, ctx):
            folder = until_there.enter_context(temporary_folder())
        made = folder / "array"
        written = _write_at(str(made), uri, plan, slabs, ctx)
        with _removed_on_error(uri, ctx):
            on_storage(_DOING, uri, ctx, partial(_upload, made, uri, ctx), nbytes=plan.nbytes)
    return written


def _upload(folder: Path, uri: str, ctx: tiledb.Ctx) -> None:
    # The schema's name says when the array was made: vacuum may not find anything older than that.
    found = [path for path in folder.rglob("*") if path.is_file()]
    files = sorted(found, key=lambda path: path.parent.name != "__schema")
    most = int(ctx.config()["vfs.s3.multipart_part_size"])
    objects = s3_objects(uri, ctx)
    together = 1 if objects is None else objects.parallel

    def put(path: Path) -> None:
        target = join(uri, path.relative_to(folder).as_posix())
        if objects is not None and path.stat().st_size <= most:
            objects.write(target, path.read_bytes())
            return
        vfs = tiledb.VFS(ctx=ctx)
        if not path.stat().st_size:
            vfs.touch(target)
            return
        with path.open("rb") as source, vfs.open(target, "wb") as out:
            while piece := source.read(most):
                out.write(piece)

    put(files[0])
    for first in range(1, len(files), together):
        under_way = [begin(partial(put, path)) for path in files[first : first + together]]
        wait(under_way)  # what is put after the others were removed would stay
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
    """Make the array at `uri`, on a local disk; errors of the slabs name `place`, where it is meant for."""
    folder = local_path(uri)
    assert folder is not None
    doing = _DOING if uri == place else f"write voxels to {folder}, a temporary folder, for"
    digest = VoxelDigest()
    tile = fitting_tile(plan.tile, plan.shape, plan.dtype.itemsize, plan.buffer_bytes)
    extents = create_array(uri, plan.shape, plan.dtype, tile, plan.compression, ctx)
    layout = describe_layout(plan.shape, extents, carrier_dtype(plan.dtype), plan.compression.algorithm)
    with _removed_on_error(uri, ctx):
        with (
            storage_errors(doing, place, ctx),
            FragmentWriter(folder, layout, plan.compression.level, plan.threads) as writer,
            ThreadPoolExecutor(1, thread_name_prefix="voxel-digest") as beside,
        ):
            for chunk in aligned_chunks(slabs, plan.shape, plan.dtype, extents, plan.buffer_bytes):
                hashed = beside.submit(digest.update, chunk.voxels)
                writer.write(chunk.voxels)
                hashed.result()  # the chunk's buffer may be used again for the next
            index = writer.finish()
        with storage_errors(doing, place, ctx):
            with tiledb.open(uri, "w", ctx=ctx) as array:
                write_meta(array, plan.describe(digest.value))
            write_index(folder, index)
        return Written(digest.value, tree_bytes(uri, ctx))
