"""Volumes of an arrival that dataset.yaml now places elsewhere: withdrawn from where they were.

A changed `match`, another order of the collections, another way of naming subjects or of dividing a series
gives a volume another place. There it is written like a new one; left alone, the old one would be a second
copy of the same image, under a name that nothing accounts for. Earlier snapshots keep it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from radiobject_assets.ingest.identity import token, volume_key
from radiobject_assets.ingest.plan import IngestPlan
from radiobject_assets.store import OBS_ID, SUBJECT, TileDBContext, list_collections, obs_table


@dataclass(frozen=True)
class Moved:
    """What became of an arrival's volumes that were in the store before."""

    withdrawn: int
    """Volumes whose series belongs elsewhere, or to no collection: their rows are gone."""
    in_doubt: int
    """Volumes that stay, though their series would be quarantined today."""


def withdraw_moved(
    plan: IngestPlan, store_uri: str, collections: Collection[str] | None, ctx: TileDBContext
) -> Moved:
    """Withdraw the volumes of a plan's arrival that are not where the plan has them.

    Volumes whose files are no longer in the arrival stay: nothing says that they are wrong. Those of a series
    that is (in part) quarantined now stay too, and are counted. Without an arrival
    (the command line) nothing is withdrawn: another dataset.yaml may mean another view of the same images.

    Parameters
    ----------
    collections
        Only in these; None: in all.
    """
    if not plan.arrival:
        return Moved(0, 0)
    files = {token(volume_key(p.series, plan.arrival)) for p in plan.planned if not p.series.series_uid}
    uids = {p.series.series_uid for p in plan.planned if p.series.series_uid}
    # series of one scan that were apart before, and are joined now
    uids |= {i.series_uid for p in plan.planned for i in p.series.instances if i.series_uid}
    doubtful = {p.series.series_uid for p in plan.planned if p.obs_id and p.series.verdict == "quarantined"}
    placed = {
        (p.collection, p.subject_id, p.obs_id): p.series.verdict == "ingestable"
        for p in plan.planned
        if p.obs_id is not None
    }
    withdrawn = in_doubt = 0
    for entry in list_collections(store_uri, ctx):
        if collections is not None and entry.name not in collections:
            continue
        table = obs_table(entry.uri, ctx)
        gone = []
        for row in table.rows_where("arrival", [plan.arrival], ["series_uid"]).to_pylist():
            uid = row["series_uid"] or ""
            # the end of an obs_id is the digest of its volume's key (`identity.obs_id_of`)
            if uid not in uids and (uid or row[OBS_ID][-8:] not in files):
                continue  # its files are not in the arrival any more
            if placed.get((entry.name, row[SUBJECT], row[OBS_ID])):
                continue
            if uid in doubtful or (entry.name, row[SUBJECT], row[OBS_ID]) in placed:
                in_doubt += 1
            else:
                gone.append((row[SUBJECT], row[OBS_ID]))
        if gone:
            table.delete(gone)
            withdrawn += len(gone)
    return Moved(withdrawn, in_doubt)
