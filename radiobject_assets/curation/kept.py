"""Manifests and cards of a store's snapshots, kept beside it: one for each, made anew when it is behind.

A manifest is behind when somebody was erased (the snapshot has another digest since: what the manifest said
of the person goes with them), when subjects were divided otherwise, or when settings changed. Nothing in it
can be told from anything but its snapshot, so nothing is lost by making it anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from radiobject_assets.curation.card import MANIFEST_FILE
from radiobject_assets.curation.cards import Cards, write_cards
from radiobject_assets.curation.difference import Difference, compare_manifests
from radiobject_assets.curation.manifest import Manifest
from radiobject_assets.curation.manifest_of_state import splits_in
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.store import Storage, TileDBContext, list_snapshots, whole_state
from radiobject_assets.system.temporary import temporary_folder

FOLDER = "manifests"
KEPT = 20
"""Snapshots whose manifests are kept: one of 100,000 volumes has 56 MB, and any is made anew by
`radiobject-assets manifest`."""
_HEADER_BYTES = 4 << 20


def manifest_name(snapshot: str) -> str:
    """Where the manifest of a snapshot lies among the tables. A name may have any letters: it is digested."""
    return f"{FOLDER}/{hashlib.blake2b(snapshot.encode(), digest_size=8).hexdigest()}.jsonl"


@dataclass(frozen=True)
class KeptSnapshot:
    """What is kept of a snapshot, and how it differs from the one before."""

    cards: Cards
    manifest: str
    """Name of the manifest among the tables."""
    before: str | None = None
    """The snapshot before, where there is one and its manifest is kept."""
    changes: Difference | None = None
    """Since then."""


def keep_snapshot(
    storage: Storage,
    store_uri: str,
    snapshot: str,
    *,
    before: str | None = None,
    splits: Mapping[str, str] | None = None,
    settings: DatasetSettings | None = None,
    ctx: TileDBContext | None = None,
) -> KeptSnapshot:
    """Write manifest and data cards of a snapshot into the storage of tables, in place of earlier ones of it.

    Parameters
    ----------
    before
        The snapshot to compare with.
    splits
        By subject id; None: those that obs_meta has at present.

    Raises
    ------
    StorageError
        There is no such snapshot, or storage can't be read or written.
    """
    name = manifest_name(snapshot)
    settings = settings or DatasetSettings()
    if splits is None:
        splits = splits_in(whole_state(store_uri, ctx=ctx))
    with temporary_folder() as folder:
        cards = write_cards(whole_state(store_uri, snapshot, ctx), folder, settings, splits=splits)
        manifest = folder / MANIFEST_FILE
        for file, suffix in (("README.md", ".md"), ("croissant.json", ".croissant.json")):
            storage.write_file(name.removesuffix(".jsonl") + suffix, folder / file)
        storage.write_file(name, manifest)  # last: whoever finds it takes its cards for written
        changes = None
        if before is not None:
            with kept_manifest(storage, before) as earlier:
                changes = None if earlier is None else compare_manifests(earlier, Manifest(manifest))
    return KeptSnapshot(cards, name, before, changes)


@contextmanager
def kept_manifest(storage: Storage, snapshot: str) -> Iterator[Manifest | None]:
    """The manifest that is kept of a snapshot, for the length of the block; None where there is none."""
    name = manifest_name(snapshot)
    if not storage.exists(name):
        yield None
        return
    with temporary_folder() as folder:
        path = folder / "manifest"
        path.write_bytes(storage.read(name))
        yield Manifest(path)


def stale_manifests(
    storage: Storage, store_uri: str, ctx: TileDBContext | None = None
) -> tuple[int, list[tuple[str, bool]]]:
    """How many manifests are kept, and those that `renew_manifests` would do something about: their names,
    and whether their snapshot is there.

    Raises
    ------
    StorageError
        The store, or what is kept, can't be read.
    """
    present = {manifest_name(one.name): one.digest for one in list_snapshots(store_uri, ctx)[-KEPT:]}
    kept = {entry.path for entry in storage.list(FOLDER)}
    names = sorted({_manifest_of(path) for path in kept})
    found = [
        (name, name in present)
        for name in names
        if name not in present or name not in kept or _digest_in(storage, name) != present[name]
    ]
    return len(names), found


def renew_manifests(
    storage: Storage,
    store_uri: str,
    *,
    splits: Mapping[str, str] | None = None,
    settings: DatasetSettings | None = None,
    ctx: TileDBContext | None = None,
) -> int:
    """Make the kept manifests anew whose snapshot has changed, because somebody was erased, and remove those
    of snapshots that are gone or older than the newest `KEPT`; how many there were.

    Called after every erasure: then nothing is left of the person, not even digests.
    """
    by_name = {manifest_name(one.name): one.name for one in list_snapshots(store_uri, ctx)}
    kept = [entry.path for entry in storage.list(FOLDER)]
    _, stale = stale_manifests(storage, store_uri, ctx)
    for name, is_there in stale:
        if is_there:
            keep_snapshot(storage, store_uri, by_name[name], splits=splits, settings=settings, ctx=ctx)
        else:
            for path in kept:
                if _manifest_of(path) == name:
                    storage.remove(path)
    return len(stale)


def _manifest_of(path: str) -> str:
    """The manifest that a file belongs to: cards lie beside theirs."""
    folder, _, file = path.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}.jsonl"


def _digest_in(storage: Storage, name: str) -> str | None:
    """The digest of its snapshot that a kept manifest notes; None where it can't be told."""
    line = storage.range(name, 0, _HEADER_BYTES).partition(b"\n")[0]
    try:
        return str(json.loads(line)["snapshot_digest"])
    except (ValueError, KeyError, TypeError):
        return None
