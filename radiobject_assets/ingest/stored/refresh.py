"""Rows whose voxels are as they were, but not what is said of them: a changed sidecar, another allow-list.

The files of an image tell its voxels; its sidecars, the allow-list of dataset.yaml and this package's version
tell its attributes. Where only the latter changed, the row is written anew and the array stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from radiobject_assets.imaging import axes
from radiobject_assets.imaging.dicom import (
    mfsplit,
    real_world,
    reversed_rows,
    split_uids,
    tracer,
    vendor_rules,
)
from radiobject_assets.imaging.dicom.tags import ATTRIBUTES, ISSUER_COLUMN, OPTIONAL_ATTRIBUTES
from radiobject_assets.imaging.nifti import bids, sidecars
from radiobject_assets.imaging.series.evidence.agreement import BY_POINT
from radiobject_assets.ingest.plan import PlannedSeries
from radiobject_assets.store import WITHOUT_COLUMN, TileDBContext, update_obs

WITHDRAWABLE: Final = frozenset(
    {
        *ATTRIBUTES,
        *(column for column, _, _ in OPTIONAL_ATTRIBUTES.values()),
        *sidecars.COLUMN_OF.values(),
        *bids.COLUMNS.values(),
        "suffix",
        "datatype",
        *axes.COLUMNS,
        *(f"{name}{BY_POINT}" for name in ATTRIBUTES),
        *(f"{column}{BY_POINT}" for column, _, _ in OPTIONAL_ATTRIBUTES.values()),
        "b_values_s_per_mm2",
        "volume_interval_s",
        "b_vectors_ras",
        *mfsplit.COLUMNS,
        *split_uids.COLUMNS,
        reversed_rows.POLARITY_COLUMN,
        *vendor_rules.COLUMNS,
        "nifti_description",
        ISSUER_COLUMN,
        *tracer.COLUMNS,
        *real_world.COLUMNS,
    }
)
"""Columns that become empty when their source no longer gives a value; those of users are never touched."""


@dataclass(frozen=True)
class RowChange:
    """The columns of one stored row that say something else now."""

    subject_id: str
    obs_id: str
    values: Mapping[str, Any]
    """New values by column; None: there is no value any more."""


def row_change(
    planned: PlannedSeries, row: Mapping[str, Any], arrival: str, owner: str | None = None
) -> RowChange | None:
    """What a series says that its stored row does not, or the other way round; None if they agree.

    Parameters
    ----------
    row
        The stored row with all its columns.
    arrival
        Key of the arrival at hand. A copy of the series from another arrival may have fewer duplicates: their
        number is taken from the arrival that the row names.
    owner
        Key of the arrival that the volume belongs to now; None: that which the row names.
    """
    series = planned.series
    said: dict[str, Any] = {
        **series.attributes,
        "modality": series.modality,
        "study_uid": series.study_uid,
        "component": series.component,
    }
    owner = (row["arrival"] or "") if owner is None else owner
    if owner != (row["arrival"] or ""):
        said["arrival"] = owner
    if owner == arrival:
        said["n_instances"] = len(series.files)
    gone = {name for name in WITHDRAWABLE if row.get(name) is not None} - said.keys()
    values = {
        name: value
        for name, value in said.items()
        if name not in WITHOUT_COLUMN and not _same(value, row.get(name))
    }
    values |= dict.fromkeys(gone)
    return RowChange(planned.subject_id, planned.obs_id or "", values) if values else None


def _same(said: Any, stored: Any) -> bool:
    # a column that has both numbers and texts is read as text; an empty text of a core column may be absent
    return bool(said == stored) or str(said if said is not None else "") == str(
        stored if stored is not None else ""
    )


def write_changes(collection_uri: str, changes: Sequence[RowChange], ctx: TileDBContext) -> None:
    """Write rows anew in one commit: their changed columns, and all others as they are."""
    update_obs(collection_uri, {(change.subject_id, change.obs_id): change.values for change in changes}, ctx)
