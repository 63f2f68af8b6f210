"""One JSON document of findings, the same from every command that finds, and its schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from radiobject_assets.diagnostics.findings import Report

VERSION = 1
"""Raised when a field changes its meaning or goes; fields that are added leave it."""

_TEXT = {"type": "string"}
_FINDING = {
    "type": "object",
    "required": ["id", "kind", "severity", "about", "problem", "evidence", "why", "mend", "mend_is_safe"],
    "properties": {
        "id": {**_TEXT, "description": "the same for the same thing found again"},
        "kind": _TEXT,
        "severity": {"enum": ["error", "warn"]},
        "about": {**_TEXT, "description": "what it is about, without identifiers"},
        "where": {**_TEXT, "description": "file, folder or id; may identify a person; only with --where"},
        "collection": _TEXT,
        "arrival": _TEXT,
        "split": _TEXT,
        "problem": _TEXT,
        "evidence": _TEXT,
        "why": {**_TEXT, "description": "why it matters to somebody who wants to train"},
        "mend": {**_TEXT, "description": "what puts it right, in words"},
        "command": {**_TEXT, "description": "for a shell; empty where there is none"},
        "mend_is_safe": {"type": "boolean", "description": "whether nothing can be lost by it"},
    },
}
SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Findings of radiobject-assets",
    "type": "object",
    "required": ["version", "command", "subject", "looked_at", "findings", "totals"],
    "properties": {
        "version": {"const": VERSION},
        "command": {**_TEXT, "description": "which command looked"},
        "subject": {**_TEXT, "description": "what it looked at, as it was named"},
        "looked_at": {
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "description": "how many of what",
        },
        "findings": {"type": "array", "items": _FINDING},
        "totals": {"type": "object", "additionalProperties": {"type": "integer"}, "description": "by kind"},
        "numbers": {"type": "object", "additionalProperties": {"type": "number"}},
        "said": {"type": "array", "items": _TEXT},
    },
}
"""JSON Schema of `findings_document`."""


def findings_document(
    command: str, subject: str, reports: Sequence[Report], *, with_where: bool = False
) -> dict[str, Any]:
    """What a command found, for other programs.

    Parameters
    ----------
    command, subject
        `doctor`, and the store as it was named.
    with_where
        Whether files and ids are named, which may identify a person.
    """
    findings = [finding for report in reports for finding in report.findings]
    looked_at: Counter[str] = Counter()
    for report in reports:
        looked_at[report.what] = max(looked_at[report.what], report.looked_at)
    return {
        "version": VERSION,
        "command": command,
        "subject": subject,
        "looked_at": dict(looked_at),
        "findings": [
            one.to_json() | ({"where": one.where or one.obs_id} if with_where else {}) for one in findings
        ],
        "totals": dict(Counter(one.kind.code for one in findings)),
        "numbers": {name: value for report in reports for name, value in report.numbers.items()},
        "said": [report.said for report in reports if report.said],
    }


def exit_code(reports: Sequence[Report]) -> int:
    """0: nothing found, 1: findings. (2 is for what could not run; who raises gets it.)"""
    return int(any(report.findings for report in reports))
