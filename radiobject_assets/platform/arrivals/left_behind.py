"""What is wanted and not achieved: in words for people, with what to do about it, by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from radiobject_assets.platform.arrivals.arrival_table import ArrivalRow
from radiobject_assets.platform.arrivals.reconciling import DEATHS_BY_CHANCE, is_given_up
from radiobject_assets.platform.arrivals.shared_runs import partition_of

TOO_LONG_S = 24 * 3600.0
"""What is still wanted after a day is told, whatever the reason."""
_SHOWN = 100

Kind = Literal["given up", "tried again", "waiting too long", "still arriving", "lost", "vanished"]

WHAT_TO_DO: Mapping[Kind, str] = {
    "given up": "It failed by itself again and again and is not tried any more. Read its error (all of it "
    "is in the work folder, `arrivals/<key>/last-error.txt`), put its files or dataset.yaml right, and it is "
    "tried again by itself; or materialize its partition with all assets of the job `process_arrival`.",
    "tried again": "Its last run failed; it is tried again by itself at the time that is given. If "
    "storage or machine are the cause, put that right; else see its error.",
    "waiting too long": "It has been waiting for a run for more than a day. See whether the daemon runs, "
    "whether the queue of runs moves, and whether the machine can keep up with what arrives.",
    "still arriving": "Its files have been changing for more than a day. See whether what copies it hangs; "
    "it is taken in when it has been quiet for `arrivals.quiet_period_s`. Or several deliveries would go by "
    "this name: rename one of them.",
    "lost": "It was never taken in, and its files are no longer in the landing zone. Put them back; or "
    "delete its partition of `raw_dicom`, and it is forgotten (arrivals that share the partition are not).",
    "vanished": "It was taken in, and its files are no longer in the landing zone: its volumes stay. Put "
    "the files back; or, if they were moved away on purpose, delete its partition of `raw_dicom` (arrivals "
    "that share it get it back by themselves).",
}
_ERRORS: frozenset[Kind] = frozenset(("given up", "lost"))
_NEWS: frozenset[Kind] = frozenset(("tried again",))


@dataclass(frozen=True)
class Left:
    """One arrival that is left behind, without identifiers."""

    key: str
    kind: Kind
    since_s: float
    attempts: int
    error: str = ""
    next_try_s: float = 0.0
    partition: str = ""


@dataclass(frozen=True)
class LeftBehind:
    """All that is left behind of a data set."""

    arrivals: int
    """How many are known."""
    achieved: int
    items: tuple[Left, ...]

    @property
    def is_error(self) -> bool:
        """Whether something is missing that nobody will bring by itself."""
        return any(item.kind in _ERRORS for item in self.items)

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to do for a person; what is tried again by itself is only told."""
        return all(item.kind in _NEWS for item in self.items)

    def counts(self) -> dict[Kind, int]:
        """How many there are of each kind."""
        return {kind: n for kind in WHAT_TO_DO if (n := sum(item.kind == kind for item in self.items))}

    def sentence(self) -> str:
        """All of it in one sentence."""
        if not self.arrivals:
            return "no arrival has been seen yet"
        parts = [f"{self.achieved} of {self.arrivals} arrivals are taken in"]
        parts += [f"{count} {kind}" for kind, count in self.counts().items()]
        return ", ".join(parts)

    def advice(self) -> str:
        """What to do, as a list in Markdown."""
        return "\n".join(f"- **{kind}**: {WHAT_TO_DO[kind]}" for kind in self.counts())

    def shown(self) -> tuple[Left, ...]:
        """Those that are worth a row of a table: the worst first, and not all of 10,000."""
        order = list(WHAT_TO_DO)
        return tuple(sorted(self.items, key=lambda item: (order.index(item.kind), item.key))[:_SHOWN])


def left_behind(rows: Mapping[str, ArrivalRow], now_s: float, delays_s: Sequence[float]) -> LeftBehind:
    """What is wanted and not achieved.

    Parameters
    ----------
    rows
        The table of arrivals.
    now_s
        Seconds since the epoch.
    delays_s
        `arrivals.retry_after_s` of dataset.yaml.
    """
    items, achieved = [], 0
    for key, row in rows.items():
        if row.is_achieved:
            achieved += bool(row.achieved)
            if not row.vanished_since_s and not row.unsettled_since_s:
                continue
        if left := _left(key, row, now_s, delays_s):
            items.append(left)
    return LeftBehind(len(rows), achieved, tuple(sorted(items, key=lambda item: item.key)))


def _left(key: str, row: ArrivalRow, now_s: float, delays_s: Sequence[float]) -> Left | None:
    kind: Kind
    since_s = row.wanted_since_s
    if row.vanished_since_s:
        kind, since_s = "vanished" if row.achieved else "lost", row.vanished_since_s
    elif is_given_up(row, delays_s):
        kind = "given up"
    elif row.unsettled_since_s and now_s - row.unsettled_since_s > TOO_LONG_S:
        kind, since_s = "still arriving", row.unsettled_since_s
    elif row.is_achieved:
        return None
    elif row.attempts or row.disturbed:
        kind = "tried again"
    elif row.wanted_since_s and now_s - row.wanted_since_s > TOO_LONG_S:
        kind = "waiting too long"
    else:
        return None
    error = row.error
    if row.deaths > DEATHS_BY_CHANCE:
        error = f"{row.place}: its run was killed there {row.deaths} times in a row"
        error += " (often for want of memory: see RADIOBJECT_MEMORY_MB)"
    tries = row.attempts + row.disturbed
    return Left(key, kind, since_s, tries, error, row.next_try_s, partition_of(key, row))
