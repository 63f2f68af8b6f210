"""What every materialization tells: time, memory against the budget, tables. Never who a patient is.

Dagster shows metadata in the order in which it is given: first what happened in words, then the picture, the
counts, the tables, and last what it took. Whole numbers and floats are plotted over time, by name.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.system.resource_monitor import ResourceMonitor

if TYPE_CHECKING:
    import pandas as pd

    from radiobject_assets.store import TileDBContext

SAMPLE_ROWS = 20


@dataclass
class Measurement:
    """Time and memory of one materialization; complete when its `with` block has ended."""

    budget: MemoryBudget
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    grown_mb: float = 0.0
    peaks: Mapping[str, float] = field(default_factory=dict)
    """The most of each figure of a `ResourceSample`."""

    @property
    def taken(self) -> dict[str, float]:
        """The time alone: of a check, whose memory is that of what it looks at."""
        return {"seconds": round(self.seconds, 3)}

    def metadata(self) -> dict[str, Any]:
        """What Dagster plots over time, what was taken beside the budget, and which memory that is.

        The peak of the process tree is told in words alone: as a figure beside the budget it looked like a
        breach, although most of it are interpreters and libraries, which no budget counts.
        """
        return {
            **self.taken,
            "memory": f"{self.grown_mb:.0f} MB for the data, of a budget of {self.budget.total_mb} MB; with "
            f"interpreters and libraries, which the budget does not count, {self.peak_memory_mb:.0f} MB",
            "memory_above_idle_mb": self.grown_mb,
            "memory_budget_mb": self.budget.total_mb,
            "resources": self._resources(),
        }

    def _resources(self) -> str:
        """Everything else that was taken, in one line: rarely the trouble, so no plots of their own."""
        if not self.peaks:
            return "not measured"
        gpu = f", GPU {self.peaks['gpu_mb']:.0f} MB" if "gpu_mb" in self.peaks else ""
        return (
            f"{self.peaks['cpu_s']:.1f} s of processor time, {self.peaks['open_files']:.0f} open files, "
            f"{self.peaks['disk_read_mb']:.0f} MB read from disk, {self.peaks['disk_written_mb']:.0f} MB "
            f"written, {self.peaks['network_mb']:.0f} MB through the network, "
            f"{self.peaks['shared_memory_mb']:.0f} MB in /dev/shm{gpu}"
        )


@contextmanager
def measuring(budget: MemoryBudget) -> Iterator[Measurement]:
    """Measure the block: wall time, and the process tree's peak memory."""
    measurement = Measurement(budget)
    started = time.perf_counter()
    with ResourceMonitor() as peak:
        try:
            yield measurement
        finally:
            measurement.seconds = time.perf_counter() - started
    measurement.peak_memory_mb = peak.peak_mb
    measurement.grown_mb = peak.grown_mb
    measurement.peaks = peak.peaks()


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
            # the rows of these arrivals alone are read: an arrival costs the same however many came before
            obs = store.collection(name).with_values("arrival", arrivals).to_obs().reset_index()
            obs = obs.drop(columns=list(_NO_CONTENT))
            # a column that no volume of these arrivals has may have come with another one
            rows.extend(
                {"collection": name, **{key: value for key, value in row.items() if not pd.isna(value)}}
                for row in obs.to_dict(orient="records")
            )
    return data_version_of(rows)


def with_unit(n_bytes: float) -> str:
    """Bytes as people read them: `860 kB`, `1.2 GB`."""
    size, unit = float(n_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}" if size < 100 else f"{size:.0f} {unit}"


def megabytes(n_bytes: float) -> float:
    """Bytes for a plot."""
    return float(f"{n_bytes / 1e6:.4g}")


def unusual(counts: Mapping[str, int]) -> dict[str, int]:
    """Those counts that are not zero: what is mostly zero is shown when it is not."""
    return {name: count for name, count in counts.items() if count}


def some(count: int, noun: str, plural: str = "") -> str:
    """`1 file`, `2 files`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def in_words(counts: Mapping[str, int]) -> str:
    """`4 written, 1 series quarantined`: the counts that are not zero."""
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


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
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    if hasattr(value, "item"):
        value = value.item()
    return value if isinstance(value, (str, int, float, bool)) else str(value)
