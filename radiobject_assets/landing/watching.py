"""A look at the landing zone by change: cheap where nothing happens, and never longer than there is time.

1. The zone itself is listed: what is new and what is gone is seen at once.
2. Each arrival gets a glance: one stat a folder. On S3 there is none. Of very many settled ones
   some get theirs, in turn: of 100,000 all within ten looks.
3. Everything in an arrival is looked at (*walked*) where a glance tells of a change, where one has been quiet
   for long enough to be settled, and where there was none yet.
4. What grows inside a file changes no folder. So each look also walks a bounded number of files of arrivals
   that seem unchanged, the young ones more often than the old. On S3 that is the only look at them.

What is remembered of each arrival (`settling.Seen`) is the caller's to keep; losing it costs one look at
everything and the wait for another quiet period.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from radiobject_assets.landing.local_zone import Arrival, ArrivalState, Glance, Landing, LooseFiles
from radiobject_assets.landing.settling import Seen, seen_now

# What was walked so lately is not walked again for nothing.
_REST_S = 60.0
_AT_ONCE = 16
_URGENT_AT_ONCE = 4
# Ready to be settled; never looked at; changed.
_READY, _NEW, _CHANGED = range(3)


@dataclass(frozen=True)
class Look:
    """What one look found."""

    seen: Mapping[str, Seen]
    """By arrival's key, for the next look. Those that are gone stay until the caller drops them: by them a
    renamed delivery is recognised."""
    settled: tuple[str, ...]
    """Arrivals with files, of which nothing more is expected: `seen` has their version."""
    unsettled: tuple[str, ...]
    """Arrivals that are still coming in, or that there was no time to look at."""
    empty: tuple[str, ...]
    """Settled arrivals without a file."""
    gone: Mapping[str, float]
    """Arrivals that are no longer there, and when (by `now_s`) that was first seen."""
    moved: Mapping[str, str]
    """Arrivals with exactly the files (paths, sizes, times; on S3 ETags) of one that is gone: its key."""
    clashes: tuple[str, ...]
    """Keys that several arrivals would have (`local_zone.Listing`)."""
    loose: LooseFiles
    glanced: str
    """Key of the settled arrival that was glanced at last: the next look begins after it."""
    is_complete: bool
    """Whether there was time for all that should have been looked at."""
    wait_s: float | None
    """Seconds after which the first of the unsettled may be settled; None: none of them waits for that. A
    caller who can wait as long as `settling.MARKER_GRACE_S` need not leave marked ones to the next tick."""


def look(
    zone: Landing,
    seen: Mapping[str, Seen],
    *,
    now_s: float,
    out_of_time: Callable[[], bool] = lambda: False,
    glanced_enough: Callable[[], bool] = lambda: False,
    after: str = "",
    hurry: bool = True,
) -> Look:
    """Look at the landing zone once.

    Parameters
    ----------
    zone
        The landing zone, or several as one.
    seen
        `Look.seen` of the last look; empty at first.
    now_s
        The looker's clock, in seconds since the epoch. It may jump: quiet periods then begin anew.
    out_of_time
        Asked before each arrival. At least one is looked at, so that looks get on.
    glanced_enough
        Asked before each glance: those that are left wait for the next look, so that there is time to walk.
    after
        `Look.glanced` of the last look.
    hurry
        Whether no more than `zone.glance_at_once` settled arrivals get a glance; the others have theirs in
        the next looks.

    Raises
    ------
    ConfigurationError, StorageError
        The landing zone can't be listed.
    """
    listing = zone.listing()
    quiet_s = zone.settings.quiet_period_s
    there, present = listing.by_key, listing.keys
    known = {
        key: one
        if key in present and one.gone_s is None and not one.is_emptied and one.since_s <= now_s
        else _as_of_now(one, key in present, now_s)
        for key, one in seen.items()
    }
    glances, is_complete, glanced = _glances(
        zone, listing.arrivals, known, int(now_s), after, hurry, lambda: glanced_enough() or out_of_time()
    )
    urgent: list[tuple[int, float, str]] = []
    calm: list[tuple[float, str]] = []
    for key, glance in glances.items():
        one = known.get(key)
        if one is None or not one.version:
            urgent.append((_NEW, 0.0, key))
        elif glance.digest != one.glance:
            urgent.append((_CHANGED, one.walked_s, key))
        elif not one.is_settled and (not glance.digest or one.wait_s(now_s, quiet_s) <= 0):
            urgent.append((_READY, one.walked_s, key))
        elif one.is_settled and not 0 <= now_s - one.walked_s < _REST_S:
            # what was quiet for a month will hardly grow now
            calm.append((-(now_s - one.walked_s) / (_REST_S + max(0.0, one.walked_s - one.since_s)), key))
    # who waits longest first: what grows without end must not hold back the others
    wanted = [there[key] for _, _, key in sorted(urgent, key=lambda one: (one[1], one[0], one[2]))]
    wanted += _as_many_as_fit((there[key] for _, key in sorted(calm)), known, zone.walk_at_once)
    walked = 0
    for arrival, state in _walks(zone, wanted, out_of_time):
        key, before = arrival.key, known.get(arrival.key)
        if state is None:
            known[key] = replace(before or Seen(), is_settled=False, since_s=now_s)
        elif state.n_files == 0 and before is not None and before.n_files:
            known[key] = _emptied(before, glances[key], now_s)
        else:
            known[key] = seen_now(before, state, glances[key], now_s, quiet_s)
        walked += 1
        if out_of_time():
            break
    is_complete = is_complete and walked == len(wanted)
    gone = {key: one.gone_s for key, one in known.items() if one.gone_s is not None}
    found = {key: known.get(key) or Seen() for key in there if key not in gone}
    unsettled = tuple(key for key, one in found.items() if not one.is_settled)
    waits = [one.wait_s(now_s, quiet_s) for key in unsettled if (one := found[key]).version]
    return Look(
        seen=known,
        settled=tuple(key for key, one in found.items() if one.n_files and one.is_settled),
        unsettled=unsettled,
        empty=tuple(key for key, one in found.items() if not one.n_files and one.is_settled),
        gone=gone,
        moved=_moved(found, {key: known[key] for key in gone}),
        clashes=listing.clashes,
        loose=listing.loose,
        glanced=glanced,
        is_complete=is_complete,
        wait_s=min(waits, default=None),
    )


def _walks(
    zone: Landing, wanted: Sequence[Arrival], out_of_time: Callable[[], bool]
) -> Iterator[tuple[Arrival, ArrivalState | None]]:
    # a zone looks in an order of its own: some at a time, so that this order is kept when time runs out
    for start in range(0, len(wanted), _AT_ONCE):
        if start and out_of_time():
            return
        yield from zone.states(wanted[start : start + _AT_ONCE], out_of_time)


def _emptied(before: Seen, glance: Glance, now_s: float) -> Seen:
    gone_s = now_s if before.gone_s is None else before.gone_s
    return replace(
        before, gone_s=gone_s, is_emptied=True, walked_s=now_s, glance=glance.digest, inner=glance.inner
    )


def _as_of_now(one: Seen, is_there: bool, now_s: float) -> Seen:
    if one.since_s > now_s:  # the clock was put back: a quiet period begins anew
        one = replace(one, since_s=now_s)
    if is_there and not one.is_emptied:
        return one if one.gone_s is None else replace(one, gone_s=None)
    return one if one.gone_s is not None else replace(one, gone_s=now_s)


def _glances(
    zone: Landing,
    arrivals: Sequence[Arrival],
    known: Mapping[str, Seen],
    first: int,
    after: str,
    hurry: bool,
    out_of_time: Callable[[], bool],
) -> tuple[dict[str, Glance], bool, str]:
    """A glance at each arrival as far as there is time, and the settled one to begin after the next time.

    New ones come first, then those that are not settled, from another one on each time; and after every few
    of them a settled one.
    """
    found: dict[str, Glance] = {}
    is_complete = True
    new = [arrival for arrival in arrivals if arrival.key not in known]
    # of those without a walk somebody has doubts
    old = [a for a in arrivals if (one := known.get(a.key)) and not (one.is_settled and one.walked_s)]
    begin = first * 7919 % len(old) if old else 0
    urgent = [*new, *old[begin:], *old[:begin]]
    left = {arrival.key for arrival in urgent}
    turn = bisect_right(arrivals, after, key=lambda arrival: arrival.key)
    calm = (a for part in (arrivals[turn:], arrivals[:turn]) for a in part if a.key not in left)
    for arrival in _in_turns(urgent, islice(calm, zone.glance_at_once if hurry else None)):
        one = known.get(arrival.key)
        try:
            # where everything must be looked at again, every folder is listed
            glance = zone.glance(arrival, one.inner if one is not None and one.version else None)
            if one is not None and one.version and glance.digest != one.glance:
                glance = zone.glance(arrival, None)
            found[arrival.key] = glance
        except OSError:
            is_complete = False  # taken away or closed to us while we look
            continue
        if arrival.key not in left:
            after = arrival.key
        if out_of_time():
            return found, len(found) == len(arrivals), after
    return found, is_complete, after


def _in_turns(urgent: Sequence[Arrival], calm: Iterator[Arrival]) -> Iterator[Arrival]:
    """Neither waits for the other for ever, however little time there is and however much is urgent."""
    for start in range(0, len(urgent), _URGENT_AT_ONCE):
        yield from urgent[start : start + _URGENT_AT_ONCE]
        yield from islice(calm, 1)
    yield from calm


def _as_many_as_fit(arrivals: Iterable[Arrival], known: Mapping[str, Seen], n_files: int) -> list[Arrival]:
    chosen: list[Arrival] = []
    for arrival in arrivals:
        n_files -= known[arrival.key].n_files + 1
        if n_files < 0 and chosen:
            break
        chosen.append(arrival)
    return chosen


def _moved(found: Mapping[str, Seen], gone: Mapping[str, Seen]) -> dict[str, str]:
    by_version = {one.version: key for key, one in sorted(gone.items()) if one.version and one.n_files}
    if not by_version:
        return {}
    return {
        key: by_version[one.version]
        for key, one in found.items()
        if one.is_settled and one.version in by_version
    }
