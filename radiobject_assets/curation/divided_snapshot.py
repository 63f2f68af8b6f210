"""The subjects of a snapshot divided into splits, and the two places where that is kept.

The table beside the store has everybody who was ever divided. It may be lost with its folder; so the column
`assigned_split` of obs_meta has whom training uses: it goes where the volumes go, and whoever is erased is
gone from it. Reading it back moves nobody; recomputing could not promise that for small cohorts.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import pandas as pd

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.ingest.dataset_release import release_of
from radiobject_assets.store import (
    ASSIGNED_DIVISION,
    ASSIGNED_SPLIT,
    RadiObject,
    TileDBContext,
    update_subjects,
    whole_state,
)
from radiobject_assets.training.split_assignment import Division, divide_subjects, subject_token
from radiobject_assets.training.split_by_hand import read_division_by_hand
from radiobject_assets.training.split_facts import PAIRING_COLUMNS, subject_facts, trainable_subjects


@dataclass(frozen=True)
class DividedSnapshot:
    """A snapshot's subjects, divided."""

    division: Division
    kept: pd.DataFrame
    """The division with everybody who was divided before; `is_current` tells them apart. `snapshot` and
    `distrusted` (a JSON list of arrivals) say what was divided."""
    left_out: int
    """Subjects with volumes of arrivals that are not to be trusted."""

    @property
    def firm(self) -> dict[str, str]:
        """Splits of the subjects that training uses, by id."""
        rows = self.division.table[self.division.table["is_firm"]]
        return dict(zip(rows["obs_subject_id"], rows["split"], strict=True))


def divide_snapshot(
    settings: DatasetSettings,
    snapshot: str,
    *,
    known: pd.DataFrame | None,
    distrusted_arrivals: Collection[str] = (),
    ctx: TileDBContext | None = None,
) -> DividedSnapshot:
    """Divide the subjects of a snapshot as dataset.yaml says, and note it in the store's obs_meta.

    Parameters
    ----------
    known
        What `DividedSnapshot.kept` was the last time; None where it is lost or nobody was divided yet.
    distrusted_arrivals
        Arrivals whose subjects are left out.

    Raises
    ------
    ConfigurationError
        A column of `split` is in no table, the table by hand has a mistake, or subjects that belong together
        are in two splits.
    StorageError
        The store can't be read or written.
    """
    uri, config = settings.store_uri, settings.split
    columns = [*PAIRING_COLUMNS, *config.group_by, *filter(None, [config.stratify_by])]
    volumes = read_inventory(uri, snapshot=snapshot, columns=columns, ctx=ctx)
    left_out = set(volumes.loc[volumes["arrival"].isin(distrusted_arrivals), "obs_subject_id"])
    volumes = volumes[~volumes["obs_subject_id"].isin(left_out)]
    subjects = RadiObject(uri, ctx=ctx, timestamp=snapshot).obs_meta.read().reset_index()
    trainable = trainable_subjects(volumes, settings.patches)
    previous = (
        _in_store(uri, config.division, ctx) if known is None else _of_this_division(known, config.division)
    )
    division = divide_subjects(
        subject_facts(volumes["obs_subject_id"], config, subjects, volumes, trainable),
        config,
        previous=previous,
        by_hand=_by_hand(settings, set(subjects["obs_subject_id"])),
        token=partial(subject_token, key=bytes.fromhex(whole_state(uri, ctx=ctx).root_id)),
    )
    rows = division.table.assign(is_current=True)
    if previous is not None:
        # who leaves and comes back must not change sides
        gone = previous[~previous["obs_subject_id"].isin(rows["obs_subject_id"])]
        rows = pd.concat([rows, gone.assign(is_current=False)], ignore_index=True)
    rows = rows.assign(
        division=config.division, snapshot=snapshot, distrusted=json.dumps(sorted(distrusted_arrivals))
    ).sort_values("obs_subject_id", ignore_index=True)
    _note_in_store(division.table, config.division, uri, ctx)
    return DividedSnapshot(division, rows, len(left_out))


def _of_this_division(known: pd.DataFrame, division: int) -> pd.DataFrame | None:
    number = int(known["division"].max()) if "division" in known and len(known) else 1
    return known if number == division else None


def _in_store(uri: str, division: int, ctx: TileDBContext | None) -> pd.DataFrame | None:
    subjects = RadiObject(uri, ctx=ctx).obs_meta.read().reset_index()
    if ASSIGNED_SPLIT not in subjects:
        return None
    numbers = subjects[ASSIGNED_DIVISION].fillna(1) if ASSIGNED_DIVISION in subjects else 1
    there = subjects[subjects[ASSIGNED_SPLIT].notna() & (numbers == division)]
    return there[["obs_subject_id", ASSIGNED_SPLIT]].rename(columns={ASSIGNED_SPLIT: "split"})


def _note_in_store(table: pd.DataFrame, division: int, uri: str, ctx: TileDBContext | None) -> None:
    if not table["is_firm"].any():
        return
    rows = table[["obs_subject_id"]].assign(**{ASSIGNED_SPLIT: table["split"].where(table["is_firm"], None)})
    if division > 1:
        rows = rows.assign(**{ASSIGNED_DIVISION: division})
    update_subjects(uri, rows, ctx=ctx)


def _by_hand(settings: DatasetSettings, subjects: set[str]) -> dict[str, str]:
    """The table of `split.by_hand`; where subjects are pseudonyms it may have either name of them."""
    if settings.split.by_hand is None:
        return {}
    found = read_division_by_hand(settings.folder / settings.split.by_hand, settings.split.shares)
    if settings.subjects.key != "pseudonym":
        return found
    release = release_of(settings)
    return {name if name in subjects else release.subject(name): split for name, split in found.items()}
