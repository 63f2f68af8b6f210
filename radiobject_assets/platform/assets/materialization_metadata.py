"""What every materialization tells: time, memory against the budget, tables. Never who a patient is."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from radiobject_assets.system.memory import MemoryBudget, PeakMemory

if TYPE_CHECKING:
    import pandas as pd

    from radiobject_assets.store import TileDBContext

SAMPLE_ROWS = 20


@dataclass
class Measurement:
    """Time and memory of one materialization; complete when its `with` block has ended."""

    budget: MemoryBudget
    seconds: float = 0.0
    peak_rss_mb: float = 0.0
    grown_mb: float = 0.0

    def metadata(self) -> dict[str, Any]:
        """Numbers only, so that Dagster plots them over time, the peak beside the budget."""
        return {
            "seconds": round(self.seconds, 3),
            "peak_memory_mb": self.peak_rss_mb,
            "memory_above_idle_mb": self.grown_mb,
            "memory_budget_mb": self.budget.total_mb,
        }


@contextmanager
def measuring(budget: MemoryBudget) -> Iterator[Measurement]:
    """Measure the block: wall time, and the process tree's peak memory."""
    measurement = Measurement(budget)
    started = time.perf_counter()
    with PeakMemory() as peak:
        try:
            yield measurement
        finally:
            measurement.seconds = time.perf_counter() - started
    measurement.peak_rss_mb = peak.peak_rss_mb
    measurement.grown_mb = peak.grown_mb


def table(rows: pd.DataFrame, limit: int = SAMPLE_ROWS) -> dg.TableMetadataValue:
    """The first rows of a table as Dagster shows them. The caller leaves identifiers out."""
    columns = [dg.TableColumn(str(name), _column_type(rows[name])) for name in rows.columns]
    records = [
        dg.TableRecord({str(name): _cell(value) for name, value in row.items()})
        for row in rows.head(limit).to_dict(orient="records")
    ]
    return dg.MetadataValue.table(records=records, schema=dg.TableSchema(columns=columns))


def data_version_of(items: Iterable[Any]) -> str:
    """A data version: digest of plain values, the same whatever their order."""
    lines = sorted(json.dumps(item, sort_keys=True, default=str) for item in items)
    return hashlib.blake2b("\n".join(lines).encode("utf-8"), digest_size=16).hexdigest()


# Columns of obs that say how and when a volume was written, not what it is.
_NO_CONTENT = ("volume", "stored_bytes", "written_at", "writer_version")


def content_digest(
    store_uri: str, collections: Collection[str] | None, arrivals: Collection[str], ctx: TileDBContext
) -> str:
    """Data version of some arrivals' volumes: of their voxels and of everything that obs says of them."""
    import pandas as pd

    from radiobject_assets.store import RadiObject

    store = RadiObject(store_uri, ctx=ctx)
    rows: list[Any] = []
    for name in store.collection_names:
        if collections is None or name in collections:
            obs = store.collection(name).to_obs().reset_index()
            obs = obs.loc[obs["arrival"].isin(list(arrivals))].drop(columns=list(_NO_CONTENT))
            # a column that no volume of these arrivals has may have come with another one
            rows.extend(
                {"collection": name, **{key: value for key, value in row.items() if not pd.isna(value)}}
                for row in obs.to_dict(orient="records")
            )
    return data_version_of(rows)


def counted(counts: Mapping[str, int]) -> pd.DataFrame:
    """Counts as a table of two columns."""
    import pandas as pd

    return pd.DataFrame({"what": list(counts), "count": list(counts.values())})


def _column_type(values: pd.Series) -> str:
    import pandas as pd

    if pd.api.types.is_bool_dtype(values):
        return "bool"
    if pd.api.types.is_integer_dtype(values):
        return "int"
    return "float" if pd.api.types.is_float_dtype(values) else "string"


def _cell(value: Any) -> str | int | float | bool | None:
    import pandas as pd

    if value is None or (isinstance(value, float) and value != value) or value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    return value if isinstance(value, (str, int, float, bool)) else str(value)
