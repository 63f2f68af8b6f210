"""Volumes taken out of the present state: never before a snapshot has them, and only as they were judged.

A row that was written anew since it was judged is another volume: it stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.diagnostics.snapshot_rules import SET_ASIDE
from radiobject_assets.store import RadiObject, TileDBContext, create_snapshot, list_snapshots

Judged = Mapping[tuple[str, str], str]
"""By collection and obs_id: the token of the array that was judged."""


def keep_in_snapshot(
    store_uri: str, volumes: Judged, ctx: TileDBContext | None = None
) -> tuple[str, dict[tuple[str, str], str]]:
    """Name of a snapshot for these volumes, made now or by an earlier call, and which of them it has.

    Raises
    ------
    StorageError
        The store can't be written.
    """
    text = "".join(sorted(volumes.values()))
    name = SET_ASIDE + hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
    if name not in {one.name for one in list_snapshots(store_uri, ctx)}:
        create_snapshot(store_uri, name, ctx)
    return name, _as_judged(store_uri, volumes, name, ctx)


def delete_as_judged(
    store_uri: str, volumes: Judged, ctx: TileDBContext | None = None
) -> dict[tuple[str, str], str]:
    """Delete the rows that still name the array that was judged; those that were deleted.

    Raises
    ------
    StorageError
        The store can't be written.
    """
    gone = _as_judged(store_uri, volumes, None, ctx)
    store = RadiObject(store_uri, ctx=ctx)
    for name in sorted({name for name, _ in gone}):
        store.collection(name).delete(sorted(obs_id for one, obs_id in gone if one == name))
    return gone


def _as_judged(
    store_uri: str, volumes: Judged, snapshot: str | None, ctx: TileDBContext | None
) -> dict[tuple[str, str], str]:
    if not volumes:
        return {}
    rows = read_inventory(
        store_uri,
        snapshot=snapshot,
        collections={name for name, _ in volumes},
        obs_ids={obs_id for _, obs_id in volumes},
        ctx=ctx,
    )
    there = zip(rows["collection"].astype(str), rows["obs_id"].astype(str), rows["volume"], strict=True)
    return {(name, one): str(token) for name, one, token in there if volumes.get((name, one)) == str(token)}
