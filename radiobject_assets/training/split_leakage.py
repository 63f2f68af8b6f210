"""Leakage: what links a subject of one split to a subject of another.

The same person may be in the archive under two ids, and the same images may have been sent twice. Whatever
two splits share makes the test score a memory test.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from radiobject_assets.errors import SchemaError

SHARED_COLUMNS = {"series_uid": "shared_series", "study_uid": "shared_study", "voxel_digest": "shared_voxels"}
"""Columns of obs whose value must not occur in two splits, with the kind of the finding."""

LEAKAGE_COLUMNS = ("kind", "value", "splits", "subjects")


def find_leakage(
    splits: pd.DataFrame, obs: pd.DataFrame, groups: Mapping[str, Collection[str]] | None = None
) -> pd.DataFrame:
    """Find what links subjects of different splits.

    Parameters
    ----------
    splits
        Columns `obs_subject_id` and `split`.
    obs
        The obs rows of all collections: `obs_subject_id` (column or index level) and any of `series_uid`,
        `study_uid`, `voxel_digest`, `kind`. Label volumes are not compared by their voxels: two empty masks
        of one shape are equal without being the same person's.
    groups
        By subject, the names of the groups (a family, a site) that it is in.

    Returns
    -------
    DataFrame, one row a finding, empty when there is none:
        `kind`: `subject_in_two_splits`, `shared_series`, `shared_study`, `shared_voxels`, `shared_group` or
        `unassigned_subject` (has volumes, is in no split); `value`: the subject id, UID, digest or group;
        `splits` and `subjects`: sorted tuples. Values and subjects may identify people: count them, don't log
        them.

    Raises
    ------
    SchemaError
        A table lacks a required column.
    """
    table = _with_columns(splits, "the split table", ("obs_subject_id", "split"))[["obs_subject_id", "split"]]
    rows = _with_columns(obs, "the obs table", ("obs_subject_id",))
    findings: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]] = [
        ("subject_in_two_splits", str(subject), names, (str(subject),))
        for subject, names in table.groupby("obs_subject_id", sort=True)["split"].agg(_sorted_set).items()
        if len(names) > 1
    ]
    unassigned = set(rows["obs_subject_id"]) - set(table["obs_subject_id"])
    findings += [("unassigned_subject", subject, (), (subject,)) for subject in sorted(unassigned)]
    joined = rows.merge(table.drop_duplicates(), on="obs_subject_id", how="inner")
    for column, kind in SHARED_COLUMNS.items():
        if column in joined:
            findings += _shared_values(joined, column, kind)
    if groups:
        named = [(subject, name) for subject, names in groups.items() for name in names]
        members = pd.DataFrame(named, columns=["obs_subject_id", "group"], dtype="str")
        findings += _shared_values(members.merge(table.drop_duplicates()), "group", "shared_group")
    return pd.DataFrame(findings, columns=list(LEAKAGE_COLUMNS))


def _shared_values(
    joined: pd.DataFrame, column: str, kind: str
) -> list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    known = joined[joined[column].notna() & (joined[column] != "")]
    if column == "voxel_digest" and "kind" in known:
        known = known[known["kind"] != "labels"]
    known = known[["obs_subject_id", "split", column]].drop_duplicates()
    # one subject in two splits is a finding of its own kind, so a shared value needs two subjects as well
    counts = known.groupby(column)[["split", "obs_subject_id"]].nunique()
    values = counts.index[(counts["split"] > 1) & (counts["obs_subject_id"] > 1)]
    groups = known[known[column].isin(values)].groupby(column, sort=True)
    return [
        (kind, str(value), _sorted_set(group["split"]), _sorted_set(group["obs_subject_id"]))
        for value, group in groups
    ]


def _sorted_set(values: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


def _with_columns(table: pd.DataFrame, what: str, columns: tuple[str, ...]) -> pd.DataFrame:
    if any(name in table.index.names for name in columns):
        table = table.reset_index()
    missing = [name for name in columns if name not in table]
    if missing:
        raise SchemaError(
            f"{what} lacks {', '.join(missing)}; it has {', '.join(map(str, table.columns)) or 'nothing'}"
        )
    return table
