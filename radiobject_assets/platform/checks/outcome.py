"""What all checks have in common: an error inside one is a failed check, and a failure says what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from radiobject_assets.platform.assets.privacy import keep_full_report, public_message


def check_result(
    rule: Callable[[], dg.AssetCheckResult],
    *,
    work: Path,
    what_to_do: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    """Run a check's rule; any error becomes a failed check that says what happened and what to do."""
    try:
        return rule()
    except Exception as error:  # noqa: BLE001 - a check that can't be done has not passed
        report = keep_full_report(error, work)
        return failed(
            f"the check could not be done: {public_message(error)}",
            what_to_do,
            {"full_report": dg.MetadataValue.path(str(report))},
            severity=severity,
        )


def failed(
    problem: str,
    what_to_do: str,
    metadata: Mapping[str, Any] | None = None,
    *,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    """A failed check with its recovery text."""
    return dg.AssetCheckResult(
        passed=False,
        severity=severity,
        description=f"{problem}. {what_to_do}",
        metadata={"problem": problem, "what_to_do": dg.MetadataValue.md(what_to_do), **(metadata or {})},
    )


def passed(description: str, metadata: Mapping[str, Any]) -> dg.AssetCheckResult:
    """A passed check, with the numbers that it looked at."""
    return dg.AssetCheckResult(passed=True, description=description, metadata=metadata)
