"""What the doctor did and what it was at when it was stopped: one small note for each mend, without ids.

A note is written before anything is changed, and again when the mend is done or given up. Mends may be
repeated, so that the next call simply finds again what is left; only what was taken out to be taken in anew
is found by its note alone, which names the series by its token.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import pandas as pd

from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.store import MissingError, Storage

FOLDER = "doctor/mends"
DOCTOR_LOCK = "doctor/lock"
"""Held by who mends. On S3 nothing is exclusive."""
Stage = Literal["begun", "withdrawn", "mended", "left"]


@dataclass(frozen=True)
class Mended:
    """One mend: of which finding, how far it is, and what came of it."""

    id: str
    """Of the finding."""
    kind: str
    about: str
    collection: str = ""
    arrival: str = ""
    stage: Stage = "begun"
    """`withdrawn`: the damaged row was deleted, and the volume is not in again yet."""
    series_token: str = ""
    """Names the series of a volume (`PlannedSeries.series_token`)."""
    began: str = ""
    ended: str = ""
    result: str = ""
    """In words, without identifiers."""

    @classmethod
    def begin(cls, notes: Storage, finding: Finding, series_token: str = "") -> Mended:
        """Note that a finding is being mended."""
        made = cls(
            finding.id, finding.kind.code, finding.about, finding.collection, finding.arrival,
            series_token=series_token, began=_now(),
        )  # fmt: skip
        made.keep(notes)
        return made

    def to(self, notes: Storage, stage: Stage, result: str = "") -> Mended:
        """Note how far it is."""
        made = replace(self, stage=stage, result=result, ended=_now() if stage in ("mended", "left") else "")
        made.keep(notes)
        return made

    def keep(self, notes: Storage) -> None:
        """Write it; an interrupted write leaves the old one."""
        notes.write(f"{FOLDER}/{self.id}.json", json.dumps(asdict(self), indent=1).encode())

    @property
    def is_open(self) -> bool:
        """Whether a call was interrupted at it."""
        return self.stage in ("begun", "withdrawn")


def read_journal(notes: Storage) -> Iterator[Mended]:
    """All notes, in no order."""
    for entry in notes.list(FOLDER):
        try:
            content: dict[str, Any] = json.loads(notes.read(entry.path))
            yield Mended(**content)
        except (MissingError, ValueError, TypeError):
            continue  # another call has just replaced it, or it is of another version


def withdrawn_findings(notes: Storage, rows: pd.DataFrame) -> Report:
    """Volumes that an interrupted mend took out of the store and did not bring in again."""
    open_ones = [one for one in read_journal(notes) if one.stage == "withdrawn"]
    findings = tuple(
        Finding(
            kinds.VOLUME_GONE,
            f"series {one.series_token}",
            "a mend of it was interrupted",
            collection=one.collection,
            arrival=one.arrival,
        )
        for one in open_ones
    )
    return Report(len(rows), "volumes", findings)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
