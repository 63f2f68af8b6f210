"""Voxel arrays through TileDB: made, described, and read and written as any program would. The reference.

Queries use TileDB's lower-level interface on the caller's own buffers (1.3x faster than through
`Array.__getitem__`).
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tiledb
import tiledb.libtiledb as lt
from numpy.typing import NDArray

from radiobject_assets.errors import ShapeError, StorageError
from radiobject_assets.store.arrays.array_files import ArrayFiles
from radiobject_assets.store.arrays.block_reader import BlockReader
from radiobject_assets.store.arrays.handles import open_array
from radiobject_assets.store.arrays.voxels import AXES, Chunk, carrier_dtype
from radiobject_assets.store.blocks.chunks import NotIndexableError, build_index
from radiobject_assets.store.blocks.index import TileIndex
from radiobject_assets.store.blocks.regions import Region
from radiobject_assets.store.blocks.tile_layout import FORMAT_VERSION, TileLayout
from radiobject_assets.store.storage.config import CompressionConfig, TileConfig
from radiobject_assets.store.storage.errors import storage_errors
from radiobject_assets.store.storage.read_meter import METER

ATTRIBUTE = "voxels"
META_KEY = "radiobject_assets"


def create_array(
    uri: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    tile: TileConfig,
    compression: CompressionConfig,
    ctx: tiledb.Ctx,
) -> TileLayout | None:
    """Create an empty voxel array and return its layout; None where TileDB's format is not known here."""
    extents = tile.extents_for_shape(shape)
    carrier = carrier_dtype(dtype)
    dims = [
        tiledb.Dim(name, domain=(0, size - 1), tile=extent, dtype=np.int32, ctx=ctx)
        for name, size, extent in zip(AXES, shape, extents, strict=False)
    ]
    filters: list[tiledb.Filter] = []
    packer = compression.as_filter(ctx)
    if packer is not None:
        if carrier.itemsize > 1:
            filters.append(tiledb.ByteShuffleFilter(ctx=ctx))  # 17 % smaller and faster both ways
        filters.append(packer)
    # Costs 15 % of a read and turns bit rot into an error instead of wrong voxels.
    filters.append(tiledb.ChecksumSHA256Filter(ctx=ctx))
    schema = tiledb.ArraySchema(
        domain=tiledb.Domain(*dims, ctx=ctx),
        attrs=[
            tiledb.Attr(
                ATTRIBUTE, dtype=carrier, fill=0, filters=tiledb.FilterList(filters, ctx=ctx), ctx=ctx
            )
        ],
        cell_order="col-major",
        tile_order="col-major",
        sparse=False,
        ctx=ctx,
    )
    with storage_errors("create the array", uri):
        tiledb.Array.create(uri, schema, ctx=ctx)
    if schema.version != FORMAT_VERSION:
        return None
    return TileLayout(shape, extents, carrier.name, compression.algorithm.value)


class TileDBReader:
    """Reads an array through TileDB. Thread-safe.

    Parameters
    ----------
    blocks
        Where the array has a tile index: its blocks are compared with it before TileDB reads them, since its
        own checksums don't say whose voxels they are.
    """

    def __init__(self, uri: str, ctx: tiledb.Ctx, digest: str | None, blocks: BlockReader | None) -> None:
        self._uri = uri
        self._ctx = ctx
        self._digest = digest
        self.blocks = blocks
        with storage_errors("open the volume", uri), open_array(uri, ctx, digest, voxels=False) as array:
            domain = array.schema.domain
            dims = [domain.dim(i) for i in range(domain.ndim)]
            self.shape = tuple(int(dim.size) for dim in dims)
            self.tile = tuple(int(dim.tile) for dim in dims)
            self.dtype = np.dtype(array.schema.attr(0).dtype)

    def read(self, region: Region, out: NDArray[Any]) -> None:
        """Put the voxels of a region into `out`; see `VoxelReader`."""
        if not region.within(self.shape):
            raise StorageError(
                f"cannot read voxels of {self._uri}: the array has the shape {self.shape}, which is not what "
                "was said of it"
            )
        if self.blocks is not None:
            self.blocks.check(region)
        with (
            open_array(self._uri, self._ctx, self._digest) as array,
            storage_errors("read voxels of", self._uri),
        ):
            _query(array, self._ctx, region, out)
        METER.add(by_tiledb=1)


