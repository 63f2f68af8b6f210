"""One sweep over the landing zone: a cursor in, the arrivals to work on and a new cursor out.

No Dagster here. The cursor holds one short digest for each arrival (1,000 arrivals: about 40 kB), and the
place where the last sweep ran out of time. Losing it costs one sweep and no work twice, because the
requests' keys carry the content's version and Dagster runs a key once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from radiobject_assets.landing.local_zone import Arrival, ArrivalState, LandingZone, LooseFiles

if TYPE_CHECKING:
    from radiobject_assets.landing.s3_zone import S3LandingZone

_FORMAT = 1


@dataclass(frozen=True)
class ArrivalRequest:
    """One arrival with new content: one partition, one run."""

    key: str
    version: str
    """Of its content."""
    n_files: int
    settings: str = ""
    """Of what dataset.yaml says of images."""

    @property
    def run_key(self) -> str:
        """What Dagster deduplicates by, for ever: a changed arrival must have another one."""
        return f"{self.key}:{self.wanted}"

    @property
    def wanted(self) -> str:
        """The version of what is to be made of it."""
        return f"{self.version}:{self.settings}" if self.settings else self.version


@dataclass(frozen=True)
class Cursor:
    """What a sweep has to remember."""

    after: str = ""
    """Key of the last arrival that was looked at when time ran out; empty: the sweep was complete."""
    done: dict[str, str] = field(default_factory=dict)
    """Arrival key to the version (of content and settings) that was last requested."""
    loose: int = 0
    """Files in the landing zone itself that were last told of."""

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
            return cls(str(content["after"]), done, int(content.get("loose", 0))), False
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(), True

    def text(self) -> str:
        """The cursor as Dagster keeps it."""
        content = {"format": _FORMAT, "after": self.after, "done": self.done}
        if self.loose:
            content["loose"] = self.loose
        return json.dumps(content, separators=(",", ":"))


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
    loose: LooseFiles
    loose_is_news: bool
    """Whether their number is another one than at the last sweep."""
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
        if self.loose.count:
            parts.append(str(self.loose))
        if not self.is_complete:
            parts.append("out of time: the next tick goes on from here")
        if self.cursor_was_damaged:
            parts.append("the cursor was damaged: swept from the start")
        return "; ".join(parts)


def sweep(
    cursor_text: str | None,
    zone: LandingZone | S3LandingZone,
    *,
    now_s: float,
    settings: str = "",
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
    settings
        Version of what dataset.yaml says of images (`ingest.settings`); another one makes every arrival new.
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
        else:
            request = ArrivalRequest(arrival.key, state.version, state.n_files, settings)
            if done.get(arrival.key) != request.wanted:
                requests.append(request)
                done[arrival.key] = request.wanted
    loose = zone.loose_files()
    return Sweep(
        requests=tuple(requests),
        unsettled=tuple(unsettled),
        empty=tuple(empty),
        gone=tuple(sorted(set(cursor.done) - present)),
        loose=loose,
        loose_is_news=loose.count != cursor.loose,
        is_complete=is_complete,
        cursor_was_damaged=damaged,
        cursor=Cursor("" if is_complete else after, done, loose.count).text(),
    )


def forget(cursor_text: str | None, keys: Iterable[str]) -> str:
    """The cursor as if the arrivals of these keys had never been requested."""
    cursor, _ = Cursor.parse(cursor_text)
    dropped = set(keys)
    done = {key: version for key, version in cursor.done.items() if key not in dropped}
    return Cursor(cursor.after, done, cursor.loose).text()


def _state_or_none(zone: LandingZone | S3LandingZone, arrival: Arrival) -> ArrivalState | None:
    try:
        return zone.state(arrival)
    except OSError:
        return None  # taken away or closed to us while we look: it is not settled
