"""The small tables that the next run needs, whole files beside the store: they outlive a lost work folder.

They name files and subjects: where they lie is as confidential as the landing zone.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from radiobject_assets.store import Storage


@dataclass(frozen=True)
class WorkingTables:
    """Tables and texts by name, each read and written whole.

    A name is a path relative to the storage's root. The names that assets share are methods, here, once.
    """

    storage: Storage

    def scan(self, arrival: str) -> str:
        """The instances of an arrival: what `raw_dicom` found."""
        return f"arrivals/{arrival}/scan.parquet"

    def series(self, arrival: str) -> str:
        """The series of an arrival with their verdicts."""
        return f"arrivals/{arrival}/series.parquet"

    def outcomes(self, arrival: str, collection: str) -> str:
        """What became of an arrival's series of one collection."""
        return f"arrivals/{arrival}/outcomes-{collection}.parquet"

    def waiting(self, arrival: str, collection: str) -> str:
        """The arrival's labels of one collection that wait for their image; there only if some do."""
        return f"{self.waiting_folder}/{arrival}/{collection}.parquet"

    def verified(self, collection: str) -> str:
        """When each volume of a collection was last verified, and what was found."""
        return f"verified/{collection}.parquet"

    waiting_folder = "waiting"
    """Of labels that wait, and nothing else: each tick looks here, however many arrivals there are."""
    snapshot = "snapshot.json"
    """Description of the latest snapshot."""
    splits = "splits.parquet"
    """Everybody who was ever given a split."""

    def where(self, name: str) -> str:
        """URI of a table, for people."""
        return f"{self.storage.uri}/{name}"

    def has(self, name: str) -> bool:
        """Whether it is there."""
        return self.storage.exists(name)

    def below(self, folder: str) -> list[str]:
        """Names of all that lie in a folder and its folders, sorted."""
        return [entry.path for entry in self.storage.list(folder, recursive=True)]

    def arrow(self, name: str) -> pa.Table:
        """A table, as Arrow has it.

        Raises
        ------
        MissingError
            It has not been written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        return pq.read_table(pa.BufferReader(self.storage.read(name)))

    def frame(self, name: str) -> pd.DataFrame:
        """A table, as pandas has it.

        Raises
        ------
        MissingError
            It has not been written.
        """
        import pandas as pd

        return pd.read_parquet(io.BytesIO(self.storage.read(name)))

    def frames(self, names: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
        """Several tables, read together; what another process removed meanwhile is left out."""
        import pandas as pd

        from radiobject_assets.store import MissingError

        try:
            contents = list(zip(names, self.storage.read_many(names), strict=True))
        except MissingError:
            contents = [(name, self.storage.read(name)) for name in names if self.has(name)]
        for name, content in contents:
            yield name, pd.read_parquet(io.BytesIO(content))

    def text(self, name: str) -> str:
        """A text.

        Raises
        ------
        MissingError
            It has not been written.
        """
        return self.storage.read(name).decode("utf-8")

    def put_arrow(self, name: str, rows: pa.Table) -> None:
        """Write a table; an interrupted write leaves the old one."""
        import pyarrow.parquet as pq

        file = io.BytesIO()
        pq.write_table(rows, file)
        self.storage.write(name, file.getvalue())

    def put_frame(self, name: str, rows: pd.DataFrame) -> None:
        """Write a table; an interrupted write leaves the old one."""
        file = io.BytesIO()
        rows.to_parquet(file)
        self.storage.write(name, file.getvalue())

    def put_text(self, name: str, text: str) -> None:
        """Write a text; an interrupted write leaves the old one."""
        self.storage.write(name, text.encode("utf-8"))

    def remove(self, name: str) -> None:
        """Remove a table, if it is there."""
        self.storage.remove(name)