def _query(array: Any, ctx: tiledb.Ctx, region: Region, out: NDArray[Any]) -> None:
    handle = lt.Array(ctx, array)
    query = lt.Query(ctx, handle, lt.QueryType.READ)
    query.layout = lt.LayoutType.COL_MAJOR
    query.set_subarray(_subarray(ctx, handle, region))
    flat = out.reshape(-1, order="F")
    query.set_data_buffer(ATTRIBUTE, flat, flat.size)
    query._submit()
    if query.query_status() != lt.QueryStatus.COMPLETE:
        raise tiledb.TileDBError(f"read ended with status {query.query_status()}")


def _subarray(ctx: tiledb.Ctx, handle: Any, region: Region) -> Any:
    subarray = lt.Subarray(ctx, handle)
    for axis, (first, length) in enumerate(zip(region.start, region.size, strict=True)):
        subarray._add_dim_range(axis, (np.int32(first), np.int32(first + length - 1)))
    return subarray


class TileDBWriter:
    """Writes an array through TileDB: a fragment for each chunk.

    Parameters
    ----------
    layout
        Of the array; None where its format is not known here: it then has no index.
    """

    def __init__(self, folder: Path, layout: TileLayout | None, ctx: tiledb.Ctx) -> None:
        self._folder = folder
        self._layout = layout
        self._files = ArrayFiles(str(folder), ctx)
        self._array = tiledb.open(str(folder), "w", ctx=ctx)
        self._ctx = ctx
        self._names: list[str] = []
        self._left = 0

    def __enter__(self) -> Self:
        self._left = math.prod(int(self._array.schema.domain.dim(i).size) for i in range(self._array.ndim))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._array.close()

    def write(self, chunk: Chunk) -> None:
        """Write the next chunk; see `VoxelWriter`."""
        handle = lt.Array(self._ctx, self._array)
        query = lt.Query(self._ctx, handle, lt.QueryType.WRITE)
        query.layout = lt.LayoutType.COL_MAJOR
        query.set_subarray(_subarray(self._ctx, handle, Region(chunk.start, chunk.voxels.shape)))
        carried = chunk.voxels.view(carrier_dtype(chunk.voxels.dtype))
        flat = np.ravel(carried, order="F")
        query.set_data_buffer(ATTRIBUTE, flat, flat.size)
        query._submit()
        query.finalize()
        self._left -= flat.size
        self._names += sorted(set(self._files.fragments()) - set(self._names))

    def finish(self) -> TileIndex | None:
        """The index of what was written; see `VoxelWriter`."""
        if self._left:
            raise ShapeError(f"{self._left} voxels of the array were not written")
        if self._layout is None:
            return None
        files = [
            (name, (self._folder / name).stat().st_size, partial(self._files.range, name))
            for name in self._names
        ]
        try:
            return build_index(self._layout, files, {})
        except NotIndexableError:
            return None


def read_meta(array: Any) -> dict[str, Any]:
    """The description that an array of ours carries in its own metadata; empty for any other array."""
    # The first look at the metadata reads it from storage.
    with storage_errors("read the description of", array.uri):
        text = array.meta.get(META_KEY)
    return dict(json.loads(text)) if isinstance(text, str) else {}


def write_meta(array: Any, description: dict[str, Any]) -> None:
    """Put the description into the metadata of an array opened for writing."""
    array.meta[META_KEY] = json.dumps(description, ensure_ascii=False, allow_nan=False)
