"""One sweep over the landing zone: a cursor in, the arrivals to work on and a new cursor out.

No Dagster here. The cursor holds one short digest for each arrival (1,000 arrivals: about 40 kB), and the
place where the last sweep ran out of time. Losing it costs one sweep and no work twice, because the
requests' keys carry the content's version and Dagster runs a key once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from radiobject_assets.landing import Arrival, ArrivalState, LandingZone

_FORMAT = 1


@dataclass(frozen=True)
class ArrivalRequest:
    """One arrival with new content: one partition, one run."""

    key: str
    version: str
    n_files: int

    @property
    def run_key(self) -> str:
        """What Dagster deduplicates by, for ever: a changed arrival must have another one."""
        return f"{self.key}:{self.version}"


@dataclass(frozen=True)
class Cursor:
    """What a sweep has to remember."""

    after: str = ""
    """Key of the last arrival that was looked at when time ran out; empty: the sweep was complete."""
    done: dict[str, str] = field(default_factory=dict)
    """Arrival key to the content version that was last requested."""

    @classmethod
    def parse(cls, text: str | None) -> tuple[Cursor, bool]:
        """The cursor, and whether `text` was damaged: then the sweep starts anew instead of stopping."""
        if not text:
            return cls(), False
        try:
            content: Any = json.loads(text)
            if content["format"] != _FORMAT:
                return cls(), True
            done = {str(key): str(version) for key, version in content["done"].items()}
            return cls(after=str(content["after"]), done=done), False
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(), True

    def text(self) -> str:
        """The cursor as Dagster keeps it."""
        return json.dumps({"format": _FORMAT, "after": self.after, "done": self.done}, separators=(",", ":"))


@dataclass(frozen=True)
class Sweep:
    """What one sweep found."""

    requests: tuple[ArrivalRequest, ...]
    unsettled: tuple[str, ...]
    """Keys of arrivals that are still coming in."""
    empty: tuple[str, ...]
    """Keys of arrivals that are settled and hold no file."""
    gone: tuple[str, ...]
    """Keys of arrivals that were requested once and whose folders are no longer there."""
    is_complete: bool
    cursor_was_damaged: bool
    cursor: str

    def summary(self) -> str:
        """One line for the sensor's tick."""
        parts = [f"{len(self.requests)} to ingest"]
        if self.unsettled:
            parts.append(f"{len(self.unsettled)} still arriving")
        if self.empty:
            parts.append(f"{len(self.empty)} empty")
        if self.gone:
            parts.append(f"{len(self.gone)} no longer in the landing zone")
        if not self.is_complete:
            parts.append("out of time: the next tick goes on from here")
        if self.cursor_was_damaged:
            parts.append("the cursor was damaged: swept from the start")
        return "; ".join(parts)


def sweep(
    cursor_text: str | None,
    zone: LandingZone,
    *,
    now_s: float,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Sweep:
    """Look at the arrivals, from where the last sweep stopped, until done or out of time.

    Parameters
    ----------
    cursor_text
        What the last sweep returned; None at first.
    zone
        The landing zone.
    now_s
        The clock, in seconds since the epoch, that quiet periods are measured by.
    out_of_time
        Asked before each arrival. At least one arrival is looked at, so that sweeps get on.
    """
    cursor, damaged = Cursor.parse(cursor_text)
    arrivals = zone.arrivals()
    present = {arrival.key for arrival in arrivals}
    done = {key: version for key, version in cursor.done.items() if key in present}
    remaining = [arrival for arrival in arrivals if arrival.key > cursor.after]
    requests: list[ArrivalRequest] = []
    unsettled: list[str] = []
    empty: list[str] = []
    after = ""
    is_complete = True
    for position, arrival in enumerate(remaining):
        if position > 0 and out_of_time():
            is_complete = False
            break
        after = arrival.key
        state = _state_or_none(zone, arrival)
        if state is None or not state.is_settled(now_s, zone.settings.quiet_period_s):
            unsettled.append(arrival.key)
        elif state.n_files == 0:
            empty.append(arrival.key)
        elif done.get(arrival.key) != state.version:
            requests.append(ArrivalRequest(arrival.key, state.version, state.n_files))
            done[arrival.key] = state.version
    return Sweep(
        requests=tuple(requests),
        unsettled=tuple(unsettled),
        empty=tuple(empty),
        gone=tuple(sorted(set(cursor.done) - present)),
        is_complete=is_complete,
        cursor_was_damaged=damaged,
        cursor=Cursor("" if is_complete else after, done).text(),
    )


def forget(cursor_text: str | None, keys: Iterable[str]) -> str:
    """The cursor as if the arrivals of these keys had never been requested."""
    cursor, _ = Cursor.parse(cursor_text)
    dropped = set(keys)
    done = {key: version for key, version in cursor.done.items() if key not in dropped}
    return Cursor(cursor.after, done).text()


def _state_or_none(zone: LandingZone, arrival: Arrival) -> ArrivalState | None:
    try:
        return zone.state(arrival)
    except OSError:
        return None  # taken away or closed to us while we look: it is not settled
