"""Full verification in portions: every volume is read and compared in turn, however large the store.

What was verified when is a table with one row for each volume and for each arrival, so that a verification
goes on where the last one stopped: what has a finding comes first (somebody may have mended it), then what
was never looked at, then the oldest.

A portion takes hours at night, and others write the table meanwhile: another portion, and whoever makes an
arrival again. So what was seen is merged into the table as it is then, every minute, and what was seen of an
arrival before it was made again is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from radiobject_assets.diagnostics.findings import Finding, Report, Severity
from radiobject_assets.diagnostics.integrity_rules import arrays_match_rows, once, rows_as_written
from radiobject_assets.diagnostics.kinds import KINDS
from radiobject_assets.diagnostics.voxel_rules import values_are_plausible
from radiobject_assets.errors import RadiObjectError
from radiobject_assets.store import RadiObject, TileDBContext

COLUMNS = ("volume", "arrival", "verified_ms", "findings", "made_anew")
# Between two looks at the clock. The table of rows is compared with its digests once for each portion.
_VOLUMES_AT_ONCE, _ARRIVALS_AT_ONCE = 16, 64
# A killed run loses no more than that.
_KEEP_EVERY_MS = 60_000

Progress = Callable[[pd.DataFrame | None], pd.DataFrame]
"""Makes the table to keep of the one that is there."""


@dataclass(frozen=True)
class _Unit:
    """What is verified in turn: a volume, or (without one) what an arrival says that it brought."""

    volume: str
    arrival: str
    verified_ms: int = 0
    findings: tuple[Finding, ...] = ()
    made_anew: int = 0
    """Of an arrival: how often it was made again; what was seen before that says nothing any more."""

    @property
    def key(self) -> str:
        return self.volume or f"arrival {self.arrival}"

    def row(self) -> dict[str, Any]:
        found = [[f.kind.code, f.about, f.evidence, f.obs_id] for f in self.findings]
        text = json.dumps(found) if found else ""
        return {
            "volume": self.volume, "arrival": self.arrival, "verified_ms": self.verified_ms,
            "findings": text, "made_anew": self.made_anew,
        }  # fmt: skip


def verify_portion(
    store_uri: str,
    rows: pd.DataFrame,
    progress: pd.DataFrame | None,
    *,
    collection: str,
    arrivals: Collection[str],
    outcomes_of: Callable[[str], pd.DataFrame],
    now_ms: Callable[[], int],
    out_of_time: Callable[[], bool],
    keep: Callable[[Progress], None],
    ctx: TileDBContext | None = None,
) -> Report:
    """Verify volumes of one collection until all have been looked at once, or time is up.

    Parameters
    ----------
    rows
        The collection's rows of the inventory.
    progress
        The table as it was kept; None at first.
    arrivals
        Keys of the arrivals whose outcomes for this collection were kept.
    outcomes_of
        These outcomes.
    now_ms
        Milliseconds since the epoch.
    out_of_time
        Asked between portions. Some are verified in any case, so that they get on.
    keep
        Changes the table by a function of what it is at that moment; called every minute and at the end.
    """
    units, before = _units(rows, arrivals, progress, collection), _by_key(progress, collection)
    made, gone = _made_anew(before), before.keys() - units.keys()
    subjects = set(RadiObject(store_uri, ctx=ctx).obs_subject_ids)
    by_token = {str(row.volume): (at, row) for at, row in enumerate(rows.itertuples(index=False))}
    # an arrival looks at its own rows, not at all of them: there are as many arrivals as hundreds of rows
    by_id = rows.groupby("obs_id", sort=False).indices
    seen: dict[str, _Unit] = {}
    kept: dict[str, _Unit] = {}

    def merge(table: pd.DataFrame | None) -> pd.DataFrame:
        kept.clear()
        kept.update(_merged(_by_key(table, collection), seen, made, gone))
        return _table(kept.values())

    looked_at, kept_ms = 0, now_ms()
    for number, turn in enumerate(_turns(units.values())):
        if number > 1 and out_of_time():
            break
        if turn[0].volume:
            group = rows.iloc[[by_token[unit.volume][0] for unit in turn]]
            found = _of_volumes(store_uri, group, ctx)
            looked_at += len(turn)
        for unit in turn:
            if unit.volume:
                mine = [f for f in found if f.obs_id == by_token[unit.volume][1].obs_id]
            else:
                outcomes = outcomes_of(unit.arrival)
                ids = {str(one) for one in outcomes["obs_id"].dropna()}
                at = sorted(int(place) for one in ids for place in by_id.get(one, ()))
                mine = rows_as_written(rows.iloc[at], outcomes, unit.arrival, subjects)
            # by its asset, which is one for all collections where these are made by modality
            named = tuple(replace(finding, collection=collection) for finding in mine)
            seen[unit.key] = replace(unit, verified_ms=now_ms(), findings=named)
        if now_ms() - kept_ms > _KEEP_EVERY_MS:
            keep(merge)
            kept_ms = now_ms()
    keep(merge)
    # what is not in the table any more was made anew meanwhile
    now = [kept.get(key, _Unit(unit.volume, unit.arrival)) for key, unit in units.items()]
    return _report(now, looked_at, now_ms())


def _turns(units: Iterable[_Unit]) -> list[list[_Unit]]:
    turns: list[list[_Unit]] = []
    for of_volumes, at_once in ((False, _ARRIVALS_AT_ONCE), (True, _VOLUMES_AT_ONCE)):
        waiting = [unit for unit in units if bool(unit.volume) == of_volumes]
        waiting.sort(key=lambda unit: (not unit.findings, unit.verified_ms))
        turns += [waiting[start : start + at_once] for start in range(0, len(waiting), at_once)]
    return sorted(turns, key=lambda turn: (not turn[0].findings, turn[0].verified_ms))


def _merged(
    there: Mapping[str, _Unit], seen: Mapping[str, _Unit], made: Mapping[str, int], gone: Collection[str]
) -> dict[str, _Unit]:
    """What is kept, with what was seen: the later look counts, and none from before an arrival was made anew.

    Parameters
    ----------
    made
        How often each arrival had been made again when this portion began.
    gone
        What was kept then, and is not in the store any more.
    """
    merged = {key: one for key, one in there.items() if key not in gone or one.made_anew}
    now_made = _made_anew(there)
    for key, one in seen.items():
        earlier = merged.get(key, one)
        is_of_now = now_made.get(one.arrival, 0) == made.get(one.arrival, 0)
        if is_of_now and earlier.verified_ms <= one.verified_ms:
            merged[key] = replace(one, made_anew=earlier.made_anew)
    return merged


def _made_anew(units: Mapping[str, _Unit]) -> dict[str, int]:
    return {unit.arrival: unit.made_anew for unit in units.values() if not unit.volume}


def _table(units: Iterable[_Unit]) -> pd.DataFrame:
    rows = pd.DataFrame([unit.row() for unit in units], columns=list(COLUMNS))
    return rows.astype({"verified_ms": "int64", "made_anew": "int64"})


def unsound_arrivals(progress: pd.DataFrame) -> set[str]:
    """Arrivals of which a volume was found unsound, and not found mended since."""
    found = progress[progress["findings"].astype("str").str.startswith("[")]  # nearly all have none
    return {
        str(one["arrival"])
        for one in found.to_dict("records")
        if one["arrival"]
        and any(
            code in KINDS and KINDS[code].severity is Severity.ERROR for code, *_ in _parsed(one["findings"])
        )
    }


def looked_at_anew(progress: pd.DataFrame | None, arrival: str) -> pd.DataFrame:
    """The table after an arrival was made again: it counts as never verified."""
    before = _by_key(progress, "")
    made = _made_anew(before).get(arrival, 0)
    return _table(
        [unit for unit in before.values() if unit.arrival != arrival]
        + [_Unit("", arrival, made_anew=made + 1)]
    )


def _units(
    rows: pd.DataFrame, arrivals: Iterable[str], progress: pd.DataFrame | None, collection: str
) -> dict[str, _Unit]:
    units = [
        _Unit(str(row.volume), row.arrival if isinstance(row.arrival, str) else "")
        for row in rows.itertuples(index=False)
    ] + [_Unit("", key) for key in sorted(arrivals)]
    earlier = _by_key(progress, collection)
    return {unit.key: earlier.get(unit.key, unit) for unit in units}


def _by_key(progress: pd.DataFrame | None, collection: str) -> dict[str, _Unit]:
    if progress is None:
        return {}
    return {unit.key: unit for one in progress.to_dict("records") for unit in [_unit(one, collection)]}


def _unit(kept: Mapping[Any, Any], collection: str) -> _Unit:
    arrival = str(kept["arrival"] or "")
    findings = tuple(
        Finding(KINDS[code], about, evidence, collection=collection, arrival=arrival, obs_id=obs_id)
        for code, about, evidence, obs_id in _parsed(kept["findings"])
        if code in KINDS
    )
    # tables of before there was that column have none
    made_anew = int(kept.get("made_anew") or 0)
    return _Unit(str(kept["volume"] or ""), arrival, int(kept["verified_ms"]), findings, made_anew)


def _parsed(text: Any) -> list[list[str]]:
    return json.loads(text) if isinstance(text, str) and text else []


def _of_volumes(store_uri: str, rows: pd.DataFrame, ctx: TileDBContext | None) -> list[Finding]:
    store = RadiObject(store_uri, ctx=ctx)
    found: list[Finding] = []
    for name, group in rows.groupby("collection", sort=True):
        collection = store.collection(str(name))
        present = group[group["obs_id"].isin(collection.obs_ids)]
        found += arrays_match_rows(collection, present, ctx)
        damaged = {finding.obs_id for finding in found}
        for row in present.itertuples(index=False):
            if row.obs_id not in damaged:
                try:
                    found += values_are_plausible(collection.loc[str(row.obs_id)], row)
                except RadiObjectError:
                    continue  # it was just read whole: it is being replaced
    return found


def _report(units: Iterable[_Unit], looked_at: int, now_ms: int) -> Report:
    volumes = [unit for unit in units if unit.volume]
    never = sum(unit.verified_ms == 0 for unit in volumes)
    oldest = min((unit.verified_ms for unit in volumes if unit.verified_ms), default=now_ms)
    # an array that says something else than its row, and a row that is not as written, are one thing
    findings = once(
        finding for unit in sorted(units, key=lambda u: not u.volume) for finding in unit.findings
    )
    said = f"{looked_at} verified now" + (f", {never} still to come" if never else "")
    numbers = {
        "verified_now": looked_at,
        "never_verified": never,
        "oldest_verification_hours": round((now_ms - oldest) / 3_600_000, 1),
    }
    return Report(len(volumes) or len(findings), "volumes", findings, numbers, said)
