"""Snapshots that name lost arrays, and the note of the snapshot that training pins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from radiobject_assets.diagnostics.findings import Finding
from radiobject_assets.diagnostics.integrity_rules import arrays_match_rows
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.diagnostics.snapshot_rules import SET_ASIDE, snapshots_are_whole
from radiobject_assets.doctor.examined import Beside, Examined
from radiobject_assets.doctor.mend_journal import Mended
from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    MissingError,
    RadiObject,
    Storage,
    list_snapshots,
    relink_volumes,
    snapshots_without_arrays,
)

ASIDE = "doctor/aside"


def mend_snapshots(of: Examined, findings: Sequence[Finding]) -> Iterator[Mended]:
    """Let snapshots name arrays of the present with the same voxels, where theirs are lost or damaged."""
    for finding in findings:
        note = Mended.begin(of.notes, finding)
        name = finding.about.removeprefix("snapshot ")
        try:
            left = _relink(of, name)
        except StorageError:
            left = 1
        if left or _is_lost(of, name):
            told = "volumes of it are not in the present state with the same voxels"
            yield note.to(of.notes, "left", told)
        else:
            yield note.to(of.notes, "mended", "it names arrays with the same voxels")


def _is_lost(of: Examined, name: str) -> bool:
    found = snapshots_are_whole(of.store_uri, (), of.ctx).findings
    return any(one.about == f"snapshot {name}" for one in found)


def _relink(of: Examined, name: str) -> int:
    """How many of its damaged arrays have no like in the present."""
    then = read_inventory(of.store_uri, snapshot=name, ctx=of.ctx)
    now = read_inventory(of.store_uri, ctx=of.ctx)
    only_then = then[~then["volume"].isin(set(now["volume"]))]
    lost = set[str]().union(*snapshots_without_arrays(of.store_uri, of.ctx).get(name, {}).values())
    store = RadiObject(of.store_uri, ctx=of.ctx, timestamp=name)
    left = 0
    for collection, group in only_then.groupby("collection", sort=True):
        sound = group[~group["volume"].isin(lost)]
        damaged = set(group.loc[group["volume"].isin(lost), "obs_id"].astype(str))
        damaged |= {one.obs_id for one in arrays_match_rows(store.collection(str(collection)), sound, of.ctx)}
        mine = now[now["collection"] == collection]
        here = {
            (str(row.obs_id), str(row.voxel_digest)): str(row.volume) for row in mine.itertuples(index=False)
        }
        moved = {}
        for row in group.itertuples(index=False):
            if str(row.obs_id) not in damaged:
                continue
            token = here.get((str(row.obs_id), str(row.voxel_digest)))
            if token is None:
                left += 1
            else:
                moved[str(row.volume)] = token
        relink_volumes(of.store_uri, str(collection), moved, of.ctx)
    return left


def mend_pin(of: Examined, findings: Sequence[Finding]) -> Iterator[Mended]:
    """Note the snapshot that has the content which was noted; without one the note is set aside."""
    for finding in findings:
        if of.beside is None or of.pin is None:
            continue
        note = Mended.begin(of.notes, finding)
        tables = of.beside.dataset.tables(of.beside.storage)
        same = [
            one
            for one in list_snapshots(of.store_uri, of.ctx)
            if one.digest == of.pin.get("digest") and not one.name.startswith(SET_ASIDE)
        ]
        if same:
            content = {**of.pin, "name": same[-1].name, "timestamp_ms": same[-1].timestamp_ms}
            tables.put_text(tables.snapshot, json.dumps(content, indent=2))
            yield note.to(of.notes, "mended", "the snapshot of the same content is noted")
        else:
            set_table_aside(of.beside, tables.snapshot)
            yield note.to(of.notes, "mended", "the note is set aside; materialize dataset")


def set_table_aside(beside: Beside, name: str) -> None:
    """Move a table where nobody reads it; it can be looked at there."""
    move_aside(beside.tables, name)


def move_aside(storage: Storage, name: str) -> None:
    """Move a file of a storage below `doctor/aside`."""
    try:
        content = storage.read(name)
    except MissingError:
        return
    storage.write(f"{ASIDE}/{name}", content)
    storage.remove(name)
