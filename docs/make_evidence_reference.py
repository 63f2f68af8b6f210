"""Writes docs/reference/evidence.md from the rules on planes.

    python docs/make_evidence_reference.py

A test holds the file against what this would write.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from radiobject_assets.imaging.dicom.vendor import VendorRule
from radiobject_assets.imaging.dicom.vendor_rules import RULES
from radiobject_assets.imaging.series.evidence.order_evidence import EVIDENCE
from radiobject_assets.imaging.series.evidence.rules import (
    ACQUISITION,
    DIVIDING,
    FREE,
    IN_PLACE,
    LAST,
    REFUSED,
    TRACE,
    Rule,
)

_BY_SUBJECT = """
    orientation-enhanced orientation-canon orientation-philips orientation-toshiba orientation
    orientation-contradicted siemens-gradient siemens-csa-gradient philips-gradient uih-gradient
    ge-gradient ge-gradient-no-phase canon-comment-gradient canon-uid-of-each-slice ge-b-value
    siemens-b-value philips-b-value uih-b-value ge-unweighted ge-times ge-component ge-pepolar
    ge-pepolar-modes siemens-split siemens-mosaic siemens-mosaic-taken-apart siemens-csa1
    siemens-slice-times siemens-phase-encoding uih-grid philips-trace philips-order philips-scaling
    philips-suv hitachi-hyperfine
""".split()  # noqa: SIM905 - no better one a line
"""Rules of vendors by what they are about, not by vendor; those that are not named here come last."""
PAGE = Path(__file__).resolve().parent / "reference" / "evidence.md"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return [
        *lines,
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
        "",
    ]


def _paragraph(text: str) -> list[str]:
    return [textwrap.fill(" ".join(text.split()), 110, break_long_words=False, break_on_hyphens=False), ""]


def _rule(rule: Rule) -> tuple[str, str, str]:
    return rule.elements, rule.tolerance, rule.rests_on


def _subject(rule: VendorRule) -> int:
    return _BY_SUBJECT.index(rule.name) if rule.name in _BY_SUBJECT else len(_BY_SUBJECT)


def page() -> str:
    """The page on what headers must prove."""
    head = ("elements", "the same if", "rests on")
    lines = [
        "# Evidence",
        "",
        *_paragraph(
            """A series becomes a volume only where its headers prove how: which planes belong together, in
            which order they lie and in which they were taken. What they contradict, or leave open, is a
            reason and not a guess. Written by `docs/make_evidence_reference.py` from
            `radiobject_assets/imaging/series/evidence/`."""
        ),
        "## Another volume",
        "",
        *_paragraph("Planes of one SeriesInstanceUID that differ in one of these are of different volumes:"),
        *_table(head, map(_rule, (*DIVIDING, TRACE, *LAST))),
        *_paragraph(
            """These make another volume only where planes of two values are at the same positions, or
            alternate along the stack (three and more of each); else one slice of a volume may carry a value
            of its own:"""
        ),
        *_table(head, map(_rule, (*IN_PLACE, ACQUISITION))),
        "## What may differ in one volume",
        "",
        *_table(("elements", "what follows", "rests on"), map(_rule, FREE)),
        "## Contradictions",
        "",
        *_paragraph("All that is concerned is held back, under one reason:"),
        *_table(("what", "reason", "why"), [(what, f"`{reason}`", why) for what, reason, why in REFUSED]),
        "## The order of several images at one position",
        "",
        *_paragraph(
            """The first of these that proves an order gives it. A value that a whole volume shares proves one
            if all positions have the same values; a time that is measured slice by slice does if volume
            follows volume, or position follows position, or the steps are the same everywhere; numbers do if
            they count through volumes (of Philips through positions) in the order of slices. Times count with
            dates that differ; without dates, or with one date for all, a scan that lasts less than half a day
            is recognised to have passed midnight."""
        ),
        *_table(
            ("elements", "says when", "rests on"),
            [(e.elements, "yes" if e.is_time and not e.counts else "", e.rests_on) for e in EVIDENCE],
        ),
        "## The fourth axis",
        "",
        *_paragraph(
            """`fourth_axis` of obs names it, `fourth_axis_values` lists the value of each point (JSON) in
            `fourth_axis_unit`, and `fourth_axis_evidence` the elements that prove the order."""
        ),
        *_table(
            ("name", "where", "values"),
            [
                ("`b_value`", "diffusion weightings differ", "b-value, s/mm2; directions in `b_vectors_ras`"),
                ("`inversion_time`", "each point has its own InversionTime", "ms"),
                (
                    "`phase`",
                    "nominal percentages of a cycle, or trigger times within 3 s; not the time of the scan",
                    "%, or ms after the trigger",
                ),
                (
                    "`time`",
                    "a kind of evidence that says when",
                    "start of the point's first slice in seconds after the first point; `frame_duration_s` "
                    "has its length (PET)",
                ),
                ("`component`", "colours and complex numbers that are kept", "none"),
                ("`channel`", "by configuration of a collection of NIfTI images", "names"),
                ("`unknown`", "numbers alone give the order", "none"),
            ],
        ),
        "## Vendors",
        "",
        *_paragraph(
            """What is taken for granted of each vendor's headers. *Real file*: files of such a scanner, read
            by an independent tool, show it. *Published data*: others published headers or measurements that
            show it. *Standard*, *vendor documentation*: a text alone. *Nothing*: a reading that is possible;
            what it gives is marked in obs (`b_vectors_unproved`) or refused."""
        ),
        *_table(
            ("rule", "vendor", "what", "rests on", "source"),
            [(f"`{r.name}`", r.vendor, r.what, r.rests_on, r.source) for r in sorted(RULES, key=_subject)],
        ),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
