"""What lies in the landing zone, as it is reconciled: a look by change, and what is remembered between two.

What is remembered lies in the work folder of this machine. Losing it costs one look at everything, and for
what is still arriving another quiet period.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from radiobject_assets.landing import watching
from radiobject_assets.landing.local_zone import Landing, LooseFiles
from radiobject_assets.landing.settling import Seen
from radiobject_assets.system.durable_files import write_whole

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LandingLook:
    """What one look found."""

    present: frozenset[str]
    """Keys of all arrivals, also of those that were not looked into for want of time."""
    settled: Mapping[str, str]
    """Key to the version of the content."""
    unsettled: frozenset[str]
    empty: frozenset[str]
    """Settled, and without a file."""
    loose: LooseFiles
    moved: Mapping[str, str] = field(default_factory=dict)
    """Arrivals with exactly the files of one that is gone: its key."""
    clashes: tuple[str, ...] = ()
    """Keys that several deliveries would have: none of them is taken in."""
    glanced: str = ""
    """Key of the settled arrival that was glanced at last."""
    is_complete: bool = True
    """Whether there was time for all that should have been looked at."""
    wait_s: float | None = None
    """Seconds after which the first of the unsettled may be settled."""
    seen: Mapping[str, Seen] = field(default_factory=dict)
    """For the next look."""

    def summary(self) -> list[str]:
        """What a person should know of it, in parts of a sentence."""
        parts = []
        if self.unsettled:
            parts.append(f"{len(self.unsettled)} still arriving")
        if self.empty:
            parts.append(f"{len(self.empty)} empty")
        if self.clashes:
            keys = ", ".join(self.clashes)
            parts.append(f"{keys}: several deliveries go by this key, not taken in until one is renamed")
        if self.loose.count:
            parts.append(str(self.loose))
        if not self.is_complete:
            parts.append("out of time: the next tick goes on from here")
        return parts


def look_at_landing(
    zone: Landing,
    seen: Mapping[str, Seen],
    *,
    now_s: float,
    out_of_time: Callable[[], bool] = lambda: False,
    glanced_enough: Callable[[], bool] = lambda: False,
    after: str = "",
    hurry: bool = True,
) -> LandingLook:
    """Look at the landing zone once (`landing.watching.look`).

    Raises
    ------
    ConfigurationError, StorageError
        The landing zone can't be listed.
    """
    found = watching.look(
        zone,
        seen,
        now_s=now_s,
        out_of_time=out_of_time,
        glanced_enough=glanced_enough,
        after=after,
        hurry=hurry,
    )
    there = (*found.settled, *found.unsettled, *found.empty, *found.clashes)
    return LandingLook(
        present=frozenset(there),
        settled={key: found.seen[key].version for key in found.settled},
        unsettled=frozenset(found.unsettled),
        empty=frozenset(found.empty),
        loose=found.loose,
        moved=found.moved,
        clashes=found.clashes,
        glanced=found.glanced,
        is_complete=found.is_complete,
        wait_s=found.wait_s,
        seen=found.seen,
    )


@dataclass(frozen=True)
class _Memory:
    """What this process last read or left."""

    stamp: tuple[int, int, int]
    """Of the file: its number, time and size."""
    read_s: float
    seen: Mapping[str, Seen]


_memory: dict[Path, _Memory] = {}
_MOST_MEMORIES = 16
_LEFT_AGAIN_S = 300.0
"""When everything was looked at is left for others no more often, if that is all there is to tell."""


def remembered(path: Path) -> Mapping[str, Seen]:
    """What the last look left; nothing where it is lost or damaged."""
    try:
        stamp = _stamp(path)
        kept = _memory.get(path)
        if kept is not None and kept.stamp == stamp:
            return kept.seen
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        seen = {str(key): Seen.from_json(one) for key, one in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError):
        _log.warning("what was seen of the landing zone is lost; it is looked at anew")
        return {}
    _keep(path, _Memory(stamp, time.monotonic(), seen))
    return seen


def remember(path: Path, seen: Mapping[str, Seen]) -> None:
    """Leave that for the next look; in the file where it is more than when everything was looked at."""
    now_s, kept = time.monotonic(), _memory.get(path)
    with suppress(OSError):
        if (
            kept is not None
            and now_s - kept.read_s < _LEFT_AGAIN_S
            and kept.stamp == _stamp(path)
            and kept.seen.keys() == seen.keys()
            and all(one is (old := kept.seen[key]) or one.tells_as(old) for key, one in seen.items())
        ):
            _keep(path, replace(kept, seen=seen))
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {key: one.to_json() for key, one in seen.items()}
    write_whole(path, json.dumps(told, separators=(",", ":")))
    _keep(path, _Memory(_stamp(path), now_s, seen))


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _keep(path: Path, memory: _Memory) -> None:
    while len(_memory) >= _MOST_MEMORIES and path not in _memory:
        _memory.pop(next(iter(_memory)), None)
    _memory[path] = memory
