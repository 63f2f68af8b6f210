"""What became of the series of all arrivals, together: what has not changed since the last look is not read.

Each arrival keeps its outcomes in a file of its own, so that its cost does not grow with their number. A
standing check wants all of them every hour: ten thousand requests on S3. So they are gathered in one file of
this machine, with the stamp of each that it was made from; a listing says which are new. It may be lost.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from radiobject_assets.diagnostics.rule_registry import NO_OUTCOMES
from radiobject_assets.resources import WorkingTables
from radiobject_assets.system.durable_files import write_whole

if TYPE_CHECKING:
    import pandas as pd

_STAMPS = b"radiobject_stamps"
_ARRIVAL = "arrival"


@dataclass(frozen=True)
class CollectedOutcomes:
    """Outcomes of one collection."""

    rows: pd.DataFrame
    """Of every arrival, whose key is in the column `arrival`."""
    arrivals: tuple[str, ...]
    """Keys of the arrivals that kept outcomes, also where these have no row."""

    def by_arrival(self) -> Mapping[str, pd.DataFrame]:
        """The rows of each arrival, as it kept them."""
        none = self.rows.head(0).drop(columns=_ARRIVAL)
        found = {
            str(key): rows.drop(columns=_ARRIVAL).reset_index(drop=True)
            for key, rows in self.rows.groupby(_ARRIVAL, sort=False)
        }
        return {key: found.get(key, none) for key in self.arrivals}


def collect_outcomes(tables: WorkingTables, collection: str, work: Path) -> CollectedOutcomes:
    """Outcomes of all arrivals for one collection.

    Parameters
    ----------
    work
        Folder of this machine in which they are gathered.
    """
    import pandas as pd

    end = "/" + tables.outcomes("", collection).rpartition("/")[2]
    there = {
        entry.path: entry.stamp
        for entry in tables.storage.list("arrivals", recursive=True)
        if entry.path.endswith(end)
    }
    file = work / "collected" / end[1:]
    gathered, stamps = _read(file)
    unchanged = {name for name, stamp in there.items() if stamps.get(name) == stamp}
    if unchanged == stamps.keys() == there.keys():
        return CollectedOutcomes(gathered, tuple(map(_key, there)))
    kept = gathered[gathered[_ARRIVAL].isin([_key(name) for name in unchanged])]
    read = dict(tables.frames([name for name in there if name not in unchanged]))
    there = {name: stamp for name, stamp in there.items() if name in unchanged or name in read}
    parts = [kept, *(rows.assign(**{_ARRIVAL: _key(name)}) for name, rows in read.items())]
    parts = [part for part in parts if len(part)]
    rows = pd.concat(parts, ignore_index=True) if parts else _nothing()
    _write(file, rows, there)
    return CollectedOutcomes(rows, tuple(map(_key, there)))


def _key(name: str) -> str:
    return name.split("/")[1]


def _nothing() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: pd.Series(dtype="str") for name in NO_OUTCOMES})


def _read(file: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
        stamps: dict[str, str] = json.loads((table.schema.metadata or {})[_STAMPS])
    except (OSError, ValueError, KeyError):  # lost, or damaged: all are read once more
        return _nothing(), {}
    return table.to_pandas(), stamps


def _write(file: Path, rows: pd.DataFrame, stamps: Mapping[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(rows, preserve_index=False)
    told = {**(table.schema.metadata or {}), _STAMPS: json.dumps(stamps)}
    content = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(told), content)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, content.getvalue())
