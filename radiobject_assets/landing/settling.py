"""When nothing more is expected of an arrival: a rule over what was seen of it, one look after the other.

Nothing says for certain that a delivery is whole, so this goes by what was *seen*, measured by the looker's
own clock: an arrival is settled when it has not changed for the quiet period, or for a short grace where its
marker was the last thing that was written. Times of files are compared with each other alone: the clock of a
file server may be wrong by more than a quiet period.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

from radiobject_assets.landing.local_zone import ArrivalState, Glance

MARKER_GRACE_S = 2.0
"""How long a marked arrival must stay as it is: a marker may be copied in the middle of the rest."""
CLOCKS_DIFFER_S = 900.0
"""What is older than the quiet period by this much is believed to be quiet at first sight."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of one arrival between two looks: a few hundred bytes, whatever is in it."""

    version: str = ""
    """Of its content, when everything in it was last looked at; "": that has not been done yet."""
    n_files: int = 0
    n_bytes: int = 0
    is_settled: bool = False
    """Whether nothing more is expected of this version."""
    since_s: float = 0.0
    """As it is since: by the looker's clock, as all times here."""
    walked_s: float = 0.0
    """When everything in it was last looked at."""
    gone_s: float | None = None
    """No longer there since; None: it is there."""
    is_emptied: bool = False
    """Whether its folder is there still, or again, without the files that it had: then it is gone as well."""
    marker: str = ""
    """When its marker was written, if that counts."""
    reopened: bool = False
    """Whether content has changed since this marker was first seen: then it counts no more."""
    glance: str = ""
    """What a glance (`local_zone.Glance`) said then."""
    inner: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes; what is as it is by default is left out."""
        # not by `asdict`, which copies: 12,000 arrivals are told at every tick
        return {name: value for name, default in _NEW if (value := getattr(self, name)) != default}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Seen:
        """What was seen; keys of another version of this package are left out."""
        known = dict(_NEW)
        told = {name: value for name, value in content.items() if name in known}
        if (inner := told.get("inner")) is not None:
            told["inner"] = tuple(int(number) for number in inner)
        return cls(**told)

    def tells_as(self, other: Seen) -> bool:
        """Whether both say the same of the arrival, whenever it was looked at."""
        return bool(_told(self) == _told(other))

    def wait_s(self, now_s: float, quiet_period_s: float) -> float:
        """Seconds until it is settled, if it stays as it is."""
        if self.is_settled:
            return 0.0
        is_marked = bool(self.marker) and not self.reopened
        needed = min(MARKER_GRACE_S, quiet_period_s) if is_marked else quiet_period_s
        return max(0.0, needed - max(0.0, now_s - self.since_s))


_NEW = [(field.name, field.default) for field in fields(Seen)]
_told = attrgetter(*(name for name, _ in _NEW if name != "walked_s"))


def seen_now(
    before: Seen | None, state: ArrivalState, glance: Glance, now_s: float, quiet_period_s: float
) -> Seen:
    """What is known of an arrival after everything in it was looked at.

    Parameters
    ----------
    before
        What was known; None, or without a version, at first sight.
    now_s
        The looker's clock, in seconds since the epoch.
    """
    marker = "" if state.marker_s is None else repr(state.marker_s)
    if before is None or not before.version:
        changed, reopened = False, False
        since_s = now_s - max(0.0, now_s - state.changed_s - CLOCKS_DIFFER_S)
    else:
        changed = before.version != state.version
        # a file that came and went is a sign of copying, but no reason to doubt what was settled already
        stirred = before.glance != glance.digest and not before.is_settled
        reopened = marker == before.marker and (changed or before.reopened)
        since_s = now_s if changed or stirred else min(before.since_s, now_s)
    if state.marker_s is not None and state.content_s > state.marker_s:
        reopened = True
    seen = Seen(
        version=state.version,
        n_files=state.n_files,
        n_bytes=state.n_bytes,
        since_s=since_s,
        walked_s=now_s,
        marker=marker,
        reopened=reopened and bool(marker),
        glance=glance.digest,
        inner=glance.inner,
    )
    was_settled = before is not None and before.is_settled and not changed
    return replace(seen, is_settled=was_settled or seen.wait_s(now_s, quiet_period_s) <= 0)
