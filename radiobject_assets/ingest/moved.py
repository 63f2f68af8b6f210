"""Volumes of an arrival that dataset.yaml now places elsewhere: withdrawn from where they were.

A changed `match`, another order of the collections or another way of naming subjects gives a series another
place. Its volume there is written like a new one; left alone, the old one would be a second copy of the same
image, under a name that nothing accounts for. Earlier snapshots keep it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import tiledb

from radiobject_assets.ingest.identity import token, volume_key
from radiobject_assets.ingest.plan import IngestPlan
from radiobject_assets.store.layout import OBS, OBS_CORE, OBS_ID, SUBJECT, list_collections
from radiobject_assets.store.table import Table
from radiobject_assets.store.uris import join


@dataclass(frozen=True)
class Moved:
    """What became of an arrival's volumes that were in the store before."""

    withdrawn: int
    """Volumes whose series belongs elsewhere, or to no collection: their rows are gone."""
    in_doubt: int
    """Volumes that stay, though their series would be quarantined today."""


def withdraw_moved(
    plan: IngestPlan, store_uri: str, collections: Collection[str] | None, ctx: tiledb.Ctx
) -> Moved:
    """Withdraw the volumes of a plan's arrival that are not where the plan has them.

    Series whose files are no longer in the arrival stay: nothing says that they are wrong. Without an arrival
    (the command line) nothing is withdrawn: another dataset.yaml may mean another view of the same images.

    Parameters
    ----------
    collections
        Only in these; None: in all.
    """
    if not plan.arrival:
        return Moved(0, 0)
    series_of = {token(volume_key(p.series, plan.arrival)): p.series.series_uid for p in plan.planned}
    placed = {
        (p.collection, p.subject_id, p.obs_id): p.series.verdict == "ingestable"
        for p in plan.planned
        if p.obs_id is not None
    }
    withdrawn = in_doubt = 0
    for entry in list_collections(store_uri, ctx):
        if collections is not None and entry.name not in collections:
            continue
        table = Table(join(entry.uri, OBS), ctx, OBS_CORE)
        gone = []
        for row in table.rows_where("arrival", [plan.arrival], ["series_uid"]).to_pylist():
            # the end of an obs_id is the digest of its volume's key (`identity.obs_id_of`)
            if series_of.get(row[OBS_ID][-8:]) != (row["series_uid"] or ""):
                continue
            good = placed.get((entry.name, row[SUBJECT], row[OBS_ID]))
            if good is None:
                gone.append((row[SUBJECT], row[OBS_ID]))
            elif not good:
                in_doubt += 1
        if gone:
            table.delete(gone)
            withdrawn += len(gone)
    return Moved(withdrawn, in_doubt)
