"""Stored volumes laid out anew: other tiles, another codec, one file in place of many.

Each volume is written beside the one that is there, and its voxels have to have the same digest. Then one
commit lets the rows name the new arrays; nothing else of a row changes. Who reads meanwhile, or from a
snapshot, reads the old ones, which `vacuum` removes once nothing names them. What is interrupted has done
what was committed, and the next run does the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from radiobject_assets.errors import StorageError
from radiobject_assets.store.arrays.stored_layout import StoredLayout
from radiobject_assets.store.format.layout import Context, list_collections, reference
from radiobject_assets.store.format.obs_rows import obs_rows
from radiobject_assets.store.format.obs_table import obs_table
from radiobject_assets.store.format.staging import StagedVolume, discard_staged
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.table_reading import read_table
from radiobject_assets.store.log.vacuuming import revoked_tokens
from radiobject_assets.store.names import OBS_ID
from radiobject_assets.store.objects.chosen_volumes import ChosenVolumes
from radiobject_assets.store.objects.copying import copy_volume
from radiobject_assets.store.objects.volume import Volume
from radiobject_assets.store.storage import DeadlineError
from radiobject_assets.store.storage.config import CompressionConfig, Compressor, SliceOrientation, TileConfig
from radiobject_assets.store.storage.uris import last_part, normalise

# Volumes of one commit: what is interrupted loses no more, and tables get few segments.
_TOGETHER = 16
# What of a row belongs to its array, and not to the voxels in it.
_OF_THE_ARRAY = ("volume", "index_digest", "stored_bytes", "writer_version", "written_at")


@dataclass(frozen=True)
class RewriteReport:
    """What `rewrite_volumes` did."""

    rewritten: int = 0
    as_wanted: int = 0
    """Volumes that were laid out so already."""
    changed_meanwhile: int = 0
    """Volumes that somebody replaced or deleted while they were being rewritten: left as they are now."""
    bytes_before: int = 0
    bytes_after: int = 0
    """Stored bytes of what was rewritten; those before stay on the disk until `vacuum`."""


def rewrite_volumes(
    store_uri: str | os.PathLike[str],
    collection: str,
    *,
    tile: TileConfig | None = None,
    compression: CompressionConfig | None = None,
    ctx: Context = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> RewriteReport:
    """Lay out the volumes of a collection anew; their voxels, their rows and all snapshots stay.

    Parameters
    ----------
    tile
        Tiles to have; None: those that each volume has.
    compression
        Codec to have; None: that of each volume. One that has the codec already is left alone, whatever the
        level, since that makes no difference to who reads.
    on_progress
        Called with volumes done, volumes in all, and a text.

    Raises
    ------
    StorageError
        If storage fails, voxels are not those that were once written, or there is no such collection.
    """
    where = normalise(store_uri)
    entries = {entry.name: entry.uri for entry in list_collections(where, ctx)}
    if collection not in entries:
        raise StorageError(f"{where} has no collection {collection!r}; it has {', '.join(entries) or 'none'}")
    uri = entries[collection]
    chosen = ChosenVolumes.opened(uri, reference(ctx).get())
    if chosen.rows.is_radiobjects:
        raise StorageError(
            f"{where} was written by the RadiObject package and is only read here: copy it by "
            "`radiobject-assets import-radiobject OLD NEW`, and the copy is laid out anew"
        )
    total, done, as_wanted, lost, before, after = len(chosen), 0, 0, 0, 0, 0
    rewritten = 0
    for volumes in _batches(chosen.with_rows(), _TOGETHER):
        staged: list[tuple[StagedVolume, str]] = []
        try:
            for volume, row in volumes:
                layout = volume.stored_layout
                wanted_tile = tile or _tile_of(volume, layout)
                codec = compression or CompressionConfig(algorithm=Compressor(layout.codec or "zstd"))
                done += 1
                if _is_so(layout, wanted_tile, codec):
                    as_wanted += 1
                else:
                    plain = {name: value for name, value in row.items() if not name.startswith("_")}
                    copy = copy_volume(volume, plain, uri, chosen.ctx.get(), wanted_tile, codec)
                    staged.append((copy, last_part(volume.uri)))
                    before += int(row.get("stored_bytes") or 0)
                    after += copy.stored_bytes
                if on_progress is not None:
                    on_progress(done, total, f"{collection} laid out anew")
            kept = _put_in_place(uri, staged, ctx)
        except DeadlineError:
            raise  # they may have been committed
        except BaseException:
            discard_staged(uri, [volume for volume, _ in staged], ctx)
            raise
        rewritten += kept
        lost += len(staged) - kept
    return RewriteReport(rewritten, as_wanted, lost, before, after)


def _batches(
    volumes: Iterator[tuple[Volume, dict[str, Any]]], size: int
) -> Iterator[list[tuple[Volume, dict[str, Any]]]]:
    while batch := list(islice(volumes, size)):
        yield batch


def _tile_of(volume: Volume, layout: StoredLayout) -> TileConfig:
    x, y, z, *t = layout.tile
    orientation = volume.tile_orientation or SliceOrientation.ISOTROPIC
    return TileConfig(orientation=orientation, x=x, y=y, z=z, t=t[0] if t else 1)


def _is_so(layout: StoredLayout, tile: TileConfig, compression: CompressionConfig) -> bool:
    return (
        layout.indexed
        and layout.files == 1
        and layout.tile == tile.extents_for_shape(layout.shape)
        and layout.codec == compression.algorithm.value
    )


def _put_in_place(collection_uri: str, staged: Sequence[tuple[StagedVolume, str]], ctx: Context) -> int:
    """Let the rows that still name the arrays of which copies were made name the copies; how many did."""
    if not staged:
        return 0
    kept: list[StagedVolume] = []

    def put(draft: Draft, name: str) -> None:
        ids = [volume.obs_id for volume, _ in staged]
        rows = read_table(draft.storage, name, draft.state.table(name), None, [None, ids])
        named = {row[OBS_ID]: row["volume"] for row in rows.select([OBS_ID, "volume"]).to_pylist()}
        gone = revoked_tokens(draft.storage, draft.state)
        kept[:] = [v for v, old in staged if named.get(v.obs_id) == old and v.token not in gone]
        if not kept:
            return
        new = obs_rows(kept)
        places = {obs_id: place for place, obs_id in enumerate(new.column(OBS_ID).to_pylist())}
        theirs = rows.filter(pa.array([obs_id in places for obs_id in rows.column(OBS_ID).to_pylist()]))
        order = pa.array([places[obs_id] for obs_id in theirs.column(OBS_ID).to_pylist()], pa.int64())
        for column in _OF_THE_ARRAY:
            place = theirs.schema.get_field_index(column)
            theirs = theirs.set_column(place, column, new.column(column).take(order))
        draft.put(name, theirs)

    obs_table(collection_uri, ctx).commit("lay out anew", put)
    named = {volume.token for volume in kept}
    discard_staged(collection_uri, [volume for volume, _ in staged if volume.token not in named], ctx)
    return len(kept)
