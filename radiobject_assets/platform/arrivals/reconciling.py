"""From what lies there, what is known, the runs and the clock: what is known now, and what to ask for.

No Dagster and no clock here. An arrival is asked for while it is neither achieved nor in a run that lives. An
arrival that fails by itself is tried a few times and then left alone; what ends a run from outside is no
fault of the arrival and does not count, unless its run dies again and again in the same step. Where several
share a run (`shared_runs`), who is at fault is tried apart from the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from radiobject_assets.platform.arrivals.arrival_table import ALONE, ArrivalRow, ErrorKind
from radiobject_assets.platform.arrivals.looking import LandingLook
from radiobject_assets.platform.arrivals.shared_runs import (
    PATIENCE_S,
    UNDER_WAY,
    Sharing,
    new_names,
    partition_of,
    partitions_of,
    shares,
)

DEATHS_BY_CHANCE = 3
"""A run that was killed in the same step more often than that in a row is probably what kills it."""
BY_HAND = "by hand "
"""What `ArrivalRow.asked` begins with where a person started the run."""
_MAX_ELAPSED_S = 60.0


@dataclass(frozen=True)
class LivingRun:
    """A run of a partition that waits or works."""

    partition: str
    run_id: str
    asked: str = ""
    """Token of the request that it answers; empty: a person started it."""
    keys: tuple[str, ...] = ()
    """The arrivals that it was asked to work on; none: all of its partition."""


@dataclass(frozen=True)
class EndedRun:
    """What a run that came to an end was for one arrival."""

    key: str
    run_id: str
    fate: Literal["success", "failure", "killed", "canceled", "others"]
    """`others`: it failed by the fault of other arrivals, which it has named."""
    asked: str = ""
    achieved: str = ""
    """Of a success that made everything of an arrival: the version of what it took in."""
    error: str = ""
    error_kind: ErrorKind = ""
    place: str = ""
    """Step in which it was killed; empty: before the first."""
    suspects: int = 1
    """How many arrivals its error may be about."""


@dataclass(frozen=True)
class Request:
    """One run to be asked for: one partition, and the arrivals in it that the run is to work on."""

    partition: str
    token: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Reconciled:
    """What is known now, and what is to be asked for."""

    rows: Mapping[str, ArrivalRow]
    requests: tuple[Request, ...]


def wanted_version(content: str, settings: str) -> str:
    """The version of what is to be made of an arrival: of its content, and of what dataset.yaml says."""
    return f"{content}:{settings}"


def observe(
    rows: Mapping[str, ArrivalRow],
    seen: LandingLook,
    *,
    settings: str,
    images: Mapping[str, str],
    partitions: Collection[str],
    now_s: float,
) -> dict[str, ArrivalRow]:
    """What is wanted, by what lies there.

    Parameters
    ----------
    rows
        What is known.
    seen
        What lies in the landing zone.
    settings
        Version of what dataset.yaml says of images (`ingest.settings`).
    images
        For each arrival with waiting labels: a digest of the images that they could lie on.
    partitions
        Those that Dagster knows. An arrival that is gone, and whose partition somebody deleted, is forgotten.
    now_s
        Seconds since the epoch.
    """
    known, new = dict(rows), ArrivalRow()
    for key, content in seen.settled.items():
        row = known.get(key, new)
        wanted = wanted_version(content, settings)
        if row.wanted == wanted and not row.unsettled_since_s:
            continue
        row = replace(row, unsettled_since_s=0.0)
        if row.wanted != wanted:  # other content is another chance
            row = _fresh(replace(row, wanted=wanted, wanted_since_s=now_s))
        known[key] = row
    for key in (*seen.unsettled, *seen.clashes):
        row = known.get(key, ArrivalRow())
        known[key] = replace(row, unsettled_since_s=row.unsettled_since_s or now_s)
    # of an empty folder files were wanted once: they are gone, also where the look has forgotten them
    emptied = {key for key in seen.empty & known.keys() if known[key].wanted or known[key].achieved}
    for key in seen.empty & known.keys() - emptied:
        known[key] = replace(known[key], unsettled_since_s=0.0)
    present = seen.present - emptied
    moving = [
        key
        for key, row in known.items()
        if key not in present or row.vanished_since_s or row.images != images.get(key, "")
    ]
    for key in moving:
        row = known[key]
        if key not in present:
            if partition_of(key, row) not in partitions and not row.asked:
                del known[key]
                continue
            row = replace(row, vanished_since_s=row.vanished_since_s or now_s, unsettled_since_s=0.0)
        elif row.vanished_since_s:
            row = replace(row, vanished_since_s=0.0)
        there = images.get(key, "")
        if there != row.images:
            row = replace(row, images=there)
            if not row.is_achieved:
                row = _fresh(replace(row, wanted_since_s=row.wanted_since_s or now_s))
        known[key] = row
    return known


def without_moved(rows: Mapping[str, ArrivalRow], moved: Mapping[str, str]) -> dict[str, ArrivalRow]:
    """The rows without those of deliveries that were taken in under another name: the old one says nothing.

    Parameters
    ----------
    moved
        Of a look: the key now, and the one before.
    """
    old = {before for now, before in moved.items() if now in rows and rows[now].is_achieved}
    return {key: row for key, row in rows.items() if key not in old or row.asked}


def unresolved(
    rows: Mapping[str, ArrivalRow],
    now_s: float,
    delays_s: Sequence[float],
    partitions: Collection[str] = (),
    limit: int = 64,
) -> list[str]:
    """Arrivals whose latest run one must know: asked for, about to be, or given up (somebody may have
    helped).

    Parameters
    ----------
    partitions
        Those that Dagster knows: no run can be of another.
    limit
        About so many partitions of what is about to be asked for.
    """
    rows = _open(rows)
    asked = [key for key, row in rows.items() if row.asked]
    left = [key for key, row in rows.items() if is_given_up(row, delays_s)]
    own, chosen = partitions_of(rows, partitions), set[str]()
    due = []
    for key in _due(rows, now_s, delays_s):
        if key in own and (own[key] in chosen or len(chosen) < limit):
            chosen.add(own[key])
            due.append(key)
    return [*asked, *due, *left]


def reconcile(
    rows: Mapping[str, ArrivalRow],
    living: Sequence[LivingRun],
    ended: Sequence[EndedRun],
    *,
    room: int,
    tokens: Sequence[str],
    now_s: float,
    delays_s: Sequence[float],
    is_impatient: bool = False,
    looked_up: Collection[str] | None = None,
    partitions: Collection[str] = (),
    sizes: Mapping[str, int] | None = None,
    sharing: Sharing | None = None,
    day: str = "",
) -> Reconciled:
    """What became of what was asked for, and what to ask for now.

    Parameters
    ----------
    rows
        Of `observe`.
    living
        All runs of arrivals that wait or work.
    ended
        Of each arrival of `unresolved`: the run that was asked for, or its latest, if that came to an end.
    room
        How many requests there may be at most.
    tokens
        A new token for each of them.
    now_s
        Seconds since the epoch.
    delays_s
        Seconds to wait before each try after the first; after the last one an arrival is given up.
    is_impatient
        Ask now for what waits for its next try, and for what was given up.
    looked_up
        Arrivals whose latest run was looked for: of those that have a partition only they are asked for.
        None: all were.
    partitions
        Those that Dagster knows.
    sizes, sharing
        Bytes of each arrival, and how much may share a run.
    day
        What new partitions are named after: `2026-11-30`.
    """
    known = dict(rows)
    members: dict[str, list[str]] = {}
    if wanted := {run.partition for run in living if not run.keys}:
        for key, row in known.items():
            if (partition := partition_of(key, row)) in wanted:
                members.setdefault(partition, []).append(key)
    alive = {
        key: run
        for run in living
        for key in run.keys or members.get(run.partition, (run.partition,))
        if key in known
    }
    for key, run in alive.items():
        row = known[key]
        known[key] = replace(row, run_id=run.run_id, asked=run.asked or _by_hand(run.run_id))
        if run.partition != key:  # known again, where the table was lost
            known[key] = replace(known[key], partition=run.partition)
    for end in ended:
        if end.key not in known or end.key in alive:
            continue
        row = known[end.key]
        is_answer = bool(end.asked) and row.asked == end.asked
        # a run that was not asked for is news once: somebody started it, or the table was lost
        is_news = row.asked == _by_hand(end.run_id) or (not row.asked and end.run_id != row.run_id)
        if is_answer or is_news:
            known[end.key] = _after(row, end, is_answer, now_s, delays_s)
    for key, row in _open(known).items():
        if row.asked and key not in alive:
            # no run answers it: Dagster dropped the request, or its home was lost
            known[key] = replace(row, asked="")
        elif is_impatient and not row.is_achieved:
            known[key] = replace(_fresh(row), apart=row.apart)
    left = _open(known)
    partition_by_key, busy = partitions_of(left, partitions), {run.partition for run in living}
    due = [
        key
        for key in _due(left, now_s, delays_s)
        if partition_by_key.get(key) not in busy
        and (looked_up is None or is_impatient or key in looked_up or key not in partition_by_key)
    ]
    found = shares(due, known, partition_by_key, sizes or {}, sharing or Sharing())
    patient_s = now_s - PATIENCE_S if len(living) >= UNDER_WAY else now_s
    asked = [
        share
        for share in found
        if share.partition or share.is_full or min(known[k].wanted_since_s for k in share.keys) <= patient_s
    ][: max(room, 0)]
    if not asked:
        return Reconciled(known, ())
    taken = (partition_of(key, row) for key, row in known.items())
    names = new_names(day, {*partitions, *known, *taken}, len(asked))
    requests = []
    for share, token in zip(asked, tokens, strict=False):
        name = share.partition or names.pop(0)
        for key in share.keys:
            row = known[key]
            known[key] = replace(
                row,
                partition="" if name == key else name,
                asked=token,
                asked_images=row.images,
                wanted_since_s=row.wanted_since_s or now_s,
            )
        requests.append(Request(name, token, share.keys))
    return Reconciled(known, tuple(requests))


def is_given_up(row: ArrivalRow, delays_s: Sequence[float]) -> bool:
    """Whether it failed so often by itself that it is left alone."""
    return not row.is_achieved and row.attempts > len(delays_s)


def stopped_hearts(
    signs: Mapping[str, str | None],
    before: Mapping[str, tuple[str, float]],
    *,
    elapsed_s: float,
    silence_s: float,
) -> tuple[dict[str, tuple[str, float]], list[str]]:
    """Which runs give no sign of life any more.

    Counted is the time between looks in which a sign did not change, at most a minute for each look: so a
    clock that is set, or a machine that slept, ends nobody.

    Parameters
    ----------
    signs
        Of each run that counts as running its last sign of life; None: it has given none yet.
    before
        What the last look returned.
    elapsed_s
        Seconds since that look.
    silence_s
        How long a run may be silent, its start included.

    Returns
    -------
    For the next look, the silences; and the runs that are dead.
    """
    step = min(max(elapsed_s, 0.0), _MAX_ELAPSED_S)
    silences: dict[str, tuple[str, float]] = {}
    for run_id, sign in signs.items():
        last, silent = before.get(run_id, ("", 0.0))
        now = sign or "none"
        silences[run_id] = (now, silent + step if now == last else 0.0)
    return silences, [run for run, (_, silent) in silences.items() if silent > silence_s]


def _open(rows: Mapping[str, ArrivalRow]) -> dict[str, ArrivalRow]:
    """Those of which something is wanted, or whose run has not been seen to end: a few of very many."""
    return {key: row for key, row in rows.items() if row.asked or not row.is_achieved}


def _by_hand(run_id: str) -> str:
    return f"{BY_HAND}{run_id}"


def _fresh(row: ArrivalRow) -> ArrivalRow:
    return replace(row, attempts=0, disturbed=0, deaths=0, place="", apart=0, next_try_s=0.0)


def _due(rows: Mapping[str, ArrivalRow], now_s: float, delays_s: Sequence[float]) -> list[str]:
    latest_s = now_s + max(delays_s)  # a later try was noted by a clock that was wrong
    due = [
        key
        for key, row in rows.items()
        if not row.is_achieved
        and not (row.asked or row.vanished_since_s or row.unsettled_since_s)
        and not is_given_up(row, delays_s)
        and (row.next_try_s <= now_s or row.next_try_s > latest_s)
    ]
    due.sort(key=lambda key: (rows[key].next_try_s, rows[key].wanted_since_s, key))
    return due


def _after(
    row: ArrivalRow, end: EndedRun, is_answer: bool, now_s: float, delays_s: Sequence[float]
) -> ArrivalRow:
    before = row
    row = replace(row, asked="", run_id=end.run_id)
    if end.fate == "success" and (end.achieved or not is_answer):
        row = _fresh(replace(row, error="", error_kind=""))
        if end.achieved:
            tried = row.asked_images if is_answer else row.images
            row = replace(row, achieved=end.achieved, tried_images=tried)
        if row.is_achieved:
            return replace(row, wanted_since_s=0.0)
        if not end.achieved or end.achieved != before.achieved:
            return row
        # made of the same other files or by the same other settings as last time (dataset.yaml was edited,
        # and not reloaded): not again at once, for that may stay so
        n = before.disturbed + 1
        return replace(row, disturbed=n, next_try_s=now_s + delays_s[min(n, len(delays_s)) - 1])
    if end.fate == "success":
        end = replace(end, error="its run made only a part of its assets", error_kind="item")
    if end.fate == "others":
        return replace(row, next_try_s=0.0)
    row = replace(row, error=end.error, error_kind=end.error_kind)
    if end.error_kind == "item" and end.suspects > 1:
        return replace(row, apart=min(row.apart + 1, ALONE), next_try_s=0.0)  # whose fault it is will show
    if end.error_kind == "item":
        return _failed(replace(row, disturbed=0, deaths=0, place=""), now_s, delays_s)
    row = replace(row, disturbed=row.disturbed + 1)
    if end.error_kind == "machine" and end.suspects > 1 and before.error_kind == "machine":
        # twice: it may be one arrival's after all (a folder that can't be read), which holds up the others
        row = replace(row, apart=min(row.apart + 1, ALONE))
    if end.fate == "killed":
        again = bool(end.place) and end.place == row.place
        row = replace(row, deaths=row.deaths + 1 if again else 1, place=end.place)
        row = replace(row, apart=max(row.apart, min(row.deaths - 1, ALONE)))
        if row.deaths > DEATHS_BY_CHANCE and end.suspects == 1:
            return _failed(row, now_s, delays_s)
    # what was killed is worth another try at once; storage without an answer is not, and who cancels a run
    # wants some peace
    waits = {"killed": [0.0, *delays_s], "canceled": delays_s[-1:]}.get(end.fate, delays_s)
    return replace(row, next_try_s=now_s + waits[min(row.disturbed - 1, len(waits) - 1)])


def _failed(row: ArrivalRow, now_s: float, delays_s: Sequence[float]) -> ArrivalRow:
    wait = delays_s[min(row.attempts, len(delays_s) - 1)]
    return replace(row, attempts=row.attempts + 1, apart=ALONE, next_try_s=now_s + wait)
