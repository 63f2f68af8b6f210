"""The table of arrivals: a row for each, kept beside the store in shards; it outlives Dagster's home.

One arrival's news rewrites its shard alone. Several may write at a time (a tick, a pass beside the daemon,
somebody who forgets a person): each brings in what it changed itself, and leaves what others changed. Losing
the table costs another look and no voxel work: what is stored already is recognised as unchanged.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
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
_VANISHED = "vanished_since_s"

_Kept = TypeVar("_Kept", "ArrivalRow", "TickState")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
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
        return self.wanted in ("", self.achieved) and self.images in ("", self.tried_images)


_FIELDS = tuple(one.name for one in fields(ArrivalRow))


@dataclass(frozen=True)
class TickState:
    """What a tick hands to the next one besides the rows."""

    loose: int = 0
    """Files in the landing zone itself that were last told of."""
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
        self._shards: dict[str, dict[str, ArrivalRow]] = {}
        # one listing, and one request for each shard that there is, under way together
        names = [name for name in tables.below(_FOLDER) if name != _TICK]
        for name, text in zip(names, self._texts(names), strict=True):
            self._shards[name] = _rows(text)

    @property
    def rows(self) -> dict[str, ArrivalRow]:
        """All rows, by the arrival's key."""
        return {key: row for shard in self._shards.values() for key, row in shard.items()}

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
        wanted: dict[str, dict[str, ArrivalRow]] = {name: {} for name in self._shards}
        for key, row in rows.items():
            wanted.setdefault(_shard(key), {})[key] = row
        for name, shard in wanted.items():
            if shard != self._shards.get(name):
                self._tables.change_text(name, partial(_merged, self._shards.get(name, {}), shard))
                # what was wanted, and not what others made of it: their changes must not look like ours
                self._shards[name] = shard

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

    def _texts(self, names: Iterable[str]) -> list[str]:
        return [content.decode("utf-8") for content in self._tables.storage.read_many(names)]


def vanished(tables: WorkingTables) -> frozenset[str]:
    """Arrivals whose files are no longer there, though their folder may be."""
    # each collection of each arrival asks, and mostly there are none: only parts that tell of some are parsed
    names = [name for name in tables.below(_FOLDER) if name != _TICK]
    told = [content.decode("utf-8") for content in tables.storage.read_many(names)]
    rows = (item for text in told if _VANISHED in text for item in _rows(text).items())
    return frozenset(key for key, row in rows if row.vanished_since_s)


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


def _rows(text: str) -> dict[str, ArrivalRow]:
    rows = _parsed(text)
    if rows is None:
        _log.warning("a part of the table of arrivals was damaged; its arrivals are looked at anew")
        return {}
    return rows


def _parsed(text: str) -> dict[str, ArrivalRow] | None:
    try:
        content: Any = json.loads(text)
        return {str(key): _made(ArrivalRow, row) for key, row in content.items()}
    except (ValueError, TypeError, AttributeError):
        return None


def _made(kind: type[_Kept], content: Mapping[str, Any]) -> _Kept:
    try:
        return kind(**content)
    except TypeError:  # a later version may have kept more
        known = {one.name for one in fields(kind)}
        return kind(**{name: value for name, value in content.items() if name in known})
