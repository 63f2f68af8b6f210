"""From raw images to committed volumes: plan, decode under a memory budget, commit, quarantine."""

from __future__ import annotations

from radiobject_assets.ingest.plan import IngestPlan, PlannedSeries, plan_ingest
from radiobject_assets.ingest.report import IngestReport, SeriesOutcome, outcomes_table
from radiobject_assets.ingest.run import run_ingest
from radiobject_assets.ingest.sources import ingest_sources

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
