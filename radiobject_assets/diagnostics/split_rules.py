"""Splits that leak, as findings: what `training.find_leakage` finds, counted by kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import pandas as pd

from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding, Kind, Report
from radiobject_assets.store import ASSIGNED_SPLIT
from radiobject_assets.training.split_leakage import find_leakage

_KINDS: Final[Mapping[str, Kind]] = {
    "subject_in_two_splits": kinds.SUBJECT_TWICE,
    "unassigned_subject": kinds.UNASSIGNED,
    "shared_group": kinds.GROUP_DIVIDED,
}
"""By the kinds of `find_leakage`; all others say that two ids are one person."""


def leakage_findings(found: pd.DataFrame) -> tuple[Finding, ...]:
    """A finding for each kind of leakage, with how often it was found. `found` is that of `find_leakage`."""
    return tuple(
        Finding(
            _KINDS.get(str(kind), kinds.ONE_PERSON_TWICE),
            "subjects",
            f"{n} times {str(kind).replace('_', ' ')}",
        )
        for kind, n in found["kind"].value_counts().items()
    )


def splits_do_not_leak(
    subjects: pd.DataFrame, rows: pd.DataFrame, *, split: str = ASSIGNED_SPLIT, unassigned: bool = False
) -> Report:
    """Nobody, and nothing of anybody, is in two splits.

    Parameters
    ----------
    subjects
        `obs_subject_id`, the column `split`, and perhaps `groups` (a JSON list).
    rows
        Inventory rows of what was divided.
    unassigned
        Whether everybody of `rows` was to be divided.
    """
    if split not in subjects:
        return Report(0, "subjects")
    divided = subjects[subjects[split].notna() & (subjects[split] != "")]
    splits = divided[["obs_subject_id"]].assign(split=divided[split].astype("str"))
    groups = (
        dict(zip(divided["obs_subject_id"], map(json.loads, divided["groups"]), strict=True))
        if "groups" in divided
        else None
    )
    found = find_leakage(splits, rows, groups)
    if not unassigned:
        found = found[found["kind"] != "unassigned_subject"]
    return Report(len(divided), "subjects", leakage_findings(found))
