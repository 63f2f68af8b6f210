"""What voxels may be: dtypes, shapes, their digest, and their way from slabs into tile-aligned chunks.

Cells and tiles are in column-major (Fortran) order: image files store the first axis fastest, so decoded
frames are written and regions come back without a transposed copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from radiobject_assets.errors import SchemaError, ShapeError
from radiobject_assets.store.storage.config import TileConfig

AXES = ("x", "y", "z", "t")

# TileDB has no half floats and no booleans of its own that every reader knows: the bits are kept as integers.
_CARRIERS = {"float16": "uint16", "bool": "uint8"}
_NATIVE = frozenset(
    ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"]
)


def native_dtype(dtype: np.dtype[Any] | type[Any] | str) -> np.dtype[Any]:
    """The voxel dtype that the store keeps for `dtype`: the same in native byte order.

    Raises
    ------
    SchemaError
        For dtypes that voxels cannot have (complex, RGB, text, long double).
    """
    native = np.dtype(dtype).newbyteorder("=")
    if native.name not in _NATIVE and native.name not in _CARRIERS:
        allowed = ", ".join(sorted([*_NATIVE, *_CARRIERS]))
        raise SchemaError(f"voxels of dtype {native} cannot be stored; allowed are {allowed}")
    return native


@cache  # a dtype's name costs 3 us, and every read asks
def carrier_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the TileDB attribute that carries voxels of `dtype`."""
    return np.dtype(_CARRIERS.get(dtype.name, dtype.name))


def validate_shape(shape: Iterable[int]) -> tuple[int, ...]:
    """`shape` as (X, Y, Z) or (X, Y, Z, T) of positive integers, or a ShapeError."""
    sizes = tuple(int(size) for size in shape)
    if len(sizes) not in (3, 4):
        raise ShapeError(f"shape {sizes}: a volume must be 3D or 4D, (X, Y, Z) or (X, Y, Z, T)")
    if min(sizes) < 1 or max(sizes) > 2**31 - 2**16:
        raise ShapeError(f"shape {sizes}: every axis must have at least one voxel and fewer than 2^31 - 2^16")
    return sizes


def fitting_tile(tile: TileConfig, shape: tuple[int, ...], itemsize: int, max_bytes: int) -> TileConfig:
    """`tile`, thinner along z where a layer of its tiles (X, Y, tile extent in z) has more than `max_bytes`.

    A layer is put together in memory before it is written. An extent that was given as a number is kept.
    """
    thick = tile.extents_for_shape(shape)[2]
    slice_bytes = shape[0] * shape[1] * itemsize
    if tile.z is not None or thick * slice_bytes <= max_bytes:
        return tile
    while thick > 1 and thick * slice_bytes > max_bytes:
        thick = -(-thick // 2)
    return tile.model_copy(update={"z": thick})


class VoxelDigest:
    """BLAKE3 over the stored voxels as little-endian bytes in Fortran order, independent of tiling.

    Fortran order is that in which slices of an image arrive, and in which slab reads come back.
    """

    def __init__(self) -> None:
        self._hash = blake3()

    def update(self, voxels: NDArray[Any]) -> None:
        """Add the next voxels in Fortran order."""
        little = voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
        flat = np.ravel(little, order="F")
        self._hash.update(flat.view(np.uint8).data)

    @property
    def value(self) -> str:
        """`blake3:` and 64 hexadecimal digits."""
        return f"blake3:{self._hash.hexdigest()}"


@dataclass(frozen=True)
class Chunk:
    """Voxels [start, start + shape) of a volume, in Fortran order; whole tiles, except at the far faces."""

    start: tuple[int, ...]
    voxels: NDArray[Any]


def aligned_chunks(
    slabs: Iterable[tuple[int, int, NDArray[Any]]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    extents: tuple[int, ...],
    max_bytes: int,
) -> Iterator[Chunk]:
    """Regroup slabs of any depth into chunks of whole tiles, holding at most about `max_bytes`.

    Parameters
    ----------
    slabs
        `(z, t, voxels)` with voxels of shape (X, Y, depth): time points in order, slices in order within
        each, every slice exactly once.
    max_bytes
        Bound of the buffer; one layer of tiles (X, Y, tile extent in z) is the least.

    Raises
    ------
    ShapeError
        If a slab has another shape than announced, comes out of order, or slices are missing at the end.
    """
    nx, ny, nz = shape[:3]
    nt = shape[3] if len(shape) == 4 else 1
    slice_bytes = nx * ny * dtype.itemsize
    volumes = int(max_bytes // (slice_bytes * nz))
    # Whole time points where several fit, else layers of tiles.
    depth = nz if volumes else max(1, int(max_bytes // slice_bytes) // extents[2]) * extents[2]
    t_extent = extents[3] if len(shape) == 4 else 1
    if t_extent > 1 and volumes < t_extent:
        raise ShapeError(
            f"tile extent t={t_extent} needs {t_extent} whole volumes of {slice_bytes * nz} bytes in memory, "
            f"and {max_bytes} are allowed: use t=1"
        )
    times = min(nt, max(1, volumes // t_extent * t_extent))  # whole tiles: a chunk begins at a tile's corner
    done = 0  # slices received
    total = nz * nt
    buffer: NDArray[Any] | None = None
    first = 0  # slice number at which the buffer begins
    room = 0
    for z, t, voxels in slabs:
        if voxels.ndim != 3 or voxels.shape[:2] != (nx, ny):
            raise ShapeError(f"slab at z={z}, t={t} has shape {voxels.shape}; expected ({nx}, {ny}, depth)")
        if t * nz + z != done or z + voxels.shape[2] > nz or t >= nt:
            raise ShapeError(
                f"slab z={z}..{z + voxels.shape[2] - 1}, t={t} does not follow slice {done - 1} of {total}: "
                "slabs come in order, each slice once"
            )
        taken = 0
        while taken < voxels.shape[2]:
            if buffer is None:
                first = done
                room = times * nz if depth == nz else min(depth, nz - done % nz)
                room = min(room, total - done)
                whole = taken == 0 and voxels.shape[2] == room
                if whole and voxels.flags.f_contiguous and voxels.dtype == dtype:
                    done, taken = done + room, room
                    yield Chunk(_start(first, nz, len(shape)), _shaped(voxels, room, nz, len(shape)))
                    continue
                buffer = np.empty((nx, ny, room), dtype, order="F")
            count = min(voxels.shape[2] - taken, first + room - done)
            buffer[:, :, done - first : done - first + count] = voxels[:, :, taken : taken + count]
            done, taken = done + count, taken + count
            if done == first + room:
                yield Chunk(_start(first, nz, len(shape)), _shaped(buffer, room, nz, len(shape)))
                buffer = None
    if done != total:
        raise ShapeError(f"only {done} of {total} slices arrived")


def _start(first: int, nz: int, ndim: int) -> tuple[int, ...]:
    return (0, 0, first % nz) if ndim == 3 else (0, 0, first % nz, first // nz)


def _shaped(buffer: NDArray[Any], room: int, nz: int, ndim: int) -> NDArray[Any]:
    if ndim == 3:
        return buffer
    depth = min(room, nz)
    return buffer.reshape((*buffer.shape[:2], depth, room // depth), order="F")
