"""What each check's page teaches: what is looked at, what may be found, why it matters, what mends it.

Dagster shows these texts as Markdown under "About". The table is made of the kinds of findings, so that a
page that was never red says already what a red one says.
"""

from __future__ import annotations

from collections.abc import Iterable

from radiobject_assets.diagnostics.findings import Kind, Severity

_ANY = {
    "the partition {arrival}": "its partition",
    "the delivery {arrival}": "its delivery",
    "the partition {split}": "the partition of the split",
    "partition {arrival}": "its partition",
    "partition {split}": "the partition of the split",
    "the split {split}": "the split",
    "collections.{collection}.": "collections.<name>.",
    "{collection}": "the collection",
}
"""What a mend says of one arrival, collection or split, of any."""


LISTED_OF_MANY = (
    "Of many arrivals the newest that passed are listed, and all that did not: one that was taken in and is "
    "not listed passed longer ago, and the page of its run says so."
)
"""What the page of a check on arrivals says of its partitions (`automation.passed_checks`)."""


def taught(looked_at: str, kinds: Iterable[Kind]) -> str:
    """A check's description: what it looks at, and a table of what it may find.

    Parameters
    ----------
    looked_at
        What is as it should be when the check passes.
    kinds
        What it may find; those with one reason and one mend share a row.
    """
    rows: dict[tuple[str, str, str], list[str]] = {}
    for kind in kinds:
        mend = kind.mend.action
        for of_one, of_any in _ANY.items():
            mend = mend.replace(of_one, of_any)
        result = "red" if kind.severity is Severity.ERROR else "yellow"
        rows.setdefault((result, kind.why, mend), []).append(kind.problem)
    if not rows:
        return looked_at
    lines = [looked_at, "", "| It may find | Turns | Why it matters | What mends it |", "|---|---|---|---|"]
    above = ""
    for (colour, why, mend), found in rows.items():
        lines.append(f"| {'; '.join(found)} | {colour} | {why} | {'The same.' if mend == above else mend} |")
        above = mend
    return "\n".join(lines)
