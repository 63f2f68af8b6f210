"""Copies of volumes, collections and stores, with everything that belongs to them.

A copy is streamed slab by slab in the stored dtype: affine, rescale, provenance and free columns go along,
and the voxel digest of the copy must equal that of the original. A copy appears whole, with one commit at its
end; of an interrupted one nothing is visible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import tiledb

from radiobject_assets.errors import AlignmentError, StorageError
from radiobject_assets.store.format.layout import (
    STORE_FORMAT,
    add_collection as add_empty_collection,
    check_format,
    directory_for,
    store_log,
)
from radiobject_assets.store.format.obs_rows import WITHOUT_COLUMN
from radiobject_assets.store.format.staging import (
    COMPUTED,
    Attribute,
    StagedVolume,
    discard_staged,
    put_volumes,
    stage_volume,
)
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.names import COLLECTIONS, OBS, OBS_ID, SUBJECT
from radiobject_assets.store.objects.chosen_store import ChosenStore
from radiobject_assets.store.objects.chosen_volumes import ChosenVolumes
from radiobject_assets.store.objects.making import making_collection, making_store
from radiobject_assets.store.objects.volume import Volume
from radiobject_assets.store.storage import DeadlineError
from radiobject_assets.store.storage.config import CompressionConfig, TileConfig
from radiobject_assets.store.storage.uris import join, validate_collection_name
from radiobject_assets.store.tables.dataframe_rows import ensure_obs_columns


def row_attributes(row: Mapping[str, Any]) -> dict[str, Attribute]:
    """The part of an obs row that a copy takes over: provenance and free columns."""
    left_out = {SUBJECT, OBS_ID} | COMPUTED
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in row.items()
        if name not in left_out and value is not None
    }


def copy_volume(
    volume: Volume,
    row: Mapping[str, Any],
    collection_uri: str,
    ctx: tiledb.Ctx,
    tile: TileConfig | None = None,
    compression: CompressionConfig | None = None,
) -> StagedVolume:
    """Stage a copy of one volume in a collection, laid out as the configuration says or as is said here.

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
        sources=volume.sources,
        orientation_source=volume.orientation_info.source,
        tile=tile,
        compression=compression,
        ctx=ctx,
    )
    if volume.voxel_digest and staged.voxel_digest != volume.voxel_digest:
        discard_staged(collection_uri, [staged], ctx)
        raise StorageError(f"{volume.uri}: the voxels are not those that were written; the copy was stopped")
    return staged


def staged_copies(source: ChosenVolumes, target_uri: str, ctx: tiledb.Ctx) -> Iterator[StagedVolume]:
    """Copies of volumes, staged one after the other for the collection at a URI."""
    for volume, row in source.with_rows():
        yield copy_volume(volume, {n: v for n, v in row.items() if not n.startswith("_")}, target_uri, ctx)


def copy_collection(source: ChosenVolumes, uri: str, name: str | None, ctx: tiledb.Ctx) -> None:
    """A new collection at `uri` with copies of volumes."""
    with making_collection(uri, name or source.name, ctx) as put:
        put(staged_copies(source, uri, ctx))


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

    def stage_copy(obs_id: str, volume: Volume) -> StagedVolume:
        row = {**rows[obs_id], OBS_ID: obs_id, SUBJECT: str(rows[obs_id][SUBJECT])}
        return copy_volume(volume, row, uri, ctx)

    with making_collection(uri, name, ctx) as put:
        put(stage_copy(obs_id, volume) for obs_id, volume in volumes)


def copy_store(source: ChosenStore, uri: str, ctx: tiledb.Ctx) -> None:
    """A new store at `uri` with copies of subjects and volumes."""
    with making_store(uri, ctx) as made:
        made.subjects(source.subjects.frame())
        for name in source.names:
            into = made.collection(name)
            made.put_in(name, staged_copies(source.collection(name), into, ctx))


def store_from_collections(
    uri: str, collections: Mapping[str, ChosenVolumes], obs_meta: pd.DataFrame | None, ctx: tiledb.Ctx
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
    subjects = sorted({s for collection in collections.values() for s in collection.rows.subjects})
    if obs_meta is not None:
        frame = obs_meta if SUBJECT in obs_meta.columns else obs_meta.reset_index()
        ensure_obs_columns(frame, context="obs_meta")
        missing = set(subjects) - set(map(str, frame[SUBJECT]))
        if missing:
            raise AlignmentError(f"obs_meta lacks {len(missing)} subject(s) that have volumes")
    with making_store(uri, ctx) as made:
        made.subjects(None if obs_meta is None else frame, subjects)
        for name, collection in collections.items():
            into = made.collection(name)
            made.put_in(name, staged_copies(collection, into, ctx))


def copy_into_store(store: ChosenStore, name: str, collection: ChosenVolumes) -> None:
    """Copy `collection` into a store under `name`.

    Raises
    ------
    ValueError
        If the store has a collection of that name with volumes.
    AlignmentError
        If the collection has subjects that the store does not know.
    """
    ctx = store.ctx.get()
    if name in store.names and len(store.collection(name)):
        raise ValueError(f"Collection {name!r} already exists in {store.uri}")
    strangers = set(collection.rows.subjects) - set(store.subjects.subjects)
    if strangers:
        raise AlignmentError(
            f"{len(strangers)} subject(s) of the collection are not in obs_meta: add them first"
        )
    directory = directory_for(check_format(store.uri, ctx, STORE_FORMAT), name)
    target = join(store.uri, COLLECTIONS, directory)
    if target == collection.uri:
        raise ValueError("the collection is this store's own")
    staged: list[StagedVolume] = []

    def add(draft: Draft) -> None:
        if directory_for(draft.state, name) != directory:
            raise StorageError(f"{store.uri}: its collection {name!r} was renamed meanwhile; add it again")
        add_empty_collection(draft, directory, name)
        put_volumes(draft, f"{COLLECTIONS}/{directory}/{OBS}", staged)

    try:
        for volume in staged_copies(collection, target, ctx):
            staged.append(volume)
        store_log(store.uri, ctx).commit("add collection", add)
    except DeadlineError:
        raise  # it may have been committed
    except BaseException:
        discard_staged(target, staged, ctx)
        raise
