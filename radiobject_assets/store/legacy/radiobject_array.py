"""One array that the RadiObject package wrote: what it says of itself, as a volume header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from radiobject_assets.errors import SchemaError, StorageError
from radiobject_assets.orientation import OrientationInfo, metadata_to_orientation_info
from radiobject_assets.store.arrays.affine import validate_affine
from radiobject_assets.store.arrays.tiledb_array import ATTRIBUTE
from radiobject_assets.store.arrays.voxels import native_dtype
from radiobject_assets.store.format.volume_header import VolumeHeader
from radiobject_assets.store.storage.config import SliceOrientation

_IDENTITY = tuple(tuple(row) for row in np.eye(4)[:3].tolist())


def radiobject_header(array: Any) -> VolumeHeader | None:
    """The header of an open TileDB array, or None where it isn't one of RadiObject's volumes.

    RadiObject keeps the id in the array's metadata, and affine and tiling where it did not lose them. Without
    an affine the identity is assumed, which `orientation_source` says. It never kept a rescale.

    Raises
    ------
    SchemaError
        If the affine or the voxels' type can't be used.
    """
    schema = array.schema
    dimensions = [schema.domain.dim(i) for i in range(schema.domain.ndim)]
    if (
        schema.sparse
        or schema.nattr != 1
        or schema.attr(0).name != ATTRIBUTE
        or len(dimensions) not in (3, 4)
    ):
        return None
    if any(dim.dtype != np.int32 or int(dim.domain[0]) != 0 for dim in dimensions):
        return None
    meta = dict(array.meta.items())
    info = _orientation(array.uri, meta)
    tiling = meta.get("tile_orientation") or meta.get("slice_orientation")
    return VolumeHeader(
        obs_id=str(meta["obs_id"]) if meta.get("obs_id") else None,
        obs_subject_id=None,
        shape=tuple(int(dim.size) for dim in dimensions),
        dtype=native_dtype(schema.attr(0).dtype),
        affine=_IDENTITY if info is None else info.affine[:3],
        slope=1.0,
        intercept=0.0,
        orientation_source="identity" if info is None else info.source,
        kind="image",
        voxel_digest="",
        tile_orientation=tiling if tiling in set(SliceOrientation) else None,
    )


def _orientation(uri: str, meta: Mapping[str, object]) -> OrientationInfo | None:
    try:
        info = metadata_to_orientation_info(meta)
        if info is not None:
            validate_affine(info.affine)
    except ValueError as error:
        raise SchemaError(f"{uri}: the stored affine cannot be used: {error}") from error
    return info


def read_only(uri: str, action: str) -> StorageError:
    """The error for an attempt to change what RadiObject wrote."""
    return StorageError(
        f"cannot {action} {uri}: the RadiObject package wrote it, and it is only read here; "
        "copy it with `radiobject-assets import-radiobject OLD NEW`"
    )
