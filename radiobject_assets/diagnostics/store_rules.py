"""Rules over a whole store that read rows and lists of files, and no voxels."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding, Report, shown_token
from radiobject_assets.diagnostics.integrity_rules import (
    about_volume,
    geometry_is_sound,
    labels_on_image_grid,
)
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.store import (
    AFFINE_COLUMNS,
    TileDBContext,
    arrays_without_rows,
    rows_without_arrays,
    verify_tables,
)


def tables_are_whole(store_uri: str, ctx: TileDBContext | None = None) -> Report:
    """The files of the log and of all tables are those that were written: every row has a digest so.

    A row is changed through the store's API, which makes a new state; behind its back it can't be changed
    without being found here.
    """
    problems = [problem for problem in verify_tables(store_uri, ctx) if problem.code != "copy"]
    findings = tuple(
        Finding(kinds.TABLE_DAMAGED, f"file {problem.token}", f"{problem.token}: {problem.detail}")
        for problem in problems
    )
    return Report(1, "stores", findings)


def rows_have_arrays(store_uri: str, rows: pd.DataFrame, ctx: TileDBContext | None = None) -> Report:
    """Every row names an array that is there. Names are compared, and nothing is opened."""
    lost = set[str]().union(*rows_without_arrays(store_uri, ctx).values())
    mine = rows[rows["volume"].isin(lost)]
    findings = tuple(about_volume(kinds.ARRAY_MISSING, row) for row in mine.itertuples(index=False))
    return Report(len(rows), "volumes", findings)


def rows_and_arrays(
    store_uri: str, rows: pd.DataFrame, ctx: TileDBContext | None = None, *, grace_s: float = 3600.0
) -> Report:
    """Rows and arrays are one to one, affines are sound, labels lie on their image. No voxel is read.

    Parameters
    ----------
    grace_s
        Arrays without a row that are younger (seconds) may be on their way, and are left alone.
    """
    findings = list(rows_have_arrays(store_uri, rows, ctx).findings)
    orphans = arrays_without_rows(store_uri, ctx, grace_s)
    for name, tokens in orphans.items():
        if tokens:
            findings.append(
                Finding(
                    kinds.ORPHAN_ARRAY,
                    f"arrays of {name}",
                    f"{len(tokens)}, for instance {shown_token(sorted(tokens)[0])}",
                    collection=name,
                )
            )
    findings += geometry_is_sound(rows)
    labels = rows[rows["labels_of"].notna() & (rows["labels_of"] != "")]
    if len(labels):
        findings += labels_on_image_grid(labels, rows)
    return Report(len(rows), "volumes", tuple(findings), {"orphan_arrays": sum(map(len, orphans.values()))})


def images_once(rows: pd.DataFrame) -> Report:
    """No image is in the store under two ids, and no series UID under two subjects."""
    images = rows[rows["kind"] != "labels"].copy()
    images[list(AFFINE_COLUMNS)] = images[list(AFFINE_COLUMNS)].round(3)
    findings = []
    same = ["voxel_digest", *AFFINE_COLUMNS]
    twice = images[images.duplicated(same, keep=False)]  # few: a group for each image takes minutes
    for _, group in twice.groupby(same, sort=True):
        evidence = f"{len(group)} volumes with equal voxels and place"
        findings.append(about_volume(kinds.DUPLICATE_VOXELS, group.iloc[0], evidence))
    known = rows[rows["series_uid"].notna() & (rows["series_uid"] != "")]
    subjects = known.groupby("series_uid")["obs_subject_id"].nunique()
    for uid in subjects.index[subjects > 1]:
        group = known[known["series_uid"] == uid]
        findings.append(
            about_volume(
                kinds.DUPLICATE_SERIES, group.iloc[0], f"{len(group)} volumes of {subjects[uid]} subjects"
            )
        )
    return Report(len(rows), "volumes", tuple(findings))


def snapshot_is_current(
    store_uri: str,
    rows: pd.DataFrame,
    snapshot: str | None,
    snapshot_rows: pd.DataFrame,
    due_before: datetime,
    *,
    ctx: TileDBContext | None = None,
) -> Report:
    """Every volume is in the newest snapshot, unless it came so lately that none could be made since.

    Parameters
    ----------
    rows, snapshot_rows
        Inventory rows of the present and of the snapshot.
    snapshot
        Its name; None: there is none.
    due_before
        What was written before that should be in one; with its time zone.
    """
    new = set(rows["volume"]) - (set() if snapshot is None else set(snapshot_rows["volume"]))
    findings: tuple[Finding, ...] = ()
    if new:
        came = read_inventory(store_uri, columns=["written_at"], ctx=ctx)
        written = pd.to_datetime(came.loc[came["volume"].isin(new), "written_at"], utc=True)
        late = written[written < due_before]
        if len(late):
            evidence = f"{len(late)} of {len(rows)}, the first since {late.min():%Y-%m-%d %H:%M} UTC"
            findings = (Finding(kinds.SNAPSHOT_BEHIND, snapshot or "no snapshot", evidence),)
    return Report(len(rows), "volumes", findings, {"not_in_a_snapshot": len(new)})


def provenance_is_there(rows: pd.DataFrame) -> Report:
    """Every volume that came with an arrival says what it was made from."""
    came = rows[rows["arrival"].notna() & (rows["arrival"] != "")]
    lacking = came[came["source_digest"].isna() | (came["source_digest"] == "")]
    findings = tuple(
        Finding(
            kinds.NO_PROVENANCE,
            f"volumes of {name}",
            f"{len(group)} of {int((came['collection'] == name).sum())}",
            collection=str(name),
        )
        for name, group in lacking.groupby("collection", sort=True)
    )
    return Report(len(came), "volumes", findings)
