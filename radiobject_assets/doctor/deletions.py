"""What is done only where a finding is named by KIND:ID: it loses something that nothing can make again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from radiobject_assets.diagnostics import damage_kinds, kinds
from radiobject_assets.diagnostics.findings import Finding
from radiobject_assets.doctor.examined import TAKEN_IN_ANEW, Examined
from radiobject_assets.doctor.mend_journal import Mended
from radiobject_assets.store import (
    AFFINE_COLUMNS,
    ASSIGNED_SPLIT,
    RadiObject,
    delete_snapshot,
    update_obs,
    update_subjects,
)

DELETABLE = (
    kinds.DUPLICATE_VOXELS,
    kinds.DUPLICATE_SERIES,
    kinds.SUBJECT_TWICE,
    damage_kinds.IDENTIFIERS,
    damage_kinds.SNAPSHOT_DAMAGED,
)
"""Kinds that are mended by name alone. A volume of any other kind can be deleted by name too."""


def delete_by_name(of: Examined, finding: Finding, every: Sequence[Finding], *, voxels_read: bool) -> Mended:
    """Do what the finding's kind means by deleting, and note it.

    Of copies none is deleted while the one that would stay may be damaged.

    Parameters
    ----------
    every
        All that was found.
    voxels_read
        Whether that is of the voxels, too.

    Raises
    ------
    StorageError
        The store can't be written.
    """
    note = Mended.begin(of.notes, finding)
    if finding.kind in (kinds.DUPLICATE_VOXELS, kinds.DUPLICATE_SERIES):
        copies = {(finding.collection, finding.obs_id), *_other_copies(of, finding)}
        if not voxels_read:
            return note.to(of.notes, "left", "the copies were not read: call doctor without --quick")
        unsound = {
            one.about
            for one in every
            if one.kind.code in TAKEN_IN_ANEW and (one.collection, one.obs_id) in copies
        }
        if unsound:
            told = f"{', '.join(sorted(unsound))} is unsound: mend that first with --fix, then delete"
            return note.to(of.notes, "left", told)
    told = _delete(of, finding)
    return note.to(of.notes, "mended" if told else "left", told or "nothing can be deleted to mend this")


def _delete(of: Examined, finding: Finding) -> str:
    if finding.kind == damage_kinds.SNAPSHOT_DAMAGED:
        delete_snapshot(of.store_uri, finding.about.removeprefix("snapshot "), of.ctx)
        return "the snapshot is deleted; the present state stays"
    if finding.kind == damage_kinds.IDENTIFIERS:
        return _identifiers(of, finding)
    if finding.kind == kinds.DUPLICATE_VOXELS:
        return _rows(of, _other_copies(of, finding))
    if finding.kind == kinds.SUBJECT_TWICE:
        return _divided_twice(of)
    if finding.about.startswith("volume ") and finding.obs_id:
        return _rows(of, [(finding.collection, finding.obs_id)])
    return ""


def _rows(of: Examined, volumes: list[tuple[str, str]]) -> str:
    store = RadiObject(of.store_uri, ctx=of.ctx)
    count = 0
    for name in sorted({name for name, _ in volumes}):
        there = set(store.collection(name).obs_ids)
        ids = sorted({obs_id for one, obs_id in volumes if one == name} & there)
        if ids:
            store.collection(name).delete(ids)
            count += len(ids)
    return f"{count} rows deleted; snapshots that have them keep them"


def _other_copies(of: Examined, finding: Finding) -> list[tuple[str, str]]:
    """Volumes with the voxels and the place of the finding's, or, where it is of a series, with its UID."""
    rows, same = of.rows, ["series_uid"]
    if finding.kind == kinds.DUPLICATE_VOXELS:
        rows, same = rows[rows["kind"] != "labels"].copy(), ["voxel_digest", *AFFINE_COLUMNS]
        rows[list(AFFINE_COLUMNS)] = rows[list(AFFINE_COLUMNS)].round(3)
    mine = rows[(rows["collection"] == finding.collection) & (rows["obs_id"] == finding.obs_id)]
    found = rows.merge(mine[same].drop_duplicates())
    pairs = zip(found["collection"].astype(str), found["obs_id"].astype(str), strict=True)
    return [pair for pair in pairs if pair != (finding.collection, finding.obs_id)]


def _identifiers(of: Examined, finding: Finding) -> str:
    column = finding.where
    if finding.about.startswith("picture ") and of.beside is not None:
        (of.beside.work / finding.where).unlink(missing_ok=True)
        return "the file is removed"
    if not finding.about.startswith("column "):
        return ""
    if finding.collection == "subjects":
        rows = of.subjects[["obs_subject_id"]].assign(**{column: None})
        update_subjects(of.store_uri, rows, ctx=of.ctx)
        return "the column has no values any more"
    collection = RadiObject(of.store_uri, ctx=of.ctx).collection(finding.collection)
    obs = collection.to_obs().reset_index()
    filled = obs[obs[column].notna()]
    changes: dict[tuple[str, str], dict[str, Any]] = {
        (str(subject), str(obs_id)): {column: None}
        for subject, obs_id in zip(filled["obs_subject_id"], filled["obs_id"], strict=True)
    }
    update_obs(collection.uri, changes, of.ctx)
    return "the column has no values any more"


def _divided_twice(of: Examined) -> str:
    """Of a subject that is in two splits the one stays that the store has assigned."""
    if of.beside is None or ASSIGNED_SPLIT not in of.subjects:
        return ""
    tables = of.beside.dataset.tables(of.beside.storage)
    assigned = dict(zip(of.subjects["obs_subject_id"], of.subjects[ASSIGNED_SPLIT], strict=True))

    def once(table: pd.DataFrame | None) -> pd.DataFrame:
        rows = pd.DataFrame() if table is None else table
        twice = rows["obs_subject_id"].duplicated(keep=False) & rows["is_current"].astype(bool)
        known = rows["obs_subject_id"].map(assigned)
        wrong = twice & known.notna() & (rows["split"] != known)
        return rows[~wrong].drop_duplicates(["obs_subject_id", "split"], ignore_index=True)

    tables.change_frame(tables.splits, once)
    return "the split that the store has assigned stays"
