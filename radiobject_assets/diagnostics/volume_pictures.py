"""Pictures of stored volumes: mid-planes in radiological view, labels over their image, no text."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.imaging.preview import SOFT_TISSUE_HU, render_preview
from radiobject_assets.orientation import spacing_mm
from radiobject_assets.store import RadiObject, TileDBContext, Volume

MAX_VOLUMES = 3
_GAP = 6
_HEIGHT = 240
Planes = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def pictures_of_arrivals(
    store_uri: str,
    collections: Sequence[str] | None,
    arrivals: Collection[str],
    *,
    ctx: TileDBContext | None = None,
) -> list[bytes]:
    """PNGs of the first volumes that came with some arrivals.

    Images are cut through their middle. Labels are shown on the image that they belong to, cut through the
    middle of what is labelled.
    """
    rows = read_inventory(store_uri, collections=collections, arrivals=arrivals, ctx=ctx)
    store = RadiObject(store_uri, ctx=ctx)
    tiles = []
    for row in rows.head(MAX_VOLUMES).itertuples(index=False):
        obs_id = str(row.obs_id)
        volume = store.collection(str(row.collection)).with_values("obs_id", [obs_id]).loc[obs_id]
        image, labels, modality = volume, None, str(row.modality)
        if row.kind == "labels" and isinstance(row.labels_of, str) and row.labels_of:
            owner = store.collection(str(row.labels_of_collection)).with_values("obs_id", [row.labels_of])
            if row.labels_of in owner.obs_ids:
                image, labels = owner.loc[row.labels_of], volume
                modality = str(owner.get_obs_row_by_obs_id(row.labels_of)["modality"].iloc[0])
        tiles.append(picture(image, labels, modality))
    return tiles


def picture(image: Volume, labels: Volume | None = None, modality: str = "") -> bytes:
    """A PNG of one volume: three planes, with its labels over them. Reads the planes, not the volume.

    CT is shown as the body is looked at (400 HU around 40), all else by the values that are there.
    """
    shape = image.shape[:3]
    at = [size // 2 for size in shape] if labels is None else _middle_of_labels(labels)
    planes, spacing = _planes_ras(image, at)
    overlay = _planes_ras(labels, at)[0] if labels is not None else None
    window = SOFT_TISSUE_HU if modality == "CT" else None
    return render_preview(planes, overlay, spacing_mm=spacing, height=_HEIGHT, window=window)


def _planes_ras(volume: Volume, at: Sequence[int]) -> tuple[Planes, tuple[float, float, float]]:
    """The planes x = const, y = const, z = const (RAS axes) through voxel `at`, and the RAS axes' spacing."""
    time = (0,) if volume.ndim == 4 else ()
    planes = []
    for axis in range(3):
        key: list[Any] = [slice(None)] * 3
        key[axis] = int(at[axis])
        planes.append(np.asarray(volume[(*key, *time)]))
    return planes_in_ras((planes[0], planes[1], planes[2]), volume.affine)


def planes_in_ras(planes: Planes, affine: NDArray[np.float64]) -> tuple[Planes, tuple[float, float, float]]:
    """Planes across each voxel axis as planes across the RAS axes, and the spacing of these, mm."""
    # row i of the orientation: which world axis voxel axis i runs along, and in which direction
    orientation = nib.orientations.io_orientation(affine)  # type: ignore[no-untyped-call] # nibabel
    sizes = spacing_mm(affine)
    spacing = [1.0, 1.0, 1.0]
    turned: dict[int, NDArray[Any]] = {}
    for axis in range(3):
        world = int(orientation[axis, 0])
        spacing[world] = sizes[axis]
        plane = planes[axis]
        others = [other for other in range(3) if other != axis]
        for position, other in enumerate(others):
            if orientation[other, 1] < 0:
                plane = np.flip(plane, axis=position)
        if orientation[others[0], 0] > orientation[others[1], 0]:
            plane = plane.T
        turned[world] = plane
    return (turned[0], turned[1], turned[2]), (spacing[0], spacing[1], spacing[2])


def _middle_of_labels(labels: Volume) -> list[int]:
    """The voxel in the middle of what is labelled, found slab by slab; the volume's middle if nothing is."""
    shape = labels.shape[:3]
    counts = [np.zeros(size, dtype=np.int64) for size in shape]
    for z, _, slab in labels.iter_slabs(stored=True):
        marked = slab.reshape(*slab.shape[:3], -1).any(axis=3) if slab.ndim == 4 else slab != 0
        counts[0] += marked.sum(axis=(1, 2))
        counts[1] += marked.sum(axis=(0, 2))
        counts[2][z : z + slab.shape[2]] += marked.sum(axis=(0, 1))
    return [
        # the plane that shows most: the middle of two lesions may lie between them
        int(count.argmax()) if count.any() else size // 2
        for count, size in zip(counts, shape, strict=True)
    ]


def stacked(pictures: Sequence[bytes]) -> Image.Image:
    """Pictures one below the other."""
    tiles = [Image.open(io.BytesIO(content)) for content in pictures]
    sheet = Image.new(
        "RGB",
        (max(tile.width for tile in tiles), sum(tile.height for tile in tiles) + _GAP * (len(tiles) - 1)),
        (16, 16, 16),
    )
    top = 0
    for tile in tiles:
        sheet.paste(tile, (0, top))
        top += tile.height + _GAP
    return sheet
