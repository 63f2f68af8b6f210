"""Named snapshots: a state of the store that is kept, which training pins.

A snapshot is an entry of the log: a name, the manifest of a state with its digest, counts, and a digest over
what was there. Nothing is copied; arrays never change once written and vacuum keeps those that it needs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from radiobject_assets.errors import StorageError
from radiobject_assets.store.format.layout import STORE_FORMAT, Context, check_format, open_state, store_log
from radiobject_assets.store.log.commit_log import now_ms
from radiobject_assets.store.log.compaction import compact_all_if_many
from radiobject_assets.store.log.description import counts_and_digest
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.state import SnapshotEntry, State
from radiobject_assets.store.storage.uris import normalise


@dataclass(frozen=True)
class Snapshot:
    """A store at one moment."""

    name: str
    timestamp_ms: int
    counts: Mapping[str, int]
    """Volumes by collection, and `subjects`."""
    digest: str
    """BLAKE3 over subjects, ids and voxel digests: equal digests mean equal data."""


def create_snapshot(store_uri: str | os.PathLike[str], name: str, ctx: Context = None) -> Snapshot:
    """Name the present state of a store.

    Raises
    ------
    StorageError
        If the store has a snapshot of that name with other contents; the same contents give the old one.
    """
    where = normalise(store_uri)
    if not name or len(name) > 200 or not name.isprintable():
        raise StorageError(f"snapshot name {name!r}: use 1-200 printable characters")
    state = check_format(where, ctx, STORE_FORMAT)
    described: dict[object, tuple[dict[str, int], str]] = {}

    def name_state(draft: Draft) -> None:
        base = draft.base
        counts, digest = described.get(base.number) or counts_and_digest(draft.storage, base)
        described[base.number] = counts, digest
        existing = base.snapshots.get(name)
        if existing is not None:
            if existing.digest == digest:
                return
            raise StorageError(f"{where} already has a snapshot {name!r} of other data: choose another name")
        made = SnapshotEntry(base.number, base.digest, base.committed_ms, digest, counts, now_ms())
        draft.with_entry("snapshots", {name: made})

    log = store_log(where, ctx)
    state = log.commit("snapshot", name_state, start=state)
    compact_all_if_many(log, state)
    return _snapshot(name, state.snapshots[name])


def delete_snapshot(store_uri: str | os.PathLike[str], name: str, ctx: Context = None) -> None:
    """Forget a snapshot: the state it kept may be vacuumed like any other.

    Raises
    ------
    StorageError
        If there is none of that name.
    """
    where = normalise(store_uri)

    def forget(draft: Draft) -> None:
        if name not in draft.base.snapshots:
            names = ", ".join(map(repr, draft.base.snapshots)) or "none"
            raise StorageError(f"{where} has no snapshot {name!r}; there are {names}")
        draft.set(snapshots={n: entry for n, entry in draft.base.snapshots.items() if n != name})

    store_log(where, ctx).commit("delete snapshot", forget)


def _snapshot(name: str, entry: SnapshotEntry) -> Snapshot:
    return Snapshot(name, entry.timestamp_ms, entry.counts, entry.digest)


def list_snapshots(store_uri: str | os.PathLike[str], ctx: Context = None) -> list[Snapshot]:
    """Snapshots of a store, oldest first."""
    state = check_format(normalise(store_uri), ctx, STORE_FORMAT)
    found = [_snapshot(name, entry) for name, entry in state.snapshots.items()]
    return sorted(found, key=lambda snapshot: (snapshot.timestamp_ms, snapshot.name))


def describe_state(
    store_uri: str, moment: int | str | None = None, ctx: Context = None
) -> tuple[dict[str, int], str]:
    """Counts and digest of a store at a moment; see `log.description.counts_and_digest`."""
    log = store_log(store_uri, ctx)
    state: State = open_state(store_uri, ctx, STORE_FORMAT, moment)
    return counts_and_digest(log.storage, state)
