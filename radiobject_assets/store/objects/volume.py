"""One volume: a 3D or 4D array with its affine, read by NumPy's rules in part or whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiledb
from numpy.typing import ArrayLike, DTypeLike, NDArray

from radiobject_assets.errors import ConfigurationError, StorageError
from radiobject_assets.store.arrays.array_copies import edited_array
from radiobject_assets.store.arrays.handles import ALWAYS
from radiobject_assets.store.arrays.observing import told_to_observers
from radiobject_assets.store.arrays.tile_cache import forget_array, tile_cache
from radiobject_assets.store.arrays.tiledb_array import create_array, read_meta, write_meta
from radiobject_assets.store.arrays.voxel_verification import voxel_problem
from radiobject_assets.store.arrays.voxels import native_dtype, validate_shape
from radiobject_assets.store.blocks.regions import Region
from radiobject_assets.store.format.staging import array_description, whole_volume_slabs, write_volume_array
from radiobject_assets.store.format.volume_header import standalone
from radiobject_assets.store.legacy.radiobject_array import read_only
from radiobject_assets.store.log.columns import validate_id
from radiobject_assets.store.objects.described_volume import DescribedVolume
from radiobject_assets.store.objects.images import create_volume_from_file
from radiobject_assets.store.objects.selection import parse_selection
from radiobject_assets.store.objects.statistics import volume_histogram, volume_statistics
from radiobject_assets.store.storage.config import MB, TileConfig, get_radiobject_config
from radiobject_assets.store.storage.context import ContextRef
from radiobject_assets.store.storage.errors import storage_errors
from radiobject_assets.store.storage.uris import normalise


class Volume(DescribedVolume):
    """A stored volume.

    Axes are (column, row, slice[, time]). Values are physical (Hounsfield units for CT): the stored rescale
    is applied, giving float32, or float64 where float32 could not hold the stored integers exactly; volumes
    without a rescale keep their stored dtype.

    Parameters
    ----------
    uri
        The array of the volume: local path, file:// or s3://.
    ctx
        TileDB context; None for the process's own.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> volume = Volume.from_numpy(tempfile.mkdtemp() + "/v", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    >>> volume[1, :, -1].tolist()
    [15, 19, 23]
    """

    # -- reading ------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        """Voxels by NumPy's rules: integers, slices with steps, Ellipsis, negative indices, newaxis."""
        selection = parse_selection(key, self.shape)
        voxels = self._physical(self.read_box(selection.start, selection.size))
        return voxels[selection.inner]

    def read_box(self, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """Stored voxels [start, start + size), all axes, in Fortran order, without rescale."""
        region = Region(tuple(map(int, start)), tuple(map(int, size)))
        with told_to_observers(self._uri, region):
            voxels = tile_cache().read(self._uri, self._reader, region)
        return voxels.view(self._header.dtype)

    def _physical(self, stored: NDArray[Any]) -> NDArray[Any]:
        header = self._header
        if header.slope == 1.0 and header.intercept == 0.0:
            return stored
        values = stored.astype(self.dtype, order="K")
        if header.slope != 1.0:
            values *= self.dtype.type(header.slope)
        if header.intercept != 0.0:
            values += self.dtype.type(header.intercept)
        return values

    def to_numpy(self, stored: bool = False, allow_large: bool = False) -> NDArray[Any]:
        """The whole volume: physical values, or with `stored=True` the voxels as they are kept.

        Raises
        ------
        ConfigurationError
            If the array is larger than `ReadConfig.memory_budget_mb`, unless `allow_large`.
        """
        budget_mb = get_radiobject_config().read.memory_budget_mb
        itemsize = (self.stored_dtype if stored else self.dtype).itemsize
        needed = int(np.prod(self.shape, dtype=np.int64)) * itemsize
        if needed > budget_mb * MB and not allow_large:
            raise ConfigurationError(
                f"the volume takes {needed / MB:.0f} MB in memory and memory_budget_mb is {budget_mb}: "
                "read a part (volume[x, y, z]), stream it (volume.iter_slabs()), or pass allow_large=True"
            )
        voxels = self.read_box((0,) * self.ndim, self.shape)
        return voxels if stored else self._physical(voxels)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.to_numpy(), dtype=dtype)

    def iter_slabs(
        self, depth: int | None = None, stored: bool = False, max_bytes: int | None = None
    ) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """The volume as `(z, t, voxels)` in order, voxels of shape (X, Y, depth); t is 0 for 3D.

        `depth` defaults to whole tiles that fit into `max_bytes` (default 32 MB).
        """
        x, y, z_size = self.shape[:3]
        if depth is None:
            tile_z = self.tile_extents[2]
            slice_bytes = x * y * self.stored_dtype.itemsize
            depth = max(1, (max_bytes or 32 * MB) // (slice_bytes * tile_z)) * tile_z
        for t in range(self.shape[3] if self.ndim == 4 else 1):
            for z in range(0, z_size, depth):
                count = min(depth, z_size - z)
                tail_start, tail_size = ((t,), (1,)) if self.ndim == 4 else ((), ())
                voxels = self.read_box((0, 0, z, *tail_start), (x, y, count, *tail_size))
                voxels = voxels.reshape((x, y, count), order="F")
                yield z, t, voxels if stored else self._physical(voxels)

    def axial(self, z: int, t: int | None = None) -> NDArray[Any]:
        """Slice (X, Y) at `z`; of a 4D volume at time `t`, or (X, Y, T) without one."""
        return self._plane(2, z, t)

    def sagittal(self, x: int, t: int | None = None) -> NDArray[Any]:
        """Slice (Y, Z) at `x`; of a 4D volume at time `t`, or (Y, Z, T) without one."""
        return self._plane(0, x, t)

    def coronal(self, y: int, t: int | None = None) -> NDArray[Any]:
        """Slice (X, Z) at `y`; of a 4D volume at time `t`, or (X, Z, T) without one."""
        return self._plane(1, y, t)

    def _plane(self, axis: int, position: int, t: int | None) -> NDArray[Any]:
        key: list[Any] = [slice(None)] * 3
        key[axis] = position
        return np.asarray(self[tuple(self._with_time(key, t))])

    def _with_time(self, key: list[Any], t: int | None) -> list[Any]:
        if self.ndim == 3:
            if t not in (None, 0):
                raise IndexError(f"a 3D volume has no time point {t}")
            return key
        return [*key, slice(None) if t is None else t]

    def slice(self, x: Any, y: Any, z: Any, t: Any = None) -> NDArray[Any]:
        """Voxels by one index or slice for each axis, as in `volume[x, y, z, t]`."""
        return np.asarray(self[tuple(self._with_time([x, y, z], t))])

    def get_statistics(self, percentiles: Sequence[float] | None = None) -> dict[str, float]:
        """mean, std, min, max, median and pN of the physical values, computed slab by slab."""
        return volume_statistics(self, tuple(percentiles or ())).to_dict()

    def compute_histogram(
        self, bins: int = 256, value_range: tuple[float, float] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Counts and bin edges as `numpy.histogram` gives them, computed slab by slab."""
        return volume_histogram(self, bins, value_range)

    def to_nifti(self, path: str | os.PathLike[str], compression: bool = True) -> Path:
        """Write a NIfTI file with this affine, slope and intercept; returns the path written.

        What was NIfTI gets its sform and qform codes, units and time step again.
        """
        from radiobject_assets.store.objects.nifti_export import write_nifti  # nibabel: 0.1 s to import

        return write_nifti(self, Path(path), compression)

    def verify(self) -> bool:
        """Whether the voxels have the digest recorded when they were written, and their tile index agrees.

        Raises
        ------
        StorageError
            If a tile's checksum fails, the array cannot be read, or no digest was recorded.
        """
        if not self.voxel_digest:
            raise StorageError(f"{self._uri}: no digest of its voxels was recorded to compare with")
        return self.find_damage() is None

    def find_damage(self) -> tuple[str, str] | None:
        """What is wrong with the stored voxels, as a code and a sentence; None if nothing is.

        TileDB reads all of them from storage, and the tile index is compared with what it describes.
        """
        header, ctx = self._header, self._ctx.get()
        forget_array(self._uri)
        return voxel_problem(self._uri, ctx, header.dtype, header.voxel_digest, header.index_digest)

    # -- making and changing ------------------------------------------------------------------------

    def set_obs_id(self, obs_id: str) -> None:
        """Give an array that stands alone its id (volumes of a collection are named by their obs row)."""
        validate_id(obs_id, "obs_id")
        ctx = self._ctx.get()

        with edited_array(self._uri, ctx) as place, storage_errors("name the volume", self._uri, ctx):
            with tiledb.open(place, "r", ctx=ctx, timestamp=ALWAYS) as array:
                meta = read_meta(array)
            if not meta:
                raise read_only(self._uri, "name")
            with tiledb.open(place, "w", ctx=ctx) as array:
                write_meta(array, {**meta, "obs_id": obs_id})
        forget_array(self._uri)
        self._read_header()

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike[str],
        shape: Sequence[int],
        dtype: DTypeLike = np.float32,
        ctx: tiledb.Ctx | None = None,
        affine: ArrayLike | None = None,
    ) -> Volume:
        """A volume of zeros that stands alone; nothing but its description is written."""
        reference = ContextRef(ctx)
        uri, sizes, kind = normalise(uri), validate_shape(shape), native_dtype(np.dtype(dtype))
        write = get_radiobject_config().write
        staged = standalone(sizes, kind, affine, 1.0, 0.0)
        own = reference.get()
        with edited_array(uri, own) as place, storage_errors("create the array", uri, own):
            create_array(place, sizes, kind, write.tile, write.compression, own)
            with tiledb.open(place, "w", ctx=own) as array:
                write_meta(array, array_description(staged, write.tile))
        return cls(uri, ctx)

    @classmethod
    def from_numpy(
        cls,
        uri: str | os.PathLike[str],
        data: NDArray[Any],
        ctx: tiledb.Ctx | None = None,
        affine: ArrayLike | None = None,
        slope: float = 1.0,
        intercept: float = 0.0,
        tile: TileConfig | None = None,
    ) -> Volume:
        """A volume that stands alone, with these stored voxels (X, Y, Z[, T])."""
        data = np.asarray(data)
        reference = ContextRef(ctx)
        staged = standalone(validate_shape(data.shape), native_dtype(data.dtype), affine, slope, intercept)
        write, read = get_radiobject_config().write, get_radiobject_config().read
        limit = min(256 * MB, read.memory_budget_mb * MB // 4)
        write_volume_array(
            normalise(uri),
            staged,
            whole_volume_slabs(data),
            tile or write.tile,
            write.compression,
            limit,
            reference.get(),
        )
        return cls(uri, ctx)

    @classmethod
    def from_nifti(
        cls,
        uri: str | os.PathLike[str],
        path: str | os.PathLike[str],
        ctx: tiledb.Ctx | None = None,
        reorient: bool | None = None,
    ) -> Volume:
        """A volume that stands alone, from a NIfTI file, with its affine, slope and intercept."""
        create_volume_from_file(normalise(uri), Path(path), "nifti", ContextRef(ctx).get(), reorient)
        return cls(uri, ctx)

    @classmethod
    def from_dicom(
        cls,
        uri: str | os.PathLike[str],
        directory: str | os.PathLike[str],
        ctx: tiledb.Ctx | None = None,
        reorient: bool | None = None,
        dtype: DTypeLike | None = None,
    ) -> Volume:
        """A volume that stands alone, from the one DICOM series in a directory."""
        create_volume_from_file(
            normalise(uri), Path(directory), "dicom", ContextRef(ctx).get(), reorient, dtype
        )
        return cls(uri, ctx)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return f"Volume({shape}, {self.stored_dtype}, {self.axcodes}, obs_id={self.obs_id!r})"
