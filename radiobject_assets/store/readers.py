"""Image files into collections, through the readers that other packages offer.

The store knows no file format. The entry-point group `radiobject_assets.image_readers` maps a kind (`nifti`,
`dicom`) to a function `open_images(path) -> [ImageSource, ...]`; an image source has shape, dtype, affine,
slope, intercept, attributes, and `slabs(depth)`. The group `radiobject_assets.series_types` maps a kind to a
function that names the kind of image at a path (`T1w`, `CT`), for images that come without a collection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import tiledb
from numpy.typing import DTypeLike, NDArray

from radiobject_assets.errors import AlignmentError, ConfigurationError, IngestError
from radiobject_assets.store.affine import Affine, spacing_mm
from radiobject_assets.store.config import MB, get_radiobject_config
from radiobject_assets.store.frames import ensure_obs_columns, validate_no_column_collisions
from radiobject_assets.store.layout import OBS_CORE
from radiobject_assets.store.log.log import NoLogError
from radiobject_assets.store.making import making_collection
from radiobject_assets.store.names import OBS, OBS_ID, SUBJECT
from radiobject_assets.store.orientation import orientation_source, reorient
from radiobject_assets.store.parallel import map_on_threads
from radiobject_assets.store.staging import (
    Attribute,
    StagedVolume,
    commit_volumes,
    discard_staged,
    stage_volume,
    whole_volume_slabs,
    write_volume_array,
)
from radiobject_assets.store.table import Table
from radiobject_assets.store.uris import join, last_part
from radiobject_assets.store.volume_header import same_shape, standalone
from radiobject_assets.store.voxels import stored_dtype

Kind = Literal["nifti", "dicom"]
_GROUP = "radiobject_assets.image_readers"
_TYPES = "radiobject_assets.series_types"
_SPELLED = {"nifti": "NIfTI", "dicom": "DICOM"}


@dataclass(frozen=True)
class ImageBatch:
    """Images for one collection, and how to take them."""

    kind: str
    images: Sequence[tuple[str | Path, str]]
    obs: pd.DataFrame | None = None
    reorient: bool | None = None
    validate_dimensions: bool = False
    valid_subject_ids: Sequence[str] | set[str] | None = None
    expected_shape: tuple[int, ...] | None = None
    """What all must have, where `validate_dimensions`; None: that of the first."""


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
    wanted = _turns(turn)
    shape = tuple(int(size) for size in source.shape)
    dtype = stored_dtype(source.dtype)
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


def _turns(turn: bool | None) -> bool:
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
        stored = stored_dtype(np.dtype(dtype))
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


def default_obs_id(subject: str, collection: str) -> str:
    """The id of a subject's first volume in a collection."""
    return f"{subject}_{collection}"


def obs_ids(subjects: Sequence[str], collection: str, taken: set[str]) -> list[str]:
    """`<subject>_<collection>` for each subject, with `_acq-1`, `_acq-2`, ... for further acquisitions.

    >>> obs_ids(["s1", "s2", "s1"], "ct", {"s2_ct"})
    ['s1_ct', 's2_ct_acq-1', 's1_ct_acq-1']
    """
    used, found = set(taken), []
    for subject in subjects:
        base = default_obs_id(subject, collection)
        number, candidate = 0, base
        while candidate in used:
            number += 1
            candidate = f"{base}_acq-{number}"
        used.add(candidate)
        found.append(candidate)
    return found


def append_images(
    collection_uri: str, name: str, batch: ImageBatch, ctx: tiledb.Ctx, progress: bool = False
) -> None:
    """Stage images on threads and commit them together; nothing is left after an error."""
    commit_volumes(collection_uri, stage_images(collection_uri, name, batch, ctx, progress), ctx)


