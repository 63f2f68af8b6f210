"""Volumes that were joined of several series: found by any of their UIDs, and their parts withdrawn.

Series of one scan come together, one by one, or in several arrivals. A part that comes first is a volume of
its own; once the whole is there, it would be a second copy of the same images. Earlier snapshots keep it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from radiobject_assets.imaging.dicom.split_uids import MEMBERS, members_of
from radiobject_assets.ingest.plan import PlannedSeries
from radiobject_assets.ingest.stored.refresh import RowChange, write_changes
from radiobject_assets.store import OBS_ID, SUBJECT, Table, TileDBContext, list_collections, obs_table


def rows_of_series(
    table: Table, uids: Collection[str], columns: Sequence[str], *, column: str = "series_uid"
) -> list[dict[str, Any]]:
    """Rows of volumes with one of these UIDs in `column`, each once.

    Parameters
    ----------
    uids
        SeriesInstanceUIDs are also looked for among the series that a volume was joined of.
    columns
        To read beside the keys, `series_uid` and the joined UIDs.
    """
    if not uids:
        return []
    there = [MEMBERS] if MEMBERS in table.columns else []
    wanted = list(dict.fromkeys(("series_uid", *there, *columns)))
    rows: list[dict[str, Any]] = table.rows_where(column, uids, wanted).to_pylist()
    if not there or column != "series_uid":
        return rows
    # a list is no value that TileDB can look for; few rows have one
    joined = table.read([MEMBERS])
    joined = joined.filter(pc.is_valid(joined.column(MEMBERS))).to_pylist()
    among = [row for row in joined if not members_of(row).isdisjoint(uids)]
    known = {(row[SUBJECT], row[OBS_ID]) for row in rows}
    keys = {(row[SUBJECT], row[OBS_ID]) for row in among} - known
    if not keys:
        return rows
    more = table.read(wanted, keys=[sorted({s for s, _ in keys}), sorted({o for _, o in keys})]).to_pylist()
    return rows + [row for row in more if (row[SUBJECT], row[OBS_ID]) in keys]


def withdraw_parts(
    store_uri: str,
    collection: str,
    written: Sequence[PlannedSeries],
    placed: Collection[tuple[str, str]],
    ctx: TileDBContext,
) -> Mapping[tuple[str, str], int]:
    """Withdraw the volumes of a collection whose images are, as a part, in joined volumes that are there now.

    Labels that were drawn on a part are then those of the whole; they stay on the part's voxels until they
    are handed in again, as those of any series that has grown.

    Parameters
    ----------
    written
        Series that are in the collection now.
    placed
        Subjects and ids of all volumes that the plan has in the collection: they stay.

    Returns
    -------
    How many were withdrawn for each of the joined volumes, by subject and id; those without any left out.
    """
    wholes = [planned for planned in written if len(planned.series.series_uids) > 1]
    uids = {uid for planned in wholes for uid in planned.series.series_uids}
    if not uids:
        return {}
    entries = list_collections(store_uri, ctx)
    table = obs_table(next(e.uri for e in entries if e.name == collection), ctx)
    # a component of a part that the whole does not have came with other images
    components = {"", *(planned.series.component for planned in wholes)}
    gone: dict[tuple[str, str], tuple[str, str]] = {}
    for row in rows_of_series(table, sorted(uids), ["kind", "component"]):
        key = (row[SUBJECT], row[OBS_ID])
        if row["kind"] != "image" or key in placed or (row["component"] or "") not in components:
            continue
        for planned in wholes:
            if planned.subject_id == row[SUBJECT] and members_of(row) <= planned.series.series_uids:
                gone[key] = (planned.subject_id, planned.obs_id or "")
    if gone:
        wholes_of = {part: whole for (_, part), (_, whole) in gone.items()}
        for entry in entries:
            _follow(entry.uri, collection, wholes_of, ctx)
        table.delete(sorted(gone))
    return {whole: list(gone.values()).count(whole) for whole in gone.values()}


def _follow(labels_uri: str, collection: str, wholes_of: Mapping[str, str], ctx: TileDBContext) -> None:
    """Name the joined volumes as the images of labels that name a part of them."""
    table = obs_table(labels_uri, ctx)
    rows = table.rows_where("labels_of", wholes_of, ["labels_of", "labels_of_collection"]).to_pylist()
    changes = [
        RowChange(row[SUBJECT], row[OBS_ID], {"labels_of": wholes_of[row["labels_of"]]})
        for row in rows
        if row["labels_of_collection"] == collection
    ]
    write_changes(labels_uri, changes, ctx)
