"""Images as the store takes them, through the readers that other packages offer.

The store knows no file format. The entry-point group `radiobject_assets.image_readers` maps a kind (`nifti`,
`dicom`) to a function `open_images(path) -> [ImageSource, ...]`; an image source has shape, dtype, affine,
slope, intercept, attributes, and `slabs(depth)`. The group `radiobject_assets.series_types` maps a kind to a
function that names the kind of image at a path (`T1w`, `CT`), for images that come without a collection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import tiledb
from numpy.typing import DTypeLike, NDArray

from radiobject_assets.errors import ConfigurationError, IngestError
from radiobject_assets.orientation import Affine, spacing_mm
from radiobject_assets.store.arrays.voxels import native_dtype
from radiobject_assets.store.format.staged_volume import Attribute
from radiobject_assets.store.format.staging import whole_volume_slabs, write_volume_array
from radiobject_assets.store.format.volume_header import standalone
from radiobject_assets.store.objects.volume_orientation import orientation_source, reorient
from radiobject_assets.store.storage.config import MB, get_radiobject_config

_GROUP = "radiobject_assets.image_readers"
_TYPES = "radiobject_assets.series_types"


@dataclass(frozen=True)
class ImageVoxels:
    """One image ready to be stored: how its voxels come, and where they lie."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: Affine
    slope: float
    intercept: float
    attributes: dict[str, Attribute]
    orientation_source: str | None
    """`identity` where the file's orientation was not taken; None: that of the file's kind."""
    slabs: Callable[[], Iterator[tuple[int, int, NDArray[Any]]]]


def open_images(path: Path, kind: str) -> list[Any]:
    """The images of a file or directory, by the reader for `kind`.

    Raises
    ------
    ConfigurationError
        If no installed package offers a reader for `kind`.
    IngestError
        If the file is not there or holds no image.
    """
    if not path.exists():
        raise FileNotFoundError(f"{kind} image not found: {path}")
    images = list(_offered(_GROUP, kind)(path))
    if not images:
        raise IngestError(f"{path}: no image in it")
    return images


def series_type(path: Path, kind: str) -> str:
    """What kind of image lies at `path`, as told through the group `radiobject_assets.series_types`.

    Raises
    ------
    FileNotFoundError
        If the file is not there.
    ConfigurationError
        If no installed package can tell for `kind`.
    """
    if not path.exists():
        raise FileNotFoundError(f"{kind} image not found: {path}")
    return str(_offered(_TYPES, kind)(path))


def _offered(group: str, kind: str) -> Callable[[Path], Any]:
    found = entry_points(group=group, name=kind)
    if not found:
        raise ConfigurationError(f"nothing for {kind!r} images is installed (entry-point group {group})")
    function: Callable[[Path], Any] = next(iter(found)).load()
    return function


def prepare(source: Any, turn: bool | None) -> ImageVoxels:
    """An image source as the store takes it; turned to the configured orientation if wanted.

    Raises
    ------
    ConfigurationError
        If it shall be turned and `OrientationConfig.auto_detect` is off: nobody knows from where.
    """
    orientation = get_radiobject_config().write.orientation
    wanted = is_turned(turn)
    shape = tuple(int(size) for size in source.shape)
    dtype = native_dtype(source.dtype)
    attributes: dict[str, Attribute] = {k: v for k, v in dict(source.attributes).items() if v is not None}
    affine, assumed = np.asarray(source.affine, np.float64), None
    if not orientation.auto_detect:
        if wanted:
            raise ConfigurationError("reorienting needs the orientation in the header: auto_detect is off")
        affine, assumed = np.diag([*spacing_mm(affine), 1.0]), "identity"

    def stream() -> Iterator[tuple[int, int, NDArray[Any]]]:
        depth = max(1, 16 * MB // (shape[0] * shape[1] * dtype.itemsize))
        for slab in source.slabs(depth):
            yield slab.z, slab.t, slab.voxels

    if not wanted:
        return ImageVoxels(shape, dtype, affine, source.slope, source.intercept, attributes, assumed, stream)
    voxels, turned = reorient(_whole(stream(), shape, dtype), affine, orientation.canonical_target)
    if orientation.store_original_affine:
        attributes["original_affine"] = " ".join(repr(float(v)) for v in affine[:3].ravel())
    return ImageVoxels(
        voxels.shape,
        dtype,
        turned,
        source.slope,
        source.intercept,
        attributes,
        None,
        lambda: iter(whole_volume_slabs(voxels)),
    )


def is_turned(turn: bool | None) -> bool:
    """Whether images are turned to the configured orientation; None: as the configuration says."""
    return get_radiobject_config().write.orientation.reorient_on_load if turn is None else turn


def _whole(
    slabs: Iterator[tuple[int, int, NDArray[Any]]], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    voxels = np.empty(shape, dtype, order="F")
    for z, t, part in slabs:
        target = (
            voxels[:, :, z : z + part.shape[2]] if len(shape) == 3 else voxels[:, :, z : z + part.shape[2], t]
        )
        target[...] = part
    return voxels


def create_volume_from_file(
    uri: str,
    path: Path,
    kind: str,
    ctx: tiledb.Ctx,
    turn: bool | None = None,
    dtype: DTypeLike | None = None,
) -> None:
    """A volume that stands alone at `uri`, from the one image at `path`.

    With `dtype` the physical values are stored in that type, without a rescale.

    Raises
    ------
    IngestError
        If there are several images at `path`: they are never mixed into one.
    """
    images = open_images(path, kind)
    if len(images) > 1:
        raise IngestError(f"{path} holds {len(images)} series: give one, or make a collection of them")
    image = prepare(images[0], turn)
    slabs, slope, intercept, stored = image.slabs(), image.slope, image.intercept, image.dtype
    if dtype is not None:
        stored = native_dtype(np.dtype(dtype))
        slabs = _physical(slabs, slope, intercept, stored)
        slope, intercept = 1.0, 0.0
    staged = replace(
        standalone(image.shape, stored, image.affine, slope, intercept),
        orientation_source=image.orientation_source or orientation_source(kind, image.attributes),
        attributes=dict(image.attributes),
    )
    config = get_radiobject_config()
    limit = min(256 * MB, config.read.memory_budget_mb * MB // 4)
    write_volume_array(uri, staged, slabs, config.write.tile, config.write.compression, limit, ctx)


def _physical(
    slabs: Iterator[tuple[int, int, NDArray[Any]]], slope: float, intercept: float, dtype: np.dtype[Any]
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    for z, t, part in slabs:
        yield z, t, (part.astype(np.float64) * slope + intercept).astype(dtype)
