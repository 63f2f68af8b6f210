"""The table of arrivals: a row for each, kept beside the store in shards; it outlives Dagster's home.

One arrival's news rewrites its shard alone. Several may write at a time (a tick, a pass beside the daemon,
somebody who forgets a person): each brings in what it changed itself, and leaves what others changed. Losing
the table costs another look and no voxel work: what is stored already is recognised as unchanged.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from radiobject_assets.resources import WorkingTables

ErrorKind = Literal["", "item", "machine", "killed", "canceled"]
"""Whose fault the last failure was: the arrival's own, storage's or memory's, a process that was ended from
outside, a person's."""

ALONE = 2
"""`ArrivalRow.apart` of an arrival that shares no run."""
_FOLDER = "reconciled"
_TICK = f"{_FOLDER}/tick.json"
_N_SHARDS = 64
_MOST_KEPT = 4 * _N_SHARDS
_VANISHED = "vanished_since_s"

_Kept = TypeVar("_Kept", "ArrivalRow", "TickState")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ArrivalRow:
    """What is known of one arrival. Times are seconds since the epoch; 0.0: it is not so."""

    wanted: str = ""
    """Version of the content that lies there settled and of what dataset.yaml says of images."""
    achieved: str = ""
    """The version that a run took in to its end."""
    partition: str = ""
    """Partition that it shares with other arrivals; "": its own, which has its key, or none yet."""
    images: str = ""
    """Digest of the images that its waiting labels could lie on now."""
    asked_images: str = ""
    """That digest when a run was last asked for."""
    tried_images: str = ""
    """That digest when labels were last tried."""
    asked: str = ""
    """Token of the request whose run has not been seen to end."""
    run_id: str = ""
    """Its latest run."""
    attempts: int = 0
    """How often in a row it failed by itself."""
    disturbed: int = 0
    """How often in a row something else ended its run."""
    deaths: int = 0
    """How often in a row its run was killed in `place`."""
    place: str = ""
    """Step in which its run was killed."""
    apart: int = 0
    """Whether it may share a run: 0: with all of its partition, 1: with a few, `ALONE`: with none, because it
    failed by itself or a run that it was in did."""
    error: str = ""
    """Text of the last failure, without identifiers."""
    error_kind: ErrorKind = ""
    next_try_s: float = 0.0
    wanted_since_s: float = 0.0
    """Since when something is wanted that is not achieved."""
    unsettled_since_s: float = 0.0
    vanished_since_s: float = 0.0

    @property
    def is_achieved(self) -> bool:
        """Whether all that is wanted of it was made; what was never seen settled wants nothing."""
        # a tick asks this of every arrival
        return (not self.wanted or self.wanted == self.achieved) and (
            not self.images or self.images == self.tried_images
        )


_FIELDS = tuple(one.name for one in fields(ArrivalRow))


@dataclass(frozen=True)
class TickState:
    """What a tick hands to the next one besides the rows."""

    loose: int = 0
    """Files in the landing zone itself that were last told of."""
    glanced: str = ""
    """Key of the settled arrival that got a glance last: the next look begins after it."""
    ticked_s: float = 0.0
    silences: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """Of runs that count as running: their last sign of life, and for how many seconds it has not changed."""
    told: str = ""
    """Digest of what the standing check last said."""
    told_s: float = 0.0


class ArrivalTable:
    """The rows of one data set; whoever changes some saves them."""

    def __init__(self, tables: WorkingTables) -> None:
        self._tables = tables
        self._shards: dict[str, Mapping[str, ArrivalRow]] = {
            name: _rows(tables.where(name), content) for name, content in _contents(tables).items()
        }

    @property
    def rows(self) -> dict[str, ArrivalRow]:
        """All rows, by the arrival's key."""
        found: dict[str, ArrivalRow] = {}
        for shard in self._shards.values():
            found.update(shard)
        return found

    def save(self, rows: Mapping[str, ArrivalRow]) -> None:
        """Bring in what these rows change of those that were read or saved here last; a row that is not among
        them is removed. Only shards that change are written.

        What others changed meanwhile stays. Of a field that both changed this value is kept; a row that one
        of them removed is gone, since who removes one knows that its arrival is not there.

        Raises
        ------
        StorageError
            Others wrote a shard first every time.
        """
        before = self.rows
        touched: dict[str, set[str]] = {}
        for key in before.keys() - rows.keys():
            touched.setdefault(_shard(key), set()).add(key)
        for key, row in rows.items():
            old = before.get(key)
            if old is not row and old != row:
                touched.setdefault(_shard(key), set()).add(key)
        for name, keys in touched.items():
            known = self._shards.get(name, {})
            wanted = {key: row for key, row in known.items() if key not in keys}
            wanted |= {key: rows[key] for key in keys if key in rows}
            self._tables.change_text(name, partial(_merged, known, wanted))
            # what was wanted, and not what others made of it: their changes must not look like ours
            self._shards[name] = wanted

    def tick(self) -> TickState:
        """What the last tick left; as new where it is lost or damaged."""
        from radiobject_assets.store import MissingError

        try:
            content: Any = json.loads(self._tables.text(_TICK))
            silences = {str(run): (str(sign), float(s)) for run, (sign, s) in content["silences"].items()}
            return replace(_made(TickState, content), silences=silences)
        except (MissingError, ValueError, TypeError, KeyError, AttributeError):
            return TickState()

    def save_tick(self, tick: TickState) -> None:
        """Leave that for the next tick."""
        self._tables.put_text(_TICK, json.dumps(asdict(tick)))


