"""The store as it is, by its public API: a collection without voxels, rows by `commit_volumes`."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import tiledb

from benchmarks.table_designs.design import Place
from benchmarks.table_designs.rows import KEY, SCHEMA, SUBJECT
from radiobject_assets.store import (
    RadiObject,
    RadiObjectConfig,
    S3Config,
    StagedVolume,
    commit_volumes,
    consolidate,
    create_snapshot,
    delete_subjects,
    ensure_collection,
    ensure_store,
    ensure_subjects,
    make_ctx,
    vacuum,
)

_FREE = SCHEMA.names[SCHEMA.get_field_index("manufacturer") :]
_GIVEN = ("modality", "series_uid", "study_uid", "arrival", "source_digest", *_FREE)


class WholeStore:
    """The collection `ct` of a store."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._ctx: tiledb.Ctx = make_ctx()
        if place.on_s3:
            keys = {
                "vfs.s3.aws_access_key_id": place.access_key,
                "vfs.s3.aws_secret_access_key": place.secret_key,
            }
            s3 = S3Config(endpoint=place.endpoint, use_virtual_addressing=False)
            self._ctx = make_ctx(RadiObjectConfig(s3=s3), **keys)

    def _open(self, snapshot: str | None = None) -> Any:
        return RadiObject(self.place.uri, self._ctx, timestamp=snapshot)

    def create(self, rows: pa.Table) -> None:
        ensure_store(self.place.uri, self._ctx)
        self.put(rows)

    def put(self, rows: pa.Table, *, new: bool = True) -> None:
        images = ensure_collection(self.place.uri, "ct", self._ctx)
        found = rows.to_pylist()
        if new:
            ensure_subjects(self.place.uri, sorted({row[SUBJECT] for row in found}), self._ctx)
        commit_volumes(images, [_staged(row) for row in found], self._ctx)

    def delete(self, keys: list[str]) -> None:
        self._open().ct.delete(keys)

    def snapshot(self, name: str) -> None:
        create_snapshot(self.place.uri, name, self._ctx)

    def read(self, snapshot: str | None = None) -> pa.Table:
        frame = self._open(snapshot).ct.obs.read()
        kept = [name for name in SCHEMA.names if name in frame.columns and name != "written_at"]
        return pa.Table.from_pandas(frame[kept], preserve_index=False)

    def count(self) -> int:
        return len(self._open().ct)

    def at_least(self, column: str, low: float) -> int:
        return len(self._open().ct.filter(f"{column} >= {low}"))

    def compact(self) -> None:
        consolidate(self.place.uri, self._ctx)

    def vacuum(self) -> None:
        vacuum(self.place.uri, self._ctx)

    def forget(self, subject: str) -> None:
        delete_subjects(self.place.uri, [subject], self._ctx)


def _staged(row: dict[str, Any]) -> StagedVolume:
    """A row as `commit_volumes` takes it."""
    return StagedVolume(
        token=row["volume"],
        obs_id=row[KEY],
        obs_subject_id=row[SUBJECT],
        shape=(row["size_x"], row["size_y"], row["size_z"]),
        dtype=row["dtype"],
        affine=tuple(tuple(row[f"affine_{i}{j}"] for j in range(4)) for i in range(3)),
        slope=row["slope"],
        intercept=row["intercept"],
        orientation_source=row["orientation_source"],
        voxel_digest=row["voxel_digest"],
        voxel_bytes=row["voxel_bytes"],
        stored_bytes=row["stored_bytes"],
        attributes={name: row[name] for name in _GIVEN if row[name] is not None},
    )
