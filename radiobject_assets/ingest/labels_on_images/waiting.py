"""Labels that came before their image: what each waits for, and whether the store has it now.

Labels name the SeriesInstanceUID of their image (SEG, RTSTRUCT), or lie on any image of their subject that
has their frame of reference or their grid (those that name none, and images of labels). While there is none
they are quarantined, and they wait: as soon as an image volume appears that they could lie on, taking in
their files once more is worth it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from radiobject_assets.imaging.dicom.split_uids import members_of
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.ingest.plan import IngestPlan, PlannedSeries
from radiobject_assets.ingest.report import SeriesOutcome
from radiobject_assets.ingest.stored.joined import rows_of_series
from radiobject_assets.store import SUBJECT, TileDBContext, is_store, list_collections, obs_table

if TYPE_CHECKING:
    import pandas as pd  # loaded where tables are made: the command line does without

_WAITS: Final = frozenset({Reason.REFERENCE_MISSING, Reason.REFERENCE_QUARANTINED, Reason.LABELS_OFF_GRID})


@dataclass(frozen=True)
class WaitingLabels:
    """One label series that is held back for want of its image."""

    series_token: str
    """Names the series where identifiers must not be shown."""
    collection: str
    image_collection: str | None
    """Where its image has to be; None: anywhere."""
    subject_id: str
    image_series_uids: tuple[str, ...]
    """SeriesInstanceUIDs of the images that it names; none: any image of the subject may be it."""
    files: tuple[str, ...]


def waiting_labels(
    plan: IngestPlan, outcomes: Sequence[SeriesOutcome], collections: Collection[str] | None = None
) -> tuple[WaitingLabels, ...]:
    """The label series of a plan that would be taken in if their image were there.

    Parameters
    ----------
    outcomes
        Of `run_ingest(plan)`, one for each planned series.
    collections
        Only labels of these; None: of all.
    """
    return tuple(
        WaitingLabels(
            series_token=planned.series_token,
            collection=planned.collection,
            image_collection=planned.settings.labels_of if planned.settings else None,
            subject_id=planned.subject_id,
            image_series_uids=planned.series.references,
            files=files_of(planned),
        )
        for planned, outcome in zip(plan.planned, outcomes, strict=True)
        if planned.collection is not None
        and (collections is None or planned.collection in collections)
        and planned.is_labels
        and outcome.status == "quarantined"
        and outcome.reason in _WAITS
    )


def files_of(planned: PlannedSeries) -> tuple[str, ...]:
    """Absolute paths of the files that a series is made of, also where they are counted with another one."""
    paths = [*planned.series.files, *(instance.path for instance in planned.series.instances)]
    return tuple(dict.fromkeys(os.path.abspath(path) for path in paths))


def images_there(
    store_uri: str, waiting: Sequence[WaitingLabels], ctx: TileDBContext
) -> Mapping[WaitingLabels, frozenset[str]]:
    """Image volumes in the store that labels could lie on; labels for which there is none are left out.

    Returns
    -------
    Tokens of the volumes' arrays: an image that is written anew is another chance.
    """
    if not waiting or not is_store(store_uri, ctx):
        return {}
    uids = sorted({uid for labels in waiting for uid in labels.image_series_uids})
    subjects = sorted({labels.subject_id for labels in waiting if not labels.image_series_uids})
    found: dict[WaitingLabels, set[str]] = {}
    for entry in list_collections(store_uri, ctx):
        table = obs_table(entry.uri, ctx)
        named = rows_of_series(table, uids, ["kind", "volume"])
        named = [row for row in named if row["kind"] == "image"]
        owned = _images(table.read(["series_uid", "kind", "volume"], keys=[subjects]))
        for labels in waiting:
            if labels.image_collection not in (None, entry.name):
                continue
            wanted = set(labels.image_series_uids)
            tokens = (
                {row["volume"] for row in named if not wanted.isdisjoint(members_of(row))}
                if wanted
                else {row["volume"] for row in owned if row[SUBJECT] == labels.subject_id}
            )
            if tokens:
                found.setdefault(labels, set()).update(tokens)
    return {labels: frozenset(tokens) for labels, tokens in found.items()}


def _images(rows: Any) -> list[dict[str, Any]]:
    return [row for row in rows.to_pylist() if row["kind"] == "image"]


def chance(found: Mapping[WaitingLabels, frozenset[str]]) -> str:
    """A digest of what is there for some labels: trying twice with the same images gives the same."""
    lines = sorted(f"{labels.series_token} {' '.join(sorted(tokens))}" for labels, tokens in found.items())
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def waiting_rows(waiting: Sequence[WaitingLabels]) -> pd.DataFrame:
    """The table of labels that wait, one row for each, without their paths."""
    import pandas as pd

    return pd.DataFrame(
        [
            {**asdict(labels), "image_series_uids": list(labels.image_series_uids), "files": []}
            for labels in waiting
        ]
    )


def labels_of_rows(rows: pd.DataFrame) -> tuple[WaitingLabels, ...]:
    """The labels of a table that `waiting_rows` made."""
    return tuple(
        WaitingLabels(
            **{
                **{str(name): value for name, value in row.items()},
                "image_series_uids": tuple(row["image_series_uids"]),
                "files": tuple(row["files"]),
            }
        )
        for row in rows.to_dict("records")
    )
