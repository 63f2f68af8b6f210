"""Findings: what a rule found, in one text everywhere, with why it matters and what mends it.

A rule makes a finding of a `Kind` from the closed list in `kinds`, so that a check in Dagster, a command and
a page say the same of the same thing. A finding names no person: volumes go by the token of their array,
arrivals by the key of their partition. `obs_id` is for code that mends, and is never shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

_SHOWN_DIGITS = 10
# Pieces of evidence of each kind in a summary; the table has all.
_EVIDENCE = 2


def shown_token(token: str) -> str:
    """A volume's token as findings show it: long enough to be nobody else's in one store."""
    return token[:_SHOWN_DIGITS]


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """The data is not what it says it is, or a part of it is lost: don't train on it."""
    WARN = "warn"
    """Training is possible, and somebody should look."""


@dataclass(frozen=True)
class Mend:
    """What puts a finding right."""

    action: str
    """In words: where to click, or what to put right by hand. `{arrival}`, `{collection}` and `{split}` are
    filled in from the finding."""
    is_safe: bool
    """Whether nothing can be lost by it."""
    command: str = ""
    """For a shell, where there is one."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding: everything that is the same for all of its findings."""

    code: str
    """Stable, for filters and tests."""
    severity: Severity
    problem: str
    why: str
    """Why it matters to somebody who wants to train."""
    mend: Mend


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    kind: Kind
    about: str
    """What it is about, without identifiers: `volume 1f3a...`, `arrival a-3f4d4c47aa`, `split test`."""
    evidence: str = ""
    """What was seen, without identifiers."""
    collection: str = ""
    arrival: str = ""
    """Key of the arrival's partition, where there is one."""
    split: str = ""
    obs_id: str = field(default="", repr=False)
    """May identify a person; not in any text."""
    where: str = field(default="", repr=False)
    """File, folder or id, for whoever has the data before them. It may identify a person: commands show it on
    this machine, Dagster and reports that are handed on never."""
    command: str = ""
    """For a shell, where the mend of this one has settings of its own; else the kind's holds."""

    @property
    def id(self) -> str:
        """The same for the same thing found again."""
        text = "\0".join((self.kind.code, self.collection, self.about, self.arrival, self.split))
        return hashlib.blake2b(text.encode("utf-8"), digest_size=6).hexdigest()

    @property
    def problem(self) -> str:
        """What is wrong, without any identifier."""
        return f"{self.kind.problem}: {self.evidence}" if self.evidence else self.kind.problem

    @property
    def what_to_do(self) -> str:
        """The mend in words."""
        return self.kind.mend.action.format(
            arrival=self.arrival or "the arrival", collection=self.collection or "the collection",
            split=self.split or "the split",
        )  # fmt: skip

    @property
    def how_to(self) -> str:
        """The mend as a command; empty where there is none."""
        return self.command or self.kind.mend.command

    def to_json(self) -> dict[str, Any]:
        """The finding for other programs, and for a table that is kept."""
        return {
            "id": self.id,
            "kind": self.kind.code,
            "severity": str(self.kind.severity),
            "about": self.about,
            "collection": self.collection,
            "arrival": self.arrival,
            "split": self.split,
            "problem": self.kind.problem,
            "evidence": self.evidence,
            "why": self.kind.why,
            "mend": self.what_to_do,
            "command": self.how_to,
            "mend_is_safe": self.kind.mend.is_safe,
        }


@dataclass(frozen=True)
class Report:
    """What rules found among what they looked at."""

    looked_at: int
    what: str
    """What was counted: `volumes`, `arrivals`."""
    findings: tuple[Finding, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Figures that are worth a plot over time."""
    said: str = ""
    """A word more on what was looked at, for people."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found, among something that was looked at."""
        return not self.findings and self.looked_at > 0

    @property
    def severity(self) -> Severity:
        """The worst of the findings; of nothing to look at, a warning."""
        found = {finding.kind.severity for finding in self.findings}
        return Severity.ERROR if Severity.ERROR in found else Severity.WARN

    def summary(self) -> str:
        """One sentence: how many were looked at, and what was found."""
        if not self.findings and self.looked_at == 0:
            return f"nothing to look at yet: there are no {self.what}"
        if not self.findings:
            return f"{self.looked_at} {self.what} looked at, nothing found{self._more()}"
        listed = "; ".join(
            f"{kind.problem} ({len(found)}{_first_evidence(found)})"
            for kind, found in _by_kind(self.findings).items()
        )
        return f"{listed}; among {self.looked_at} {self.what}{self._more()}"

    def _more(self) -> str:
        return f"; {self.said}" if self.said else ""

    def advice(self, limit: int = 5) -> tuple[str, ...]:
        """For each kind that was found: why it matters and what mends it, for the first places."""
        lines = []
        for kind, found in _by_kind(self.findings).items():
            mends = list(dict.fromkeys(finding.what_to_do for finding in found))
            more = f" (and {len(mends) - limit} more)" if len(mends) > limit else ""
            care = "" if kind.mend.is_safe else " Look first: this can't be undone."
            commands = list(dict.fromkeys(finding.how_to for finding in found if finding.how_to))
            command = "".join(f" `{one}`" for one in commands[:limit])
            lines.append(f"{kind.why} {' '.join(mends[:limit])}{more}{command}{care}")
        return tuple(lines)


def _first_evidence(found: Sequence[Finding]) -> str:
    told = list(dict.fromkeys(finding.evidence for finding in found if finding.evidence))
    return f": {'; '.join(told[:_EVIDENCE])}{', ...' if len(told) > _EVIDENCE else ''}" if told else ""


def _by_kind(findings: Iterable[Finding]) -> dict[Kind, list[Finding]]:
    found: dict[Kind, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.kind, []).append(finding)
    return found


def together(reports: Iterable[Report], what: str) -> Report:
    """Several reports on the same things as one."""
    every = tuple(reports)
    numbers = {name: value for report in every for name, value in report.numbers.items()}
    return Report(
        max((report.looked_at for report in every), default=0),
        what,
        tuple(finding for report in every for finding in report.findings),
        numbers,
        "; ".join(report.said for report in every if report.said),
    )
