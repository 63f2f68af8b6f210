"""Named snapshots: a store as it was at one moment, which training pins.

A snapshot is a row: a name, a TileDB timestamp, counts, and a digest over what was there. Nothing is
copied; arrays never change once written and vacuum keeps those that a snapshot needs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import tiledb
from blake3 import blake3

from radiobject_assets.errors import StorageError
from radiobject_assets.store.columns import ColumnType
from radiobject_assets.store.consolidation import consolidate_if_many
from radiobject_assets.store.context import ctx_for_threads
from radiobject_assets.store.layout import (
    COLLECTIONS,
    OBS,
    OBS_CORE,
    OBS_META,
    SNAPSHOT_CORE,
    SNAPSHOTS,
    STORE_FORMAT,
    check_format,
    list_collections,
)
from radiobject_assets.store.pins import PINNED, commits_of, late, lost, newest_stamp, pin, settle
from radiobject_assets.store.table import Table, now_ms
from radiobject_assets.store.uris import join, last_part, normalise

_ATTEMPTS = 20
# How far the clock of this machine may be behind that of another writer: so long a snapshot waits.
_BEHIND_S = 5.0


@dataclass(frozen=True)
class Snapshot:
    """A store at one moment."""

    name: str
    timestamp_ms: int
    counts: Mapping[str, int]
    """Volumes by collection, and `subjects`."""
    digest: str
    """BLAKE3 over subjects, ids and voxel digests: equal digests mean equal data."""


def create_snapshot(store_uri: str | os.PathLike[str], name: str, ctx: tiledb.Ctx | None = None) -> Snapshot:
    """Name the present state of a store, and merge the fragments of tables that have gathered many.

    Raises
    ------
    StorageError
        If the store has a snapshot of that name with other contents; the same contents give the old one.
    """
    store_uri, ctx = normalise(store_uri), ctx_for_threads(ctx)
    check_format(store_uri, ctx, STORE_FORMAT)
    if not name or len(name) > 200 or not name.isprintable():
        raise StorageError(f"snapshot name {name!r}: use 1-200 printable characters")
    timestamp = _moment(store_uri, ctx)
    counts, digest, pinned = _describe_and_pin(store_uri, timestamp, ctx)
    existing = find_snapshot(store_uri, name, ctx)
    if existing is not None:
        if existing.digest == digest:
            return existing
        raise StorageError(f"{store_uri} already has a snapshot {name!r} of other data: choose another name")
    rows = pa.table(
        {
            "name": pa.array([name], pa.large_string()),
            "timestamp_ms": pa.array([timestamp], pa.int64()),
            "digest": pa.array([digest], pa.large_string()),
            "counts": pa.array([json.dumps(counts, ensure_ascii=False)], pa.large_string()),
            "created_at": pa.array([now_ms()], pa.int64()).cast(ColumnType.TIME_MS.arrow),
            PINNED: pa.array([json.dumps(pinned)], pa.large_string()),
        }
    )
    while now_ms() <= timestamp:  # the row tells writers, by its stamp, whether they need to look
        time.sleep(0.001)
    Table(join(store_uri, SNAPSHOTS), ctx, SNAPSHOT_CORE).upsert(rows)
    for path in pinned:
        settle(join(store_uri, path), ctx)
    for path in (*pinned, SNAPSHOTS):
        consolidate_if_many(join(store_uri, path), ctx)
    return Snapshot(name, timestamp, counts, digest)


def _moment(store_uri: str, ctx: tiledb.Ctx) -> int:
    """The present by the clocks of all writers: not before what is there already."""
    newest = max(newest_stamp(join(store_uri, path), ctx) for path in _tables(store_uri, None, ctx))
    behind_s = (newest - now_ms()) / 1000
    if behind_s > _BEHIND_S:
        raise StorageError(
            f"{store_uri} has a commit {behind_s:.0f} s in the future: set the clocks of the writers right"
        )
    return max(newest, now_ms())


def _tables(store_uri: str, timestamp: int | None, ctx: tiledb.Ctx) -> list[str]:
    collections = [entry.uri for entry in list_collections(store_uri, ctx, timestamp)]
    return [OBS_META, *(f"{COLLECTIONS}/{last_part(uri)}/{OBS}" for uri in collections)]


def _describe_and_pin(
    store_uri: str, timestamp: int, ctx: tiledb.Ctx
) -> tuple[dict[str, int], str, dict[str, list[str]]]:
    """Counts, digest and commits of one state: what lands while it is read makes it be read again."""
    for _ in range(_ATTEMPTS):
        paths = _tables(store_uri, timestamp, ctx)
        for path in paths:
            settle(join(store_uri, path), ctx)
        pinned = pin(store_uri, paths, timestamp, ctx)
        counts, digest = describe_state(store_uri, timestamp, ctx)
        if pinned == pin(store_uri, _tables(store_uri, timestamp, ctx), timestamp, ctx):
            return counts, digest, pinned
    raise StorageError(f"{store_uri} does not come to rest: other processes keep merging its tables")


def pins_of(store_uri: str, timestamp: int, ctx: tiledb.Ctx) -> str:
    """The commits of the store at a moment, as a snapshot keeps them."""
    return json.dumps(pin(store_uri, _tables(store_uri, timestamp, ctx), timestamp, ctx))


def check_pins(store_uri: str, name: str, ctx: tiledb.Ctx) -> None:
    """Make sure that a snapshot shows what it showed when it was made.

    Raises
    ------
    StorageError
        Where a writer that died landed in it afterwards, or something of it is gone.
    """
    table = Table(join(store_uri, SNAPSHOTS), ctx, SNAPSHOT_CORE)
    if PINNED not in table.columns:
        return
    (row,) = table.read(["timestamp_ms", PINNED], keys=[[name]]).to_pylist()
    pinned: dict[str, list[str]] = json.loads(row[PINNED] or "{}")
    for attempt in range(_ATTEMPTS):
        wrong = ""
        for path, names in pinned.items():
            there = commits_of(join(store_uri, path), ctx)
            if late(there, row["timestamp_ms"], names):
                wrong = f"a commit landed in {path} after it was made; `consolidate` stamps it anew"
            elif lost(there, names):
                wrong = f"a commit of {path} is gone"
        if not wrong:
            return
        time.sleep(0.006 * attempt)  # a writer at work sees to it, and a merge ends
    raise StorageError(f"snapshot {name!r} of {store_uri} is not what it was: {wrong}")


def list_snapshots(store_uri: str | os.PathLike[str], ctx: tiledb.Ctx | None = None) -> list[Snapshot]:
    """Snapshots of a store, oldest first."""
    store_uri, ctx = normalise(store_uri), ctx_for_threads(ctx)
    check_format(store_uri, ctx, STORE_FORMAT)
    rows = Table(join(store_uri, SNAPSHOTS), ctx, SNAPSHOT_CORE).read().to_pylist()
    found = [Snapshot(r["name"], r["timestamp_ms"], json.loads(r["counts"]), r["digest"]) for r in rows]
    return sorted(found, key=lambda snapshot: (snapshot.timestamp_ms, snapshot.name))


def find_snapshot(store_uri: str, name: str, ctx: tiledb.Ctx) -> Snapshot | None:
    """The snapshot with this name, or None."""
    return next((s for s in list_snapshots(store_uri, ctx) if s.name == name), None)


def resolve_timestamp(store_uri: str, timestamp: int | str | None, ctx: tiledb.Ctx) -> int | None:
    """Milliseconds since 1970 that a timestamp or snapshot name means."""
    if timestamp is None or isinstance(timestamp, int):
        return timestamp
    snapshot = find_snapshot(store_uri, timestamp, ctx)
    if snapshot is None:
        names = ", ".join(repr(s.name) for s in list_snapshots(store_uri, ctx)) or "none"
        raise StorageError(f"{store_uri} has no snapshot {timestamp!r}; there are {names}")
    check_pins(store_uri, timestamp, ctx)
    return snapshot.timestamp_ms


def describe_state(store_uri: str, timestamp: int | None, ctx: tiledb.Ctx) -> tuple[dict[str, int], str]:
    """Counts and digest of a store at a moment.

    The digest covers, for each collection by name, every row's subject, id, voxel digest, affine and
    rescale, and the subjects' table; not tokens, times or compression, so that a copy has the same.
    """
    digest = blake3()
    subjects = Table(join(store_uri, OBS_META), ctx, timestamp=timestamp).read()
    _hash_table(digest, "subjects", subjects)
    counts = {"subjects": subjects.num_rows}
    left_out = {"volume", "stored_bytes", "written_at", "writer_version", "arrival"}
    for entry in list_collections(store_uri, ctx, timestamp):
        table = Table(join(entry.uri, OBS), ctx, OBS_CORE, timestamp)
        rows = table.read([name for name in table.columns if name not in left_out])
        counts[entry.name] = rows.num_rows
        _hash_table(digest, f"collection {entry.name}", rows)
    return counts, f"blake3:{digest.hexdigest()}"


def _hash_table(digest: blake3, title: str, rows: pa.Table) -> None:
    digest.update(f"{title}\n{rows.num_rows}\n".encode())
    for name in sorted(rows.column_names):
        column = rows.column(name).combine_chunks()
        if column.null_count == len(column):
            continue  # a column without any value is as good as none
        text = "\x1f".join("\x00" if v is None else f"{type(v).__name__}:{v!r}" for v in column.to_pylist())
        digest.update(f"{name}\n{text}\n".encode())
