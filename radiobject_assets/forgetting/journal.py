"""What is being forgotten, and how far it is: kept under the person's mark, and no id.

It lies beside the other tables, so that whoever takes up what was interrupted finds it, on another machine
too; when all is done it stays as the receipt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from radiobject_assets.resources import WorkingTables
from radiobject_assets.store import MissingError

_FORMAT = 1


@dataclass(frozen=True)
class Restored:
    """What Dagster is told anew after events are gone: that something was made, or what a check said."""

    asset: list[str]
    partition: str | None
    data_version: str | None = None
    check: str | None = None
    """Name of a check whose verdict it is; None: a materialization."""
    passed: bool = True
    is_error: bool = True
    blocking: bool = False


@dataclass(frozen=True)
class Journal:
    """One person who is being forgotten, or was."""

    mark: str
    began: str
    arrivals: tuple[str, ...] = ()
    """Keys of the arrivals that they came with."""
    arrays: tuple[str, ...] = ()
    """Tokens of their arrays: once the store has forgotten them, nothing else tells which findings in
    Dagster's history were about them. Not in the receipt."""
    landing: bool = False
    """Whether their files in the landing zone go as well."""
    restored: tuple[Restored, ...] = field(default=())
    finished: str = ""

    @classmethod
    def open(cls, tables: WorkingTables, mark: str, *, landing: bool) -> Journal:
        """The journal of a person: as it was left by a call that was interrupted, else a new one."""
        found = cls.read(tables, mark)
        if found is None or found.finished:  # they came again, and are forgotten again
            return cls(mark, _now(), landing=landing)
        return replace(found, landing=found.landing or landing)

    @classmethod
    def read(cls, tables: WorkingTables, mark: str) -> Journal | None:
        """The journal that was kept; None where there is none."""
        try:
            content: dict[str, Any] = json.loads(tables.text(_name(mark)))
        except MissingError:
            return None
        content.pop("format", None)
        restored = tuple(Restored(**one) for one in content.pop("restored", ()))
        return cls(**{**content, "restored": restored, **_tuples(content)})

    @classmethod
    def unfinished(cls, tables: WorkingTables) -> tuple[str, ...]:
        """Marks of the people whose forgetting was interrupted."""
        marks = [PurePosixPath(name).stem for name in tables.below("forgetting")]
        found = [(mark, cls.read(tables, mark)) for mark in marks]
        return tuple(mark for mark, journal in found if journal is not None and not journal.finished)

    def keep(self, tables: WorkingTables) -> None:
        """Write it; an interrupted write leaves the old one."""
        tables.put_text(_name(self.mark), json.dumps({"format": _FORMAT, **asdict(self)}, indent=2))

    def found(self, arrivals: Iterable[str], arrays: Iterable[str]) -> Journal:
        """With more arrivals, and tokens of arrays."""
        return replace(
            self,
            arrivals=tuple(sorted({*self.arrivals, *arrivals})),
            arrays=tuple(sorted({*self.arrays, *arrays})),
        )

    def done(self) -> Journal:
        """As the receipt that it is in the end."""
        return replace(self, restored=(), arrays=(), finished=_now())


def _tuples(content: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(content.get(name, ())) for name in ("arrivals", "arrays")}


def _name(mark: str) -> str:
    return f"forgetting/{mark}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
