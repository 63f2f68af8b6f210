"""Image files into collections: batches of them, their ids and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tiledb

from radiobject_assets.errors import AlignmentError
from radiobject_assets.store.format.layout import OBS_CORE
from radiobject_assets.store.format.obs_table import obs_table
from radiobject_assets.store.format.staged_volume import Attribute, StagedVolume
from radiobject_assets.store.format.staging import commit_volumes, discard_staged, stage_volume
from radiobject_assets.store.format.volume_header import same_shape
from radiobject_assets.store.log.commit_log import NoLogError
from radiobject_assets.store.names import OBS_ID, SUBJECT
from radiobject_assets.store.objects.images import is_turned, open_images, prepare
from radiobject_assets.store.objects.making import making_collection
from radiobject_assets.store.objects.volume_orientation import orientation_source
from radiobject_assets.store.storage.config import MB
from radiobject_assets.store.storage.parallel import map_on_threads
from radiobject_assets.store.storage.uris import last_part
from radiobject_assets.store.tables.dataframe_rows import ensure_obs_columns, validate_no_column_collisions

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
    if not is_turned(batch.reorient):  # else it is known only once they are turned
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
        return set(obs_table(collection_uri, ctx).read([]).column(OBS_ID).to_pylist())
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
