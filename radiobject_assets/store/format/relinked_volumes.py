"""Snapshots that name a lost or damaged array get the one that was made in its place, of the same voxels."""

from __future__ import annotations

import os
from collections.abc import Mapping

from radiobject_assets.store.format.layout import Context, list_collections, store_log
from radiobject_assets.store.format.obs_table import obs_table
from radiobject_assets.store.log.relinking import DIGEST, OF_ARRAY, relink_rows
from radiobject_assets.store.names import COLLECTIONS, OBS
from radiobject_assets.store.storage.uris import last_part, normalise


def relink_volumes(
    uri: str | os.PathLike[str], collection: str, arrays: Mapping[str, str], ctx: Context = None
) -> int:
    """Let all states and snapshots name other arrays of a collection, where the voxels are the same.

    The digests of snapshots, which are over voxels and not over arrays, stay what they are. A row of other
    voxels is left alone. Returns how many files of rows were written anew.

    Parameters
    ----------
    arrays
        For the token of a lost array that of a volume which the collection has now.

    Raises
    ------
    StorageError
        There is no such collection, or a file of rows can't be read or written.
    """
    where = normalise(uri)
    entry = next((one for one in list_collections(where, ctx) if one.name == collection), None)
    if entry is None or not arrays:
        return 0
    rows = obs_table(entry.uri, ctx).read([*OF_ARRAY, DIGEST]).to_pylist()
    by_token = {row["volume"]: row for row in rows}
    moved = {lost: by_token[found] for lost, found in arrays.items() if found in by_token}
    table = f"{COLLECTIONS}/{last_part(entry.uri)}/{OBS}"
    return relink_rows(store_log(where, ctx), table, moved) if moved else 0
