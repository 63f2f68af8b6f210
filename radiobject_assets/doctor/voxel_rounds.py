"""Every volume read once, in portions; who is interrupted goes on where the last one stopped.

What is kept of a round is the token of the last volume that was read, and what was found until then: volumes
are read in the order of their tokens, which are random, so that what comes in meanwhile is met as well as
not, and a round has an end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import pandas as pd

from radiobject_assets.diagnostics.findings import Finding, Report, shown_token
from radiobject_assets.diagnostics.integrity_rules import arrays_match_rows
from radiobject_assets.diagnostics.kind_registry import every_kind
from radiobject_assets.store import MissingError, RadiObject, Storage, TileDBContext

ROUND = "doctor/round.json"
AT_ONCE = 64
# A killed round loses no more than that; one that was left for so long begins anew.
_KEEP_EVERY_S, _TOO_OLD_S = 20.0, 86_400.0


@dataclass
class _Round:
    last: str = ""
    findings: tuple[Finding, ...] = ()

    @classmethod
    def read(cls, notes: Storage) -> _Round:
        known = every_kind()
        try:
            kept = json.loads(notes.read(ROUND))
            if time.time() - kept["at"] > _TOO_OLD_S:
                return cls()
            found = tuple(
                Finding(known[code], about, evidence, collection, arrival, obs_id=obs_id)
                for code, about, evidence, collection, arrival, obs_id in kept["findings"]
                if code in known
            )
            return cls(str(kept["last"]), found)
        except (MissingError, KeyError, TypeError, ValueError):
            return cls()  # of another version, or emptied of a person who was forgotten

    def keep(self, notes: Storage) -> None:
        found = [[f.kind.code, f.about, f.evidence, f.collection, f.arrival, f.obs_id] for f in self.findings]
        content = {"at": time.time(), "last": self.last, "findings": found}
        notes.write(ROUND, json.dumps(content).encode())


def voxel_round(
    store_uri: str,
    rows: pd.DataFrame,
    notes: Storage,
    told: Collection[str] = (),
    *,
    at_once: int = AT_ONCE,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    ctx: TileDBContext | None = None,
) -> Iterator[Report]:
    """Compare every volume with its row and its digests; a report for each portion.

    A row that was replaced while its old array was looked at is not told: the next round has the new one.

    Parameters
    ----------
    rows
        The inventory.
    notes
        Where the round is kept.
    at_once
        Volumes of a portion.
    told
        Tokens of volumes that are known to be unsound: they are not read.
    """
    ordered = rows[~rows["volume"].isin(set(told))].sort_values("volume", ignore_index=True)
    start = _Round.read(notes)
    there = {shown_token(token) for token in ordered["volume"]}
    earlier = tuple(one for one in start.findings if one.about.removeprefix("volume ") in there)
    start.findings = earlier
    begin = int((ordered["volume"] <= start.last).sum()) if start.last else 0
    if begin:
        said = f"{begin} volumes were read by a call that was interrupted"
        yield Report(begin, "volumes read", earlier, said=said)
    kept_s, store = time.monotonic(), RadiObject(store_uri, ctx=ctx)
    is_done = False
    try:
        for place in range(begin, len(ordered), at_once):
            portion = ordered.iloc[place : place + at_once]
            found = tuple(volume_findings(store, portion, ctx))
            start.last, start.findings = str(portion["volume"].iloc[-1]), (*start.findings, *found)
            done = place + len(portion)
            on_progress(done, len(ordered))
            if time.monotonic() - kept_s > _KEEP_EVERY_S:
                start.keep(notes)
                kept_s = time.monotonic()
            yield Report(done, "volumes read", found)
        is_done = True
    finally:
        if not is_done and start.last:
            start.keep(notes)
    notes.remove(ROUND)


def volume_findings(
    store: RadiObject, rows: pd.DataFrame, ctx: TileDBContext | None = None
) -> Iterator[Finding]:
    """What is wrong with the arrays of some rows of a store, as far as they are those of the present."""
    for name, group in rows.groupby("collection", sort=True):
        found = arrays_match_rows(store.collection(str(name)), group, ctx)
        if not found:
            continue
        fresh = RadiObject(store.uri, ctx=ctx)
        now = _tokens(fresh, str(name), [one.obs_id for one in found])
        then = dict(zip(group["obs_id"].astype(str), group["volume"].astype(str), strict=True))
        yield from (one for one in found if now.get(one.obs_id) == then[one.obs_id])


def _tokens(store: RadiObject, name: str, ids: list[str]) -> dict[str, str]:
    if name not in store.collection_names:
        return {}
    rows = store.collection(name).filter(f"obs_id in {ids!r}").to_obs().reset_index()
    return dict(zip(rows["obs_id"].astype(str), rows["volume"].astype(str), strict=True))
