"""What a volume is, without its voxels: shape, dtype, affine, rescale, ids, tiles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Self

import numpy as np
import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.orientation import Affine, affine_axcodes, affine_from_values, spacing_mm
from radiobject_assets.store.arrays.array_files import drop_pages
from radiobject_assets.store.arrays.doors import VoxelReader
from radiobject_assets.store.arrays.handles import open_array
from radiobject_assets.store.arrays.reader_cache import READERS
from radiobject_assets.store.arrays.stored_layout import CodecTrial, StoredLayout, codec_trials, layout_of
from radiobject_assets.store.arrays.tile_cache import forget_array
from radiobject_assets.store.arrays.tiledb_array import read_meta
from radiobject_assets.store.arrays.voxels import carrier_dtype
from radiobject_assets.store.format.layout import VOLUME_FORMAT
from radiobject_assets.store.format.volume_header import VolumeHeader
from radiobject_assets.store.legacy.radiobject_array import radiobject_header
from radiobject_assets.store.objects.volume_orientation import OrientationInfo
from radiobject_assets.store.storage.config import SliceOrientation
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.errors import storage_errors
from radiobject_assets.store.storage.uris import normalise, object_kind


class DescribedVolume:
    """The description of a stored volume: from its obs row where it has one, else from its array."""

    def __init__(self, uri: str | os.PathLike[str], ctx: tiledb.Ctx | None = None) -> None:
        self._uri = normalise(uri)
        self._ctx = ContextRef(ctx)
        self._known: VolumeHeader | None = None
        forget_array(self._uri)
        self._read_header()  # so that a wrong URI fails here and now

    @classmethod
    def from_row(cls, uri: str, row: Mapping[str, Any], ctx: ContextRef) -> Self:
        """A volume whose header is known from its obs row: nothing is opened before voxels are read."""
        volume = cls.__new__(cls)
        volume._uri, volume._ctx, volume._known = uri, ctx, VolumeHeader.from_row(row)
        return volume

    def _read_header(self) -> VolumeHeader:
        ctx = self._ctx.get()
        if object_kind(self._uri, ctx) != "array":
            raise StorageError(f"no volume at {self._uri}: there is no TileDB array")
        with storage_errors("open the volume", self._uri), open_array(self._uri, ctx, voxels=False) as array:
            meta = read_meta(array)
            if meta.get("format") != VOLUME_FORMAT:
                self._known = radiobject_header(array)
                if self._known is None:
                    raise StorageError(f"{self._uri} is a TileDB array, but not a radiobject-assets volume")
                return self._known
            domain = array.schema.domain
            sizes = tuple(int(domain.dim(i).size) for i in range(domain.ndim))
        self._known = VolumeHeader(
            obs_id=meta.get("obs_id") or None,
            obs_subject_id=meta.get("obs_subject_id") or None,
            shape=sizes,
            dtype=np.dtype(meta["dtype"]),
            affine=tuple(tuple(row) for row in meta["affine"]),
            slope=float(meta["slope"]),
            intercept=float(meta["intercept"]),
            orientation_source=meta.get("orientation_source", "header"),
            kind=meta.get("kind", "image"),
            voxel_digest=meta.get("voxel_digest", ""),
            tile_orientation=meta.get("tile_orientation"),
        )
        return self._known

    def _opened(self) -> AbstractContextManager[Any]:
        return open_array(self._uri, self._ctx.get(), self._header.index_digest, voxels=False)

    @property
    def _header(self) -> VolumeHeader:
        return self._known or self._read_header()

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """Where the array is."""
        return self._uri

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z) or (X, Y, Z, T) in voxels."""
        return self._header.shape

    @property
    def ndim(self) -> int:
        """3, or 4 with time."""
        return len(self.shape)

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """Dtype of the stored voxels."""
        return self._header.dtype

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of what indexing and `to_numpy()` return."""
        header = self._header
        if header.slope == 1.0 and header.intercept == 0.0:
            return header.dtype
        exact = header.dtype.itemsize <= 2 or header.dtype == np.float32
        return np.dtype(np.float32 if exact else np.float64)

    @property
    def slope(self) -> float:
        """Physical value = stored value * slope + intercept."""
        return self._header.slope

    @property
    def intercept(self) -> float:
        """Physical value = stored value * slope + intercept."""
        return self._header.intercept

    @property
    def affine(self) -> Affine:
        """4x4 float64: voxel index to RAS+ millimetres."""
        return affine_from_values([value for row in self._header.affine for value in row])

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel spacing along x, y, z in millimetres."""
        return spacing_mm(self.affine)

    @property
    def axcodes(self) -> str:
        """Anatomical direction of each axis, e.g. `RAS`."""
        return affine_axcodes(self.affine)

    @property
    def kind(self) -> str:
        """`image` or `labels`."""
        return self._header.kind

    @property
    def obs_id(self) -> str | None:
        """Id of the volume; None for an array that was never given one."""
        return self._header.obs_id

    @property
    def obs_subject_id(self) -> str | None:
        """Id of the subject, where known."""
        return self._header.obs_subject_id

    @property
    def voxel_digest(self) -> str:
        """Digest of the stored voxels, as recorded when they were written."""
        return self._header.voxel_digest

    @property
    def nbytes(self) -> int:
        """Bytes of the stored voxels in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.stored_dtype.itemsize

    @property
    def tile_orientation(self) -> SliceOrientation | None:
        """Which access the tiles favour."""
        header = self._header
        if header.tile_orientation is None:
            with self._opened() as array:
                name = read_meta(array).get("tile_orientation")
        else:
            name = header.tile_orientation
        return SliceOrientation(name) if name else None

    @property
    def sources(self) -> tuple[str, ...]:
        """SOPInstanceUIDs (or other names) of what the volume was made from, in volume order."""
        with storage_errors("open the volume", self._uri), self._opened() as array:
            return tuple(read_meta(array).get("sources") or ())

    @property
    def tile_extents(self) -> tuple[int, ...]:
        """Tile extents in voxels."""
        return self._reader.tile

    @property
    def stored_layout(self) -> StoredLayout:
        """How its array lies in storage: tiles, codec, files."""
        return layout_of(self._reader)

    def codec_trials(self) -> dict[str, CodecTrial]:
        """What other codecs would make of some of its blocks: bytes, and CPU seconds to decode them."""
        return codec_trials(self._reader)

    def make_cold(self) -> None:
        """Let the next read find nothing that was kept: no reader, no tiles, and of a disk no pages."""
        forget_array(self._uri)
        drop_pages(self._uri)

    @property
    def _reader(self) -> VoxelReader:
        """The reader of this process.

        Raises
        ------
        StorageError
            Where the array is not what was said of it.
        """
        header = self._header
        reader = READERS.get(self._uri, self._ctx.get(), header.index_digest)
        if reader.shape != header.shape or reader.dtype != carrier_dtype(header.dtype):
            raise StorageError(
                f"{self._uri} has the shape {reader.shape} and holds {reader.dtype}; its row says "
                f"{header.shape} and {header.dtype}"
            )
        return reader

    @property
    def nifti_header(self) -> dict[str, Any]:
        """What is known of the NIfTI header that the volume was read from; empty for other sources."""
        with storage_errors("open the volume", self._uri), self._opened() as array:
            return dict(read_meta(array).get("nifti") or {})

    @property
    def orientation_info(self) -> OrientationInfo:
        """Axis codes, affine and where they come from."""
        return OrientationInfo.of(self.affine, self._header.orientation_source)
