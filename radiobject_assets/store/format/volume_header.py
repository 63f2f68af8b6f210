"""What is known of a volume without reading voxels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from radiobject_assets.errors import SchemaError, ShapeError
from radiobject_assets.store.arrays.affine import validate_affine
from radiobject_assets.store.format.layout import AFFINE_COLUMNS, SIZE_COLUMNS
from radiobject_assets.store.format.staged_volume import StagedVolume


@dataclass(frozen=True)
class VolumeHeader:
    """What is known of a volume without reading voxels."""

    obs_id: str | None
    obs_subject_id: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: tuple[tuple[float, ...], ...]
    slope: float
    intercept: float
    orientation_source: str
    kind: str
    voxel_digest: str
    tile_orientation: str | None = None
    index_digest: str | None = None
    """Of the array's index, as the row names it; "" where the row names none; None without a row."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> VolumeHeader:
        """The header that an obs row holds."""
        values = [row[name] for name in AFFINE_COLUMNS]
        return cls(
            obs_id=row["obs_id"],
            obs_subject_id=row["obs_subject_id"],
            shape=tuple(row[name] for name in SIZE_COLUMNS)[: row["ndim"]],
            dtype=np.dtype(row["dtype"]),
            affine=tuple(tuple(values[i : i + 4]) for i in (0, 4, 8)),
            slope=row["slope"],
            intercept=row["intercept"],
            orientation_source=row["orientation_source"] or "header",
            kind=row["kind"] or "image",
            voxel_digest=row["voxel_digest"],
            index_digest=row.get("index_digest") or "",
        )


HEADER_COLUMNS = (
    "obs_subject_id",
    "obs_id",
    "volume",
    "ndim",
    *SIZE_COLUMNS,
    "dtype",
    *AFFINE_COLUMNS,
    "slope",
    "intercept",
    "orientation_source",
    "kind",
    "voxel_digest",
    "index_digest",
)


def same_shape(shapes: Iterable[tuple[int, ...]]) -> None:
    """Raise a ShapeError where volumes have different (X, Y, Z); time points may differ."""
    found = list(dict.fromkeys(shape[:3] for shape in shapes))
    if len(found) > 1:
        shown = ", ".join(str(shape) for shape in found[:3])
        raise ShapeError(f"Dimension mismatch: the volumes have the shapes {shown}")


def standalone(
    shape: tuple[int, ...], dtype: np.dtype[Any], affine: ArrayLike | None, slope: float, intercept: float
) -> StagedVolume:
    """The description of a volume that stands alone, outside of any collection."""
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise SchemaError(
            f"rescale slope {slope} and intercept {intercept} must be finite and the slope not 0"
        )
    matrix = validate_affine(np.eye(4) if affine is None else affine)
    return StagedVolume(
        token="",
        obs_id="",
        obs_subject_id="",
        shape=shape,
        dtype=dtype.name,
        affine=tuple(tuple(float(value) for value in row) for row in matrix[:3]),
        slope=float(slope),
        intercept=float(intercept),
        orientation_source="identity" if affine is None else "header",
        voxel_digest="",
        voxel_bytes=int(np.prod(shape, dtype=np.int64)) * dtype.itemsize,
        stored_bytes=0,
    )
