"""From raw images to committed volumes: plan, decode under a memory budget, commit, quarantine.

The names here are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radiobject_assets.ingest.plan import IngestPlan, PlannedSeries, plan_ingest
    from radiobject_assets.ingest.report import IngestReport, SeriesOutcome, outcomes_table
    from radiobject_assets.ingest.run import run_ingest
    from radiobject_assets.ingest.sources import ingest_sources

_MODULES = {
    "IngestPlan": "plan",
    "IngestReport": "report",
    "PlannedSeries": "plan",
    "SeriesOutcome": "report",
    "ingest_sources": "sources",
    "outcomes_table": "report",
    "plan_ingest": "plan",
    "run_ingest": "run",
}

__all__ = [
    "IngestPlan",
    "IngestReport",
    "PlannedSeries",
    "SeriesOutcome",
    "ingest_sources",
    "outcomes_table",
    "plan_ingest",
    "run_ingest",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
