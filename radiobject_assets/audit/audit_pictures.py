"""Small pictures of what an audit names: three planes of a volume that is in no store, read slab by slab."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from radiobject_assets.audit.folder_view import AuditedSeries, FolderView
from radiobject_assets.audit.volume_look import depth_of, physical_values
from radiobject_assets.diagnostics.volume_pictures import Planes, planes_in_ras
from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.preview import SOFT_TISSUE_HU, render_preview
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.system.memory import MB

_SLAB_BYTES = 8 * MB
_HEIGHT = 110
_QUALITY = 70


def picture_of_series(item: AuditedSeries, view: FolderView) -> bytes | None:
    """JPEG of one volume; labels over their image where they lie on it. None where nothing can be read."""
    look = item.seen
    if look is None or item.series.affine is None or item.series.shape is None:
        return None
    image = next((pair.image for pair in view.pairings if pair.labels is item and pair.image), None)
    at = look.densest if item.planned.is_labels else tuple(size // 2 for size in item.series.shape[:3])
    try:
        own = _planes(item.series, at)
        grids = item.series.grid, None if image is None else image.series.grid
        window = SOFT_TISSUE_HU if item.series.modality == "CT" else None
        if image is not None and grids[0] is not None and grids[1] is not None and grids[0].same_as(grids[1]):
            below = _planes(image.series, at)
            overlay, _ = planes_in_ras(own, item.series.affine)
        else:
            below, overlay = own, None
        planes, spacing = planes_in_ras(below, item.series.affine)
        drawn = render_preview(planes, overlay, spacing_mm=spacing, height=_HEIGHT, window=window)
    except (ImageReadError, OSError):
        return None  # it could be read a moment ago, and the finding is the same
    with Image.open(io.BytesIO(drawn)) as opened:
        file = io.BytesIO()
        opened.convert("RGB").save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _planes(series: Series, at: Sequence[int]) -> Planes:
    """The planes across each voxel axis through voxel `at` of the first time point."""
    source = open_series(series)
    columns, rows, slices = source.shape[:3]
    across_x = np.zeros((rows, slices), np.float32)
    across_y = np.zeros((columns, slices), np.float32)
    across_z: NDArray[Any] = np.zeros((columns, rows), np.float32)
    for slab in source.slabs(depth_of(source, _SLAB_BYTES)):
        if slab.t > 0:
            break
        values = physical_values(slab.voxels, source)
        end = slab.z + values.shape[2]
        across_x[:, slab.z : end] = values[at[0]]
        across_y[:, slab.z : end] = values[:, at[1]]
        if slab.z <= at[2] < end:
            across_z = values[:, :, at[2] - slab.z].copy()
    return across_x, across_y, across_z
