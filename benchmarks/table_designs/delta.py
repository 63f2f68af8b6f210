"""Rows as a Delta table (`deltalake`, not a dependency of ours), versions as snapshots: design c."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.table_designs.design import Place
from benchmarks.table_designs.rows import KEY, SUBJECT


class Delta:
    """The table. Delta has no names for versions: a file beside the log keeps them."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def _open(self, version: int | None = None) -> Any:
        return deltalake.DeltaTable(self.place.uri, version, storage_options=self.place.rust_options)

    def _names(self) -> dict[str, int]:
        with contextlib.suppress(FileNotFoundError):
            return dict(json.loads((Path(self.place.uri) / "_names.json").read_text()))
        return {}

    def create(self, rows: pa.Table) -> None:
        self.put(rows)

    def put(self, rows: pa.Table, *, new: bool = True) -> None:
        if new:
            options = self.place.rust_options
            deltalake.write_deltalake(self.place.uri, rows, mode="append", storage_options=options)
            return
        merge = self._open().merge(rows, f"old.{KEY} = new.{KEY}", "new", "old")
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def delete(self, keys: list[str]) -> None:
        self._open().delete(f"{KEY} in ({', '.join(repr(key) for key in keys)})")

    def snapshot(self, name: str) -> None:
        names = {**self._names(), name: self._open().version()}
        (Path(self.place.uri) / "_names.json").write_text(json.dumps(names))

    def read(self, snapshot: str | None = None) -> pa.Table:
        return self._open(None if snapshot is None else self._names()[snapshot]).to_pyarrow_table()

    def count(self) -> int:
        return int(self._open().to_pyarrow_dataset().count_rows())

    def at_least(self, column: str, low: float) -> int:
        return int(self._open().to_pyarrow_dataset().count_rows(filter=pc.field(column) >= low))

    def compact(self) -> None:
        self._open().optimize.compact()

    def vacuum(self) -> None:
        kept = list(self._names().values())
        self._open().vacuum(0, False, False, keep_versions=kept or None)

    def forget(self, subject: str) -> None:
        self._open().delete(f"{SUBJECT} = '{subject}'")
        # `full`: left-overs of killed writers too, and what others are writing just now.
        self._open().vacuum(0, False, False, full=True)
        table = self._open()
        table.create_checkpoint()
        table.cleanup_metadata()
