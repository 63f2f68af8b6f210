"""What lies in the landing zone: which arrivals there are, which have settled, and with what content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radiobject_assets.landing.local_zone import Arrival, ArrivalState, LandingZone, LooseFiles

if TYPE_CHECKING:
    from radiobject_assets.landing.s3_zone import S3LandingZone


@dataclass(frozen=True)
class Look:
    """What one look found."""

    present: frozenset[str]
    """Keys of all arrivals, also of those that were not looked into for want of time."""
    settled: dict[str, str]
    """Key to the version of the content."""
    unsettled: frozenset[str]
    empty: frozenset[str]
    """Settled, and without a file."""
    loose: LooseFiles
    after: str
    """Where the next look goes on; empty: all were looked into."""


def look(
    zone: LandingZone | S3LandingZone,
    *,
    now_s: float,
    after: str = "",
    out_of_time: Callable[[], bool] = lambda: False,
) -> Look:
    """Look into the arrivals, from where the last look stopped, until done or out of time.

    Parameters
    ----------
    zone
        The landing zone.
    now_s
        The clock, in seconds since the epoch, that quiet periods are measured by.
    after
        Of the last look.
    out_of_time
        Asked before each arrival. At least one arrival is looked into, so that looks get on.
    """
    arrivals = zone.arrivals()
    settled: dict[str, str] = {}
    unsettled, empty = set(), set()
    rest = [arrival for arrival in arrivals if arrival.key > after]
    for index, arrival in enumerate(rest):
        if index and out_of_time():
            break
        after = arrival.key
        state = _state_or_none(zone, arrival)
        if state is None or not state.is_settled(now_s, zone.settings.quiet_period_s):
            unsettled.add(arrival.key)
        elif state.n_files == 0:
            empty.add(arrival.key)
        else:
            settled[arrival.key] = state.version
    else:
        after = ""
    return Look(
        present=frozenset(arrival.key for arrival in arrivals),
        settled=settled,
        unsettled=frozenset(unsettled),
        empty=frozenset(empty),
        loose=zone.loose_files(),
        after=after,
    )


def _state_or_none(zone: LandingZone | S3LandingZone, arrival: Arrival) -> ArrivalState | None:
    try:
        return zone.state(arrival)
    except OSError:
        return None  # taken away or closed to us while we look: it is not settled