def stage_images(
    collection_uri: str, name: str, batch: ImageBatch, ctx: tiledb.Ctx, progress: bool = False
) -> list[StagedVolume]:
    """Stage images without committing them; their arrays are removed after an error.

    Raises
    ------
    ShapeError
        If shapes are to be validated and differ.
    """
    kind = batch.kind
    if not batch.images:
        raise ValueError(f"At least one {_SPELLED.get(kind, kind)} image is required")
    pairs = [(Path(path), str(subject)) for path, subject in batch.images]
    opened = [(source, subject) for path, subject in pairs for source in open_images(path, kind)]
    if not _turns(batch.reorient):  # else it is known only once they are turned
        _check_shapes(batch, [tuple(source.shape) for source, _ in opened])
    subjects = [subject for _, subject in opened]
    taken = _ids_in(collection_uri, ctx)
    ids, rows = _given_rows(batch.obs, subjects) if batch.obs is not None else ([], [{}] * len(subjects))
    if taken & set(ids):
        raise AlignmentError(f"{len(taken & set(ids))} obs_id(s) of the obs table already exist in {name!r}")
    ids = ids or obs_ids(subjects, name, taken)
    done: list[StagedVolume] = []

    def stage(item: tuple[Any, str, str, dict[str, Attribute]]) -> StagedVolume:
        source, subject, obs_id, row = item
        image = prepare(source, batch.reorient)
        validate_no_column_collisions(row, [*OBS_CORE, *image.attributes], "obs")
        volume = stage_volume(
            collection_uri,
            obs_id=obs_id,
            obs_subject_id=subject,
            shape=image.shape,
            dtype=image.dtype,
            affine=image.affine,
            slabs=image.slabs(),
            slope=image.slope,
            intercept=image.intercept,
            attributes={**image.attributes, **row},
            orientation_source=image.orientation_source or orientation_source(kind, image.attributes),
            ctx=ctx,
            buffer_bytes=32 * MB,
        )
        done.append(volume)
        return volume

    items = [(*image, obs_id, row) for image, obs_id, row in zip(opened, ids, rows, strict=True)]
    try:
        staged = map_on_threads(stage, items, progress=progress, desc=f"{name}: {kind}")
        _check_shapes(batch, [volume.shape for volume in staged])
        return staged
    except BaseException:
        discard_staged(collection_uri, done, ctx)
        raise


def _ids_in(collection_uri: str, ctx: tiledb.Ctx) -> set[str]:
    try:
        return set(Table(join(collection_uri, OBS), ctx).read([]).column(OBS_ID).to_pylist())
    except NoLogError:
        return set()  # it is being made


def _check_shapes(batch: ImageBatch, shapes: Sequence[tuple[int, ...]]) -> None:
    if batch.validate_dimensions:
        same_shape(shapes if batch.expected_shape is None else [batch.expected_shape, *shapes])


def _given_rows(obs: pd.DataFrame, subjects: Sequence[str]) -> tuple[list[str], list[dict[str, Attribute]]]:
    """Ids and further columns of the caller's obs table, which has a row for each image, in their order.

    Raises
    ------
    ValueError
        If it lacks a key column, has another length, or names another subject for an image.
    """
    ensure_obs_columns(obs, require_obs_id=True, context="obs")
    if len(obs) != len(subjects):
        raise AlignmentError(f"obs length {len(obs)} is not the number of images, {len(subjects)}")
    wrong = sum(str(given) != subject for given, subject in zip(obs[SUBJECT], subjects, strict=True))
    if wrong:
        raise AlignmentError(f"obs_subject_id mismatch: {wrong} row(s) of obs name another subject")
    ids = [str(obs_id) for obs_id in obs[OBS_ID]]
    if len(set(ids)) != len(ids):
        raise AlignmentError(f"{len(ids) - len(set(ids))} obs_id(s) of the obs table occur twice")
    rows = [
        {str(k): v for k, v in row.items() if k not in (SUBJECT, OBS_ID) and v == v and v is not None}
        for row in obs.to_dict("records")
    ]
    return ids, rows


def create_collection_from_images(
    uri: str, name: str | None, batch: ImageBatch, ctx: tiledb.Ctx, progress: bool = False
) -> None:
    """A new collection at `uri` from images; nothing is left there after an error."""
    if not batch.images:
        raise ValueError(f"At least one {_SPELLED.get(batch.kind, batch.kind)} image is required")
    if batch.valid_subject_ids is not None:
        strangers = {str(s) for _, s in batch.images} - set(batch.valid_subject_ids)
        if strangers:
            raise AlignmentError(f"Invalid obs_subject_ids: {len(strangers)} image(s) of unknown subjects")
    chosen = name or last_part(uri)
    with making_collection(uri, chosen, ctx) as put:
        put(stage_images(uri, chosen, batch, ctx, progress))
