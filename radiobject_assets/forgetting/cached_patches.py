"""Patch caches that hold voxels of a person: removed whole, since they are cut again from the store.

A shard holds the patches of many, and caches share shards by links: a cache whose own index has never named
the person may still have their voxels in a shard that it took over. So a cache goes when its index names
them, when it shares a shard with one that does, or when one of its shards has rows that its index does not
say whose they are.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from radiobject_assets.errors import StorageError
from radiobject_assets.forgetting.traces import Traces
from radiobject_assets.training.cache.cache_reading import PatchCache


@dataclass(frozen=True)
class _Held:
    shards: frozenset[str]
    is_theirs: bool
    has_unknown: bool


def caches_with(folder: Path, traces: Traces) -> list[Path]:
    """Folders of the patch caches below `folder` that hold, or may hold, voxels of a person.

    Also what a build that was ended has left, and caches that can't be read.
    """
    split_folders = [path for path in sorted(folder.glob("*")) if path.is_dir()]
    everything = [path for split in split_folders for path in sorted(split.iterdir()) if path.is_dir()]
    held: dict[Path, _Held] = {}
    for path in everything:
        if path.name.startswith("patches-"):
            try:
                held[path] = _held(PatchCache(path), traces)
            except (StorageError, OSError, ValueError):
                held[path] = _Held(frozenset(), is_theirs=True, has_unknown=True)
        else:
            held[path] = _Held(frozenset(), is_theirs=True, has_unknown=True)
    if not any(one.is_theirs for one in held.values()):
        # somebody's voxels may be left in a shard from a cache that is gone
        return [path for path, one in held.items() if one.has_unknown]
    theirs = {name for one in held.values() if one.is_theirs for name in one.shards}
    return [
        path
        for path, one in held.items()
        if one.is_theirs or one.has_unknown or not theirs.isdisjoint(one.shards)
    ]


def _held(cache: PatchCache, traces: Traces) -> _Held:
    subjects = set(cache.index.column("obs_subject_id").to_pylist())
    said = Counter(cache.index.column("shard").to_pylist())
    return _Held(
        frozenset(shard.name for shard in cache.meta.shards),
        any(map(traces.is_theirs, subjects)),
        any(said[shard.name] != shard.rows for shard in cache.meta.shards),
    )


def remove_caches(folder: Path, traces: Traces) -> int:
    """Remove these patch caches; returns how many."""
    found = caches_with(folder, traces)
    for path in found:
        shutil.rmtree(path)
    return len(found)
