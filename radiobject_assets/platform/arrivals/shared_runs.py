"""Which arrivals share a partition and a run: many small ones do, so that each costs little.

A run costs seconds and hundreds of kilobytes in Dagster's storage, whatever is in it. So arrivals whose names
may not be told are put together while they wait, up to a bound, under a name of the day and a number. An
arrival keeps its partition for good: when it changes later, a run of that partition works on it alone. One
that fails by itself is tried apart from the others, so that it never holds them up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from radiobject_assets.landing.local_zone import SHARED_NAME, is_token
from radiobject_assets.platform.arrivals.arrival_table import ALONE, ArrivalRow

_A_FEW = 8
UNDER_WAY = 4
"""With so many runs waiting or working, arrivals wait until they fill a run, but not for ever."""
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Sharing:
    """How much may share a run (`arrivals.share_run` of dataset.yaml)."""

    n_arrivals: int = 100
    n_bytes: float = 2 * 2**30


@dataclass(frozen=True)
class Share:
    """Arrivals that one run is to work on."""

    partition: str
    """"" for one that is new and has no name yet."""
    keys: tuple[str, ...]
    is_full: bool = False


def partition_of(key: str, row: ArrivalRow) -> str:
    """The partition of an arrival: its own, which has its key, if it shares none."""
    return row.partition or key


def partitions_of(rows: Mapping[str, ArrivalRow], known: Collection[str]) -> dict[str, str]:
    """The partition of each arrival that has one.

    Parameters
    ----------
    known
        Partitions of Dagster: arrivals that had one before they could be shared keep it.
    """
    return {
        key: row.partition or key
        for key, row in rows.items()
        if row.partition or key in known or not is_token(key)
    }


def arrivals_in(rows: Mapping[str, ArrivalRow], partition: str) -> tuple[str, ...]:
    """The arrivals of a partition: those that the table knows, else the one that has its name."""
    found = tuple(sorted(key for key, row in rows.items() if partition_of(key, row) == partition))
    return found or (partition,)


def shares(
    due: Sequence[str],
    rows: Mapping[str, ArrivalRow],
    own: Mapping[str, str],
    sizes: Mapping[str, int],
    sharing: Sharing,
) -> list[Share]:
    """What is due, as runs: in the order in which it became due, and one for each partition at most.

    Parameters
    ----------
    due
        Arrivals, those that are due longest first.
    own
        The partitions of those that have one (`partitions_of`).
    sizes
        Bytes of each arrival, where they are known.
    """
    groups: dict[str, list[str]] = {}
    for key in due:
        groups.setdefault(own.get(key, ""), []).append(key)
    new = _divided(groups.pop("", []), sizes, sharing.n_arrivals, sharing.n_bytes)
    found = [
        Share("", keys, is_full=number < len(new) - 1 or len(keys) == sharing.n_arrivals)
        for number, keys in enumerate(new)
    ]
    for partition, keys in groups.items():
        # who shares with nobody comes last: each of them needs a run
        level = min(rows[key].apart for key in keys)
        limit = (sharing.n_arrivals, min(_A_FEW, sharing.n_arrivals), 1)[min(level, ALONE)]
        alike = [key for key in keys if rows[key].apart == level]
        found.append(Share(partition, _divided(alike, sizes, limit, sharing.n_bytes)[0], is_full=True))
    order = {key: number for number, key in enumerate(due)}
    return sorted(found, key=lambda share: order[share.keys[0]])


def new_names(day: str, taken: Iterable[str], number: int) -> list[str]:
    """Names for new partitions: the day and a number, which no partition and no arrival has yet.

    Parameters
    ----------
    day
        `2026-11-30`.
    """
    numbers = [int(m[2]) for name in taken if (m := SHARED_NAME.fullmatch(name)) and m[1] == day]
    first = max(numbers, default=0) + 1
    return [f"{day}-{first + n:03d}" for n in range(number)]


def _divided(
    keys: Sequence[str], sizes: Mapping[str, int], n_arrivals: int, n_bytes: float
) -> list[tuple[str, ...]]:
    parts: list[list[str]] = []
    room = 0.0
    for key in keys:
        size = sizes.get(key, 0)
        if not parts or len(parts[-1]) >= n_arrivals or size > room:
            parts.append([])
            room = n_bytes
        parts[-1].append(key)
        room -= size
    return [tuple(part) for part in parts]
