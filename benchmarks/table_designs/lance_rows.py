"""Rows as a Lance data set (`pylance`, not a dependency of ours), tags as snapshots: design c."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import lance
import pyarrow as pa

from benchmarks.table_designs.design import Place
from benchmarks.table_designs.rows import KEY, SUBJECT


class Lance:
    """The table."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def _open(self, version: str | None = None) -> Any:
        return lance.dataset(self.place.uri, version=version, storage_options=self.place.rust_options)

    def create(self, rows: pa.Table) -> None:
        lance.write_dataset(rows, self.place.uri, storage_options=self.place.rust_options)

    def put(self, rows: pa.Table, *, new: bool = True) -> None:
        if new:
            options = self.place.rust_options
            lance.write_dataset(rows, self.place.uri, mode="append", storage_options=options)
            return
        merge = self._open().merge_insert(KEY)
        merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def delete(self, keys: list[str]) -> None:
        self._open().delete(f"{KEY} in ({', '.join(repr(key) for key in keys)})")

    def snapshot(self, name: str) -> None:
        table = self._open()
        table.tags.create(name, table.version)

    def read(self, snapshot: str | None = None) -> pa.Table:
        return self._open(snapshot).to_table()

    def count(self) -> int:
        return int(self._open().count_rows())

    def at_least(self, column: str, low: float) -> int:
        return int(self._open().count_rows(filter=f"{column} >= {low}"))

    def compact(self) -> None:
        self._open().optimize.compact_files()

    def vacuum(self, *, unverified: bool = False) -> None:
        # `delete_unverified`: left-overs of killed writers too, and what others are writing just now.
        self._open().cleanup_old_versions(
            timedelta(0), delete_unverified=unverified, error_if_tagged_old_versions=False
        )

    def forget(self, subject: str) -> None:
        self._open().delete(f"{SUBJECT} = '{subject}'")
        table = self._open()
        table.optimize.compact_files(materialize_deletions_threshold=0.0)
        for name in table.tags.list():  # a tagged version keeps its files, and the person
            table.tags.delete(name)
        self.vacuum(unverified=True)
