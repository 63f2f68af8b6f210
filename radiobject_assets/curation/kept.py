"""The manifests of a store's snapshots, kept beside it: one for each, made anew when it is behind.

A manifest is behind when somebody was erased (the snapshot has another digest since: what the manifest said
of the person goes with them), when subjects were divided otherwise, or when settings changed. Nothing in it
can be told from anything but its snapshot, so nothing is lost by making it anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from radiobject_assets.curation.making import write_manifest
from radiobject_assets.curation.manifest import Digests, Header, Manifest
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import SchemaError
from radiobject_assets.store import Storage, TileDBContext, list_snapshots, whole_state
from radiobject_assets.system.temporary import temporary_folder

FOLDER = "manifests"
_CHUNK = 8 << 20


def manifest_name(snapshot: str) -> str:
    """Where the manifest of a snapshot lies among the tables. A name may have any letters: it is digested."""
    return f"{FOLDER}/{hashlib.blake2b(snapshot.encode(), digest_size=8).hexdigest()}.jsonl"


def keep_manifest(
    storage: Storage,
    store_uri: str,
    snapshot: str,
    *,
    splits: Mapping[str, str] | None = None,
    settings: DatasetSettings | None = None,
    ctx: TileDBContext | None = None,
) -> tuple[Header, Digests]:
    """Write the manifest of a snapshot into the storage of tables, in place of an earlier one of it."""
    with temporary_folder() as folder:
        path = folder / "manifest"
        state = whole_state(store_uri, snapshot, ctx)
        header, digests = write_manifest(state, path, splits=splits, settings=settings)
        storage.write_file(manifest_name(snapshot), path)
    return header, digests


@contextmanager
def kept_manifest(storage: Storage, snapshot: str) -> Iterator[Manifest | None]:
    """The manifest that is kept of a snapshot, for the length of the block; None where there is none."""
    name = manifest_name(snapshot)
    if not storage.exists(name):
        yield None
        return
    with temporary_folder() as folder:
        path = folder / "manifest"
        with path.open("wb") as file:
            while part := storage.range(name, file.tell(), _CHUNK):
                file.write(part)
        yield Manifest(path)


def renew_manifests(
    storage: Storage,
    store_uri: str,
    *,
    splits: Mapping[str, str] | None = None,
    settings: DatasetSettings | None = None,
    ctx: TileDBContext | None = None,
) -> int:
    """Make the kept manifests anew whose snapshot has changed, because somebody was erased, and remove those
    of snapshots that are gone; how many there were.

    Called after every erasure: then nothing is left of the person, not even digests.
    """
    present = {manifest_name(one.name): one for one in list_snapshots(store_uri, ctx)}
    changed = 0
    for entry in storage.list(FOLDER):
        snapshot = present.get(entry.path)
        if snapshot is None:
            storage.remove(entry.path)
            changed += 1
            continue
        if _digest_in(storage, snapshot.name) != snapshot.digest:
            keep_manifest(storage, store_uri, snapshot.name, splits=splits, settings=settings, ctx=ctx)
            changed += 1
    return changed


def _digest_in(storage: Storage, snapshot: str) -> str | None:
    try:
        with kept_manifest(storage, snapshot) as manifest:
            return None if manifest is None else manifest.header.snapshot_digest
    except SchemaError:
        return None
