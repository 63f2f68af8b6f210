"""Full verification in portions: every volume is read and compared in turn, however large the store.

What was verified when is a table with one row for each volume and for each arrival, so that a verification
goes on where the last one stopped: what has a finding comes first (somebody may have mended it), then what
was never looked at, then the oldest.
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

COLUMNS = ("volume", "arrival", "verified_ms", "findings")
# Between two looks at the clock. The table of rows is compared with its digests once for each portion.
_VOLUMES_AT_ONCE, _ARRIVALS_AT_ONCE = 16, 64


@dataclass(frozen=True)
class Verification:
    """One portion."""

    progress: pd.DataFrame
    """The table to keep for the next one."""
    report: Report


@dataclass(frozen=True)
class _Unit:
    """What is verified in turn: a volume, or (without one) what an arrival says that it brought."""

    volume: str
    arrival: str
    verified_ms: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def key(self) -> str:
        return self.volume or f"arrival {self.arrival}"

    def row(self) -> dict[str, Any]:
        found = [[f.kind.code, f.about, f.evidence, f.obs_id] for f in self.findings]
        text = json.dumps(found) if found else ""
        return {
            "volume": self.volume, "arrival": self.arrival, "verified_ms": self.verified_ms, "findings": text
        }  # fmt: skip


def verify_portion(
    store_uri: str,
    rows: pd.DataFrame,
    progress: pd.DataFrame | None,
    *,
    collection: str,
    arrivals: Collection[str],
    outcomes_of: Callable[[str], pd.DataFrame],
    now_ms: int,
    out_of_time: Callable[[], bool],
    ctx: TileDBContext | None = None,
) -> Verification:
    """Verify volumes of one collection until all have been looked at once, or time is up.

    Parameters
    ----------
    rows
        The collection's rows of the inventory.
    progress
        What the last portion kept; None at first.
    arrivals
        Keys of the arrivals whose outcomes for this collection were kept.
    outcomes_of
        These outcomes.
    out_of_time
        Asked between portions. Some are verified in any case, so that they get on.
    """
    units = _units(rows, arrivals, progress, collection)
    subjects = set(RadiObject(store_uri, ctx=ctx).obs_subject_ids)
    by_token = {str(row.volume): (at, row) for at, row in enumerate(rows.itertuples(index=False))}
    # an arrival looks at its own rows, not at all of them: there are as many arrivals as hundreds of rows
    by_id = rows.groupby("obs_id", sort=False).indices
    turns: list[list[_Unit]] = []
    for of_volumes, at_once in ((False, _ARRIVALS_AT_ONCE), (True, _VOLUMES_AT_ONCE)):
        waiting = [unit for unit in units.values() if bool(unit.volume) == of_volumes]
        waiting.sort(key=lambda unit: (not unit.findings, unit.verified_ms))
        turns += [waiting[start : start + at_once] for start in range(0, len(waiting), at_once)]
    turns.sort(key=lambda turn: (not turn[0].findings, turn[0].verified_ms))
    looked_at = 0
    for number, turn in enumerate(turns):
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
            units[unit.key] = replace(unit, verified_ms=now_ms, findings=named)
    return Verification(
        pd.DataFrame([unit.row() for unit in units.values()], columns=list(COLUMNS)).astype(
            {"verified_ms": "int64"}
        ),
        _report(units.values(), looked_at, now_ms),
    )


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


def looked_at_anew(progress: pd.DataFrame, arrival: str) -> pd.DataFrame:
    """The table without an arrival that was made again: it counts as never verified."""
    return progress[progress["arrival"] != arrival]


def _units(
    rows: pd.DataFrame, arrivals: Iterable[str], progress: pd.DataFrame | None, collection: str
) -> dict[str, _Unit]:
    units = [
        _Unit(str(row.volume), row.arrival if isinstance(row.arrival, str) else "")
        for row in rows.itertuples(index=False)
    ] + [_Unit("", key) for key in sorted(arrivals)]
    earlier: Mapping[str, _Unit] = (
        {}
        if progress is None
        else {unit.key: unit for one in progress.to_dict("records") for unit in [_unit(one, collection)]}
    )
    return {unit.key: earlier.get(unit.key, unit) for unit in units}


def _unit(kept: Mapping[Any, Any], collection: str) -> _Unit:
    arrival = str(kept["arrival"] or "")
    findings = tuple(
        Finding(KINDS[code], about, evidence, collection=collection, arrival=arrival, obs_id=obs_id)
        for code, about, evidence, obs_id in _parsed(kept["findings"])
        if code in KINDS
    )
    return _Unit(str(kept["volume"] or ""), arrival, int(kept["verified_ms"]), findings)


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
