"""What a store holds, in words and numbers that fit on a page; read without pandas, which loads longer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from radiobject_assets.store.format.layout import (
    FORMAT_VERSION,
    SIZE_COLUMNS,
    STORE_FORMAT,
    CollectionEntry,
    check_format,
    list_collections,
)
from radiobject_assets.store.format.obs_table import obs_table
from radiobject_assets.store.format.snapshots import list_snapshots
from radiobject_assets.store.format.subject_rows import subjects_table
from radiobject_assets.store.names import SUBJECT
from radiobject_assets.store.storage.context import get_tiledb_ctx
from radiobject_assets.store.storage.uris import normalise

_READ = ("kind", "dtype", "modality", "voxel_bytes", "stored_bytes", "ndim", *SIZE_COLUMNS)


def store_contents(uri: str) -> dict[str, Any]:
    """What a store holds: subjects, collections with shapes and sizes, snapshots. JSON-ready.

    Raises
    ------
    StorageError
        There is no store at `uri`.
    """
    where, ctx = normalise(uri), get_tiledb_ctx()
    check_format(where, ctx, STORE_FORMAT)
    subjects = subjects_table(where, ctx)
    return {
        "uri": uri,
        "format_version": FORMAT_VERSION,
        "n_subjects": subjects.read([]).num_rows,
        "subject_columns": [name for name in subjects.columns if name not in subjects.index],
        "collections": [_describe_collection(entry) for entry in list_collections(where, ctx)],
        "snapshots": [
            {
                "name": snapshot.name,
                "created_at": datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).isoformat(),
                "timestamp_ms": snapshot.timestamp_ms,
                "counts": dict(snapshot.counts),
                "digest": snapshot.digest,
            }
            for snapshot in list_snapshots(where, ctx)
        ],
    }


def _describe_collection(entry: CollectionEntry) -> dict[str, Any]:
    obs = obs_table(entry.uri, get_tiledb_ctx()).read(_READ)

    def values(name: str) -> list[Any]:
        return [value for value in obs.column(name).to_pylist() if value is not None]

    sizes = zip(*(obs.column(name).to_pylist() for name in SIZE_COLUMNS), strict=True)
    shapes = {size[:ndim] for size, ndim in zip(sizes, obs.column("ndim").to_pylist(), strict=True)}
    return {
        "name": entry.name,
        "kinds": sorted(set(values("kind"))),
        "n_volumes": obs.num_rows,
        "n_subjects": len(set(values(SUBJECT))),
        "shapes": [list(shape) for shape in sorted(shapes)],
        "dtypes": sorted(set(values("dtype"))),
        "modalities": sorted(set(values("modality"))),
        "voxel_bytes": sum(values("voxel_bytes")),
        "stored_bytes": sum(values("stored_bytes")),
    }
