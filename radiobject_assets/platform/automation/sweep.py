"""One sweep over the landing zone: a cursor in, the arrivals to work on and a new cursor out.

No Dagster here. The cursor holds what was requested of each arrival, and what the last look saw of it
(`landing.watching`). Losing it costs one sweep and no work twice, because the requests' keys carry the
content's version and Dagster runs a key once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from radiobject_assets.landing.local_zone import Landing, LooseFiles
from radiobject_assets.landing.settling import Seen
from radiobject_assets.landing.watching import look

_FORMAT = 2


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

    done: dict[str, str] = field(default_factory=dict)
    """Arrival key to the version (of content and settings) that was last requested."""
    loose: int = 0
    """Files in the landing zone itself that were last told of."""
    seen: Mapping[str, Seen] = field(default_factory=dict)
    """What the last look saw of each arrival."""

    @classmethod
    def parse(cls, text: str | None) -> tuple[Cursor, bool]:
        """The cursor, and whether `text` was damaged: then the sweep starts anew instead of stopping."""
        if not text:
            return cls(), False
        try:
            content: Any = json.loads(text)
            if content["format"] not in (1, _FORMAT):
                return cls(), True
            done = {str(key): str(version) for key, version in content["done"].items()}
            seen = {str(key): Seen.from_json(one) for key, one in content.get("seen", {}).items()}
            return cls(done, int(content.get("loose", 0)), seen), False
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(), True

    def text(self) -> str:
        """The cursor as Dagster keeps it."""
        content: dict[str, Any] = {"format": _FORMAT, "done": self.done}
        if self.seen:
            content["seen"] = {key: one.to_json() for key, one in self.seen.items()}
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
    clashes: tuple[str, ...]
    """Names that folders of several landing zones have."""
    wait_s: float | None
    """As `watching.Look.wait_s`."""
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
        if self.clashes:
            parts.append(
                f"{', '.join(self.clashes)}: in several landing zones, and not taken in until one is renamed"
            )
        if self.loose.count:
            parts.append(str(self.loose))
        if not self.is_complete:
            parts.append("out of time: the next tick goes on from here")
        if self.cursor_was_damaged:
            parts.append("the cursor was damaged: swept from the start")
        return "; ".join(parts)


def sweep(
    cursor_text: str | None,
    zone: Landing,
    *,
    now_s: float,
    settings: str = "",
    out_of_time: Callable[[], bool] = lambda: False,
) -> Sweep:
    """Look at the arrivals until done or out of time, and ask for those that are settled and new.

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
        As for `watching.look`.
    """
    cursor, damaged = Cursor.parse(cursor_text)
    found = look(zone, cursor.seen, now_s=now_s, out_of_time=out_of_time)
    done = {key: version for key, version in cursor.done.items() if key not in found.gone}
    requests: list[ArrivalRequest] = []
    for key in found.settled:
        seen = found.seen[key]
        request = ArrivalRequest(key, seen.version, seen.n_files, settings)
        if done.get(key) != request.wanted:
            requests.append(request)
            done[key] = request.wanted
    there = {key: seen for key, seen in found.seen.items() if seen.gone_s is None}
    return Sweep(
        requests=tuple(requests),
        unsettled=found.unsettled,
        empty=found.empty,
        gone=tuple(sorted(set(cursor.done) & set(found.gone))),
        loose=found.loose,
        loose_is_news=found.loose.count != cursor.loose,
        clashes=found.clashes,
        wait_s=found.wait_s,
        is_complete=found.is_complete,
        cursor_was_damaged=damaged,
        cursor=Cursor(done, found.loose.count, there).text(),
    )


def forget(cursor_text: str | None, keys: Iterable[str]) -> str:
    """The cursor as if the arrivals of these keys had never been requested."""
    cursor, _ = Cursor.parse(cursor_text)
    dropped = set(keys)
    done = {key: version for key, version in cursor.done.items() if key not in dropped}
    return replace(cursor, done=done).text()
