"""What all checks have in common: an error inside one is a failed check, and a failure says what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg

from radiobject_assets.diagnostics.findings import Report, Severity
from radiobject_assets.platform.arrivals.arrival_table import ArrivalTable
from radiobject_assets.platform.assets.materialization_metadata import table
from radiobject_assets.platform.assets.privacy import (
    advice_on,
    keep_full_report,
    public_message,
    sentences,
)
from radiobject_assets.resources import WorkingTables

_SEVERITY = {Severity.ERROR: dg.AssetCheckSeverity.ERROR, Severity.WARN: dg.AssetCheckSeverity.WARN}
_SHOWN = ("problem", "evidence", "about", "collection", "arrival", "split", "mend", "id")


def check_result(
    rule: Callable[[], dg.AssetCheckResult],
    *,
    work: Path,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    """Run a check's rule; any error becomes a failed check that says what happened.

    What to do depends on the error alone: what a rule advises where it finds something is no advice here.
    """
    try:
        return rule()
    except Exception as error:  # noqa: BLE001 - a check that can't be done has not passed
        report = keep_full_report(error, work)
        return failed(
            f"the check could not be done: {public_message(error)}",
            advice_on(error, report),
            {"full_report": dg.MetadataValue.path(str(report))},
            severity=severity,
        )


def result_of(
    report: Report, metadata: Mapping[str, Any] | None = None, tables: WorkingTables | None = None
) -> dg.AssetCheckResult:
    """A report of rules as Dagster shows it. Having looked at nothing is no good news.

    Parameters
    ----------
    tables
        Where the table of arrivals is: what is found in an arrival is then told with its partition.
    """
    import pandas as pd

    report = report if tables is None else _with_partitions(report, tables)
    numbers: dict[str, Any] = {"looked_at": report.looked_at, **report.numbers, **(metadata or {})}
    if report.is_sound:
        return passed(report.summary(), numbers)
    if not report.findings:
        return failed(report.summary(), "", numbers, severity=dg.AssetCheckSeverity.WARN)
    found = pd.DataFrame([finding.to_json() for finding in report.findings])
    shown = found[[name for name in _SHOWN if (found[name] != "").any()]]
    return failed(
        report.summary(),
        "\n\n".join(report.advice()),
        {"findings": len(found), **numbers, "found": table(shown)},
        severity=_SEVERITY[report.severity],
    )


def _with_partitions(report: Report, tables: WorkingTables) -> Report:
    if not any(finding.arrival for finding in report.findings):
        return report
    shared = {key: row.partition for key, row in ArrivalTable(tables).rows.items() if row.partition}
    findings = tuple(
        replace(finding, arrival=f"{shared[finding.arrival]} ({finding.arrival})")
        if finding.arrival in shared
        else finding
        for finding in report.findings
    )
    return replace(report, findings=findings)


def failed(
    problem: str,
    what_to_do: str,
    metadata: Mapping[str, Any] | None = None,
    *,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    """A failed check with what to do about it: both in its description, which every page shows whole."""
    return dg.AssetCheckResult(
        passed=False,
        severity=severity,
        description="\n\n".join(filter(None, (sentences(problem), sentences(what_to_do)))),
        metadata=metadata,
    )


def passed(description: str, metadata: Mapping[str, Any]) -> dg.AssetCheckResult:
    """A passed check, with the numbers that it looked at."""
    return dg.AssetCheckResult(passed=True, description=description, metadata=metadata)
