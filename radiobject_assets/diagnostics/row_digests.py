"""Digests of rows: what an ingest wrote of a volume, so that a row that is changed later is found.

Voxels have a digest in their row; nothing had one over the row itself, and an affine that is moved, a slope
that is doubled or a UID that is overwritten contradicts nothing. The digests are kept with the outcomes of
the arrival, outside of the store, so that whoever changes the store, through its own API or behind its back,
does not change them. Columns that users add have no part in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from radiobject_assets.store import AFFINE_COLUMNS, SIZE_COLUMNS

ROW_DIGEST: Final = "row_digest"
"""Column of the outcomes: the token of the array, and a digest for each of `PARTS`, joined by `-`."""

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "place and scale": (
        *AFFINE_COLUMNS, "spacing_x_mm", "spacing_y_mm", "spacing_z_mm", "slope", "intercept", "ndim",
        *SIZE_COLUMNS,
    ),
    "provenance": (
        "obs_subject_id", "obs_id", "arrival", "kind", "modality", "series_uid", "study_uid", "component",
        "source_digest", "labels_of_collection", "labels_of",
    ),
    "voxels": ("dtype", "voxel_digest", "index_digest"),
}  # fmt: skip


def row_digest(row: Mapping[str, Any]) -> str:
    """The digests of one row of the inventory."""
    digests = (_digest([_text(row.get(name)) for name in names]) for names in PARTS.values())
    return "-".join((_text(row.get("volume")), *digests))


def changed_parts(row: Mapping[str, Any], digest: str) -> tuple[str, ...]:
    """Which parts of a row are not those that were digested.

    None of a volume that was written anew since, as a run that is under way does: what its array says of
    itself is compared with the row, and its run keeps a new digest at its end.
    """
    token, *then_digests = digest.split("-")
    now_token, *now_digests = row_digest(row).split("-")
    if token != now_token:
        return ()
    pairs = zip(PARTS, now_digests, then_digests, strict=True)
    return tuple(part for part, now, then in pairs if now != then)


def with_row_digests(
    outcomes: pd.DataFrame, rows: pd.DataFrame, earlier: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Outcomes of an arrival with the digests of the rows that it wrote.

    Parameters
    ----------
    outcomes
        Columns `obs_id` and `status`.
    rows
        The arrival's rows of the inventory, as they are now.
    earlier
        The outcomes that were kept before: a row that this run did not write keeps its digest, so that one
        that was changed meanwhile is not taken for right.
    """
    now = {str(row["obs_id"]): row for row in rows.to_dict("records")}
    known: dict[str, str] = {}
    if earlier is not None and ROW_DIGEST in earlier:
        kept = earlier.loc[earlier[ROW_DIGEST].notna(), ["obs_id", ROW_DIGEST]]
        known = dict(zip(kept["obs_id"].astype(str), kept[ROW_DIGEST].astype(str), strict=True))
    digests: list[str | None] = []
    for obs_id, status in zip(outcomes["obs_id"], outcomes["status"], strict=True):
        row = now.get(str(obs_id))
        if row is None:
            digests.append(None)
        elif status in ("written", "updated") or str(obs_id) not in known:
            digests.append(row_digest({str(name): value for name, value in row.items()}))
        else:
            digests.append(known[str(obs_id)])
    return outcomes.assign(**{ROW_DIGEST: pd.Series(digests, index=outcomes.index, dtype="str")})


def _digest(values: list[str]) -> str:
    return hashlib.blake2b("\0".join(values).encode("utf-8"), digest_size=8).hexdigest()


def _text(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return ""
    return repr(float(value)) if isinstance(value, (int, float)) else str(value)
