"""The small tables that the next run needs, whole files beside the store: they outlive a lost work folder.

They name files and subjects: where they lie is as confidential as the landing zone.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radiobject_assets.errors import StorageError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from radiobject_assets.store import Storage


TRIES = 30
_PAUSE_S = 0.05


def change_file(storage: Storage, name: str, change: Callable[[bytes | None], bytes | None]) -> bool:
    """Put what `change` makes of a file into its place, unless another process did meanwhile; then again.

    Parameters
    ----------
    change
        Gets None where there is no file. If it gives back None, or what it got, nothing is written.

    Returns
    -------
    False: others were faster every time.
    """
    from radiobject_assets.store import MissingError

    for number in range(TRIES):
        version = None
        content: bytes | None = None
        with suppress(MissingError):
            content, version = storage.read_version(name)
        made = change(content)
        if made is None or made == content:
            return True
        if storage.publish(name, made) if version is None else storage.replace(name, made, version):
            return True
        time.sleep(random.random() * _PAUSE_S * (number + 1))
    return False


@dataclass(frozen=True)
class WorkingTables:
    """Tables and texts by name, each read and written whole.

    What one process alone makes anew is put (`put_frame`...); what is made of what is there is changed
    (`change_frame`, `change_text`), since runs, checks and people are at work at the same time.

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

    def copies(self, arrival: str, collection: str) -> str:
        """A mark that images of an arrival are copies of another's volumes (its outcomes say which)."""
        return f"arrivals/{arrival}/copies-{collection}"

    def verified(self, collection: str) -> str:
        """When each volume of a collection was last verified, and what was found."""
        return f"verified/{collection}.parquet"

    waiting_folder = "waiting"
    """Of labels that wait, and nothing else: each tick looks here, however many arrivals there are."""
    snapshot = "snapshot.json"
    """Description of the latest snapshot."""
    read_performance = "read_performance.json"
    """What reading took, as multiples of a plain read, at the last checks."""
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

    def change_frame(self, name: str, change: Callable[[pd.DataFrame | None], pd.DataFrame]) -> None:
        """Make a table of what it is, so that nothing is undone that another process writes meanwhile.

        Parameters
        ----------
        change
            Called with the table as it is (None: there is none); called again, on what is there then, if
            another process was faster.

        Raises
        ------
        StorageError
            Others were faster every time.
        """
        import pandas as pd

        def changed(content: bytes | None) -> bytes:
            file = io.BytesIO()
            change(None if content is None else pd.read_parquet(io.BytesIO(content))).to_parquet(file)
            return file.getvalue()

        self._change(name, changed)

    def change_text(self, name: str, change: Callable[[str | None], str]) -> None:
        """As `change_frame`, of a text."""
        self._change(
            name, lambda content: change(None if content is None else content.decode("utf-8")).encode("utf-8")
        )

    def _change(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        if not change_file(self.storage, name, change):
            raise StorageError(
                f"{self.where(name)}: other processes changed it {TRIES} times while this one wanted to; "
                "see which runs are at work on this data set, then run this again"
            )

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
