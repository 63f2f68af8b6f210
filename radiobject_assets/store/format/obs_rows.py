"""The rows of obs that name staged volumes, and the columns that they will have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from radiobject_assets import __version__
from radiobject_assets.orientation import affine_axcodes, spacing_mm
from radiobject_assets.store.format.layout import AFFINE_COLUMNS, OBS_CORE, SIZE_COLUMNS, SPACING_COLUMNS
from radiobject_assets.store.format.staged_volume import StagedVolume
from radiobject_assets.store.log.columns import Column, ColumnType, is_column_name, to_arrow
from radiobject_assets.store.log.commit_log import now_ms
from radiobject_assets.store.names import OBS_ID, SUBJECT

WRITER_VERSION = f"radiobject-assets {__version__}"
# Attributes that are columns of the format itself; all others become free columns.
TEXT_ATTRIBUTES: tuple[str, ...] = (
    "kind",
    "modality",
    "series_uid",
    "study_uid",
    "component",
    "arrival",
    "source_digest",
    "labels_of_collection",
    "labels_of",
)
_PLAIN: Mapping[type, ColumnType] = {
    str: ColumnType.UTF8,
    bool: ColumnType.BOOL,
    int: ColumnType.INT64,
    float: ColumnType.FLOAT64,
}
# Written into the array's metadata alone: nobody filters by it.
WITHOUT_COLUMN = frozenset({"nifti_extensions", "nifti_other_place", "nifti_steps"})


def free_columns(attributes: Iterable[Mapping[str, Any]]) -> list[Column]:
    """The free columns that the rows of volumes with these attributes will have, as far as that is certain.

    A column whose values have several types is left to the commit: it depends on what is committed together.
    """
    kinds: dict[str, set[ColumnType | None]] = {}
    for one in attributes:
        for name, value in one.items():
            if value is not None and name not in OBS_CORE and name not in WITHOUT_COLUMN:
                kinds.setdefault(name, set()).add(_PLAIN.get(type(value)))
    return [
        Column(name, kind)
        for name, (kind, *others) in kinds.items()
        if kind is not None and not others and is_column_name(name)
    ]


def obs_rows(staged: Sequence[StagedVolume]) -> pa.Table:
    """The obs rows of staged volumes."""
    columns: dict[str, Any] = {
        SUBJECT: pa.array([v.obs_subject_id for v in staged], pa.large_string()),
        OBS_ID: pa.array([v.obs_id for v in staged], pa.large_string()),
        "volume": [v.token for v in staged],
        "ndim": [v.ndim for v in staged],
        "dtype": [v.dtype for v in staged],
        "slope": [v.slope for v in staged],
        "intercept": [v.intercept for v in staged],
        "orientation_source": [v.orientation_source for v in staged],
        "voxel_digest": [v.voxel_digest for v in staged],
        "index_digest": [v.index_digest or None for v in staged],
        "voxel_bytes": [v.voxel_bytes for v in staged],
        "stored_bytes": [v.stored_bytes for v in staged],
        "writer_version": [WRITER_VERSION] * len(staged),
        "written_at": pa.array([now_ms()] * len(staged), pa.int64()).cast(ColumnType.TIME_MS.arrow),
    }
    for axis, name in enumerate(SIZE_COLUMNS):
        columns[name] = [v.shape[axis] if axis < v.ndim else 1 for v in staged]
    for position, name in enumerate(AFFINE_COLUMNS):
        columns[name] = [v.affine[position // 4][position % 4] for v in staged]
    matrices = [np.array([*v.affine, (0.0, 0.0, 0.0, 1.0)]) for v in staged]
    for axis, name in enumerate(SPACING_COLUMNS):
        columns[name] = [spacing_mm(matrix)[axis] for matrix in matrices]
    columns["axcodes"] = [affine_axcodes(matrix) for matrix in matrices]
    for name in TEXT_ATTRIBUTES:
        columns[name] = [v.attributes.get(name) for v in staged]
    columns["kind"] = [v.attributes.get("kind") or "image" for v in staged]
    for name, values in list(columns.items()):
        if name in OBS_CORE:
            kind = OBS_CORE[name].type
            assert kind is not None
            columns[name] = pa.array(values, kind.arrow)
    free = dict.fromkeys(name for v in staged for name in v.attributes if name not in TEXT_ATTRIBUTES)
    for name in (name for name in free if name not in WITHOUT_COLUMN):
        values = [v.attributes.get(name) for v in staged]
        if any(value is not None for value in values):
            columns[name] = to_arrow(name, values)[1]
    return pa.table(columns)
