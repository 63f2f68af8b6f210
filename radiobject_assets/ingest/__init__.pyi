"""The public names of ingest, and where they come from: `__init__.py` imports each on its first use."""

from .plan import (
    IngestPlan as IngestPlan,
    PlannedSeries as PlannedSeries,
    plan_ingest as plan_ingest,
)
from .report import (
    IngestReport as IngestReport,
    SeriesOutcome as SeriesOutcome,
    outcomes_table as outcomes_table,
)
from .run import (
    run_ingest as run_ingest,
)
from .sources import (
    ingest_sources as ingest_sources,
)
