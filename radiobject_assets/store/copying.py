"""Copies of volumes, collections and stores, with everything that belongs to them.

A copy is streamed slab by slab in the stored dtype: affine, rescale, provenance and free columns go along,
and the voxel digest of the copy must equal that of the original. A collection appears whole: its rows are
committed together at the end. Copying again after an interruption completes the copy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import tiledb

from radiobject_assets.errors import AlignmentError, StorageError
from radiobject_assets.store.building_state import building
from radiobject_assets.store.dataframe import ensure_obs_columns
from radiobject_assets.store.layout import (
    OBS,
    OBS_CORE,
    OBS_ID,
    SUBJECT,
    ensure_collection,
    ensure_collection_at,
)
from radiobject_assets.store.obs_rows import WITHOUT_COLUMN
from radiobject_assets.store.staging import (
    _COMPUTED,
    Attribute,
    StagedVolume,
    commit_volumes,
    discard_staged,
    stage_volume,
)
from radiobject_assets.store.subjects import ensure_subjects, upsert_subjects
from radiobject_assets.store.table import Table
from radiobject_assets.store.uris import join, validate_collection_name

if TYPE_CHECKING:
    from radiobject_assets.store.radi_object import RadiObject
    from radiobject_assets.store.volume import Volume
    from radiobject_assets.store.volume_collection import VolumeCollection

_log = logging.getLogger(__name__)


def row_attributes(row: Mapping[str, Any]) -> dict[str, Attribute]:
    """The part of an obs row that a copy takes over: provenance and free columns."""
    left_out = {SUBJECT, OBS_ID} | _COMPUTED
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in row.items()
        if name not in left_out and value is not None
    }


def copy_volume(volume: Volume, row: Mapping[str, Any], collection_uri: str, ctx: tiledb.Ctx) -> StagedVolume:
    """Stage a copy of one volume in another collection.

    Raises
    ------
    StorageError
        If the voxels read are not those that were once written.
    """
    header = volume.nifti_header
    with_array = {name: header[name] for name in WITHOUT_COLUMN if name in header}
    staged = stage_volume(
        collection_uri,
        obs_id=row[OBS_ID],
        obs_subject_id=row[SUBJECT],
        shape=volume.shape,
        dtype=volume.stored_dtype,
        affine=volume.affine,
        slabs=volume.iter_slabs(stored=True),
        slope=volume.slope,
        intercept=volume.intercept,
        attributes=row_attributes(row) | with_array,
        orientation_source=volume._header.orientation_source,
        ctx=ctx,
    )
    if volume.voxel_digest and staged.voxel_digest != volume.voxel_digest:
        discard_staged(collection_uri, [staged], ctx)
        raise StorageError(f"{volume.uri}: the voxels are not those that were written; the copy was stopped")
    return staged


def stage_all(
    collection_uri: str, items: Iterable[Callable[[], StagedVolume]], ctx: tiledb.Ctx
) -> list[StagedVolume]:
    """Stage volumes one after another; on any error the staged ones are removed."""
    staged: list[StagedVolume] = []
    try:
        for stage in items:
            staged.append(stage())
    except BaseException:
        discard_staged(collection_uri, staged, ctx)
        raise
    return staged


def copy_rows(source: VolumeCollection, target_uri: str, ctx: tiledb.Ctx) -> None:
    """Copy the volumes that `source` shows into an existing collection; those that are there are skipped."""
    have = _digests(target_uri, ctx)
    columns = [name for name in source._rows.names if not name.startswith("_")]
    positions = [int(p) for p in source._where]

    def stage_at(position: int) -> Callable[[], StagedVolume]:
        return lambda: copy_volume(
            source._volume_at(position), source._rows.records(position, columns), target_uri, ctx
        )

    todo = []
    for position in positions:
        key = source._rows.records(position, [SUBJECT, OBS_ID, "voxel_digest"])
        if have.get((key[SUBJECT], key[OBS_ID])) != key["voxel_digest"]:
            todo.append(stage_at(position))
    commit_volumes(target_uri, stage_all(target_uri, todo, ctx), ctx)


def _digests(collection_uri: str, ctx: tiledb.Ctx) -> dict[tuple[str, str], str]:
    rows = Table(join(collection_uri, OBS), ctx, OBS_CORE).read(["voxel_digest"])
    columns = [rows.column(name).to_pylist() for name in (SUBJECT, OBS_ID, "voxel_digest")]
    return {(subject, obs_id): digest for subject, obs_id, digest in zip(*columns, strict=True)}


def copy_collection(
    source: VolumeCollection, uri: str, name: str | None = None, ctx: tiledb.Ctx | None = None
) -> VolumeCollection:
    """A new collection at `uri` with the volumes that `source` shows, written with `ctx` or its own."""
    from radiobject_assets.store.volume_collection import VolumeCollection

    use = ctx or source._ctx.get()
    with building(uri, use):
        ensure_collection_at(uri, name or source.name, use)
        copy_rows(source, uri, use)
    return VolumeCollection(uri, ctx or source._ctx.explicit)


def collection_from_volumes(
    uri: str,
    volumes: Sequence[tuple[str, Volume]],
    obs: pd.DataFrame | None,
    name: str | None,
    ctx: tiledb.Ctx,
) -> None:
    """A new collection at `uri` with copies of volumes under the ids given.

    Raises
    ------
    ValueError
        If there are none.
    AlignmentError
        If `obs` lacks one of the ids.
    """
    if not volumes:
        raise ValueError("At least one volume is required")
    rows: dict[str, dict[str, Any]] = {obs_id: {SUBJECT: obs_id} for obs_id, _ in volumes}
    if len(rows) != len(volumes):
        raise AlignmentError(f"{len(volumes) - len(rows)} obs_id(s) occur twice")
    if obs is not None:
        given = {str(row[OBS_ID]): row for row in obs.to_dict("records")}
        missing = [obs_id for obs_id in rows if obs_id not in given]
        if missing:
            raise AlignmentError(f"the obs table has no row for {len(missing)} of {len(rows)} volume(s)")
        rows = {obs_id: {str(k): v for k, v in given[obs_id].items() if v == v} for obs_id in rows}
    with building(uri, ctx):
        ensure_collection_at(uri, name, ctx)

        def stage_copy(obs_id: str, volume: Volume) -> Callable[[], StagedVolume]:
            row = {**rows[obs_id], OBS_ID: obs_id, SUBJECT: str(rows[obs_id][SUBJECT])}
            return lambda: copy_volume(volume, row, uri, ctx)

        staged = stage_all(uri, [stage_copy(obs_id, volume) for obs_id, volume in volumes], ctx)
        commit_volumes(uri, staged, ctx)


def copy_store(source: RadiObject, uri: str, ctx: tiledb.Ctx | None = None) -> RadiObject:
    """A new store at `uri` with what `source` shows, written with `ctx` or its own."""
    from radiobject_assets.store.radi_object import RadiObject

    use = ctx or source._ctx.get()
    with building(uri, use, store=True):
        upsert_subjects(uri, source.obs_meta.read(), use)
        for name in source.collection_names:
            copy_rows(source.collection(name), ensure_collection(uri, name, use), use)
    return RadiObject(uri, ctx or source._ctx.explicit)


def store_from_collections(
    uri: str, collections: Mapping[str, VolumeCollection], obs_meta: pd.DataFrame | None, ctx: tiledb.Ctx
) -> None:
    """A new store with copies of collections; subjects without metadata get a row of their own.

    Raises
    ------
    AlignmentError
        If `obs_meta` is given and lacks subjects of a collection.
    """
    if not collections:
        raise ValueError("At least one collection is required")
    for name in collections:
        validate_collection_name(name)
    subjects = sorted({s for collection in collections.values() for s in collection.obs_subject_ids})
    if obs_meta is not None:
        frame = obs_meta if SUBJECT in obs_meta.columns else obs_meta.reset_index()
        ensure_obs_columns(frame, context="obs_meta")
        missing = set(subjects) - set(map(str, frame[SUBJECT]))
        if missing:
            raise AlignmentError(f"obs_meta lacks {len(missing)} subject(s) that have volumes")
    with building(uri, ctx, store=True):
        if obs_meta is not None:
            upsert_subjects(uri, frame, ctx)
        ensure_subjects(uri, subjects, ctx)
        for name, collection in collections.items():
            copy_rows(collection, ensure_collection(uri, name, ctx), ctx)


def add_collection(store: RadiObject, name: str, collection: VolumeCollection) -> None:
    """Copy `collection` into a store under `name`.

    Raises
    ------
    ValueError
        If the store has a collection of that name with volumes.
    AlignmentError
        If the collection has subjects that the store does not know.
    """
    ctx = store._ctx.get()
    if name in store.collection_names and len(store.collection(name)):
        raise ValueError(f"Collection {name!r} already exists in {store.uri}")
    strangers = set(collection.obs_subject_ids) - set(store.obs_subject_ids)
    if strangers:
        raise AlignmentError(
            f"{len(strangers)} subject(s) of the collection are not in obs_meta: add them first"
        )
    target = ensure_collection(store.uri, name, ctx)
    if target == collection.uri:
        raise ValueError("the collection is this store's own")
    copy_rows(collection, target, ctx)