def vanished(tables: WorkingTables) -> frozenset[str]:
    """Arrivals whose files are no longer there, though their folder may be."""
    # each collection of each arrival asks, and mostly there are none: only parts that tell of some are parsed
    told = (one for one in _contents(tables).values() if _VANISHED.encode() in one)
    rows = (item for content in told for item in (_parsed(content) or {}).items())
    return frozenset(key for key, row in rows if row.vanished_since_s)


def rows_of_partition(
    tables: WorkingTables, partition: str, keys: Collection[str] = ()
) -> dict[str, ArrivalRow]:
    """The rows of the arrivals in a partition, and those of `keys`; no other row is made."""
    # each step of a run asks: of 100,000 rows, as text, the parts that name the partition are parsed
    wanted, named = {_shard(key) for key in keys}, json.dumps(partition).encode()
    found: dict[str, ArrivalRow] = {}

    def is_wanted(key: str, row: Mapping[str, Any]) -> bool:
        return key in keys or (row.get("partition") or key) == partition

    for name, content in _contents(tables).items():
        if name in wanted or named in content:
            found |= _parsed(content, is_wanted) or {}
    return found


def _contents(tables: WorkingTables) -> dict[str, bytes]:
    """The shards as they lie there: one listing, and one request for each, under way together."""
    names = [name for name in tables.below(_FOLDER) if name != _TICK]
    return dict(zip(names, tables.storage.read_many(names), strict=True))


def _shard(key: str) -> str:
    number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=2).digest()) % _N_SHARDS
    return f"{_FOLDER}/rows-{number:02}.json"


def _text(shard: Mapping[str, ArrivalRow]) -> str:
    # without what is as in a new row: most rows are achieved, and say little
    plain = {
        key: {name: value for name in _FIELDS if (value := getattr(row, name))}
        for key, row in sorted(shard.items())
    }
    return json.dumps(plain, separators=(",", ":"))


def _merged(before: Mapping[str, ArrivalRow], wanted: Mapping[str, ArrivalRow], text: str | None) -> str:
    """A shard as it is there, with what changed between `before` and `wanted`."""
    there = None if text is None else _parsed(text)
    if there is None:  # lost or damaged, which is nobody's wish: as it was known
        return _text(wanted)
    merged = dict(there)
    for key in before.keys() | wanted.keys():
        old, new = before.get(key), wanted.get(key)
        if new == old:
            continue
        if new is None:
            merged.pop(key, None)
        elif old is None:
            merged[key] = _changed(ArrivalRow(), new, there.get(key, ArrivalRow()))
        elif key in there:
            merged[key] = _changed(old, new, there[key])
    return _text(merged)


def _changed(old: ArrivalRow, new: ArrivalRow, there: ArrivalRow) -> ArrivalRow:
    changes = {name: value for name in _FIELDS if (value := getattr(new, name)) != getattr(old, name)}
    return replace(there, **changes)


_kept: dict[str, tuple[bytes, Mapping[str, ArrivalRow]]] = {}
"""The rows of shards that were read, by where they lie, with the digest of what they were made of."""


def _rows(where: str, content: bytes) -> Mapping[str, ArrivalRow]:
    # a tick reads all, and mostly nothing has changed since the last one in this process
    digest = hashlib.blake2b(content, digest_size=16).digest()
    kept = _kept.get(where)
    if kept is not None and kept[0] == digest:
        return kept[1]
    rows = _parsed(content)
    if rows is None:
        _log.warning("a part of the table of arrivals was damaged; its arrivals are looked at anew")
        return {}
    while len(_kept) >= _MOST_KEPT:
        _kept.pop(next(iter(_kept)), None)
    kept = digest, MappingProxyType(rows)
    _kept[where] = kept
    return kept[1]


def _parsed(
    content: str | bytes, is_wanted: Callable[[str, Mapping[str, Any]], bool] = lambda key, row: True
) -> dict[str, ArrivalRow] | None:
    try:
        told: Any = json.loads(content)
        return {str(key): _made(ArrivalRow, row) for key, row in told.items() if is_wanted(key, row)}
    except (ValueError, TypeError, AttributeError):
        return None


def _made(kind: type[_Kept], content: Mapping[str, Any]) -> _Kept:
    try:
        return kind(**content)
    except TypeError:  # a later version may have kept more
        known = {one.name for one in fields(kind)}
        return kind(**{name: value for name, value in content.items() if name in known})
