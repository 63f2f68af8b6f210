"""Older patch caches: which may go, and what they give back."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

from radiobject_assets.training.cache.cache_format import META_FILE


def superseded(folder: Path, *, current: Collection[Path], before_s: float) -> list[Path]:
    """The caches of one split that a newer one has replaced before a moment.

    Parameters
    ----------
    folder
        With one sub-folder a cache (`build_patch_cache`'s `out_dir`).
    current
        Caches that are in use, however old: the latest that was asked for may have been there before.
    before_s
        Seconds since the epoch. It counts when the newer one was made, not when the older one was: somebody
        may still be training on what was the latest an hour ago.
    """
    made = sorted((meta.stat().st_mtime, meta.parent) for meta in folder.glob(f"patches-*/{META_FILE}"))
    kept = {path.resolve() for path in current}
    return [
        old for (_, old), (newer_s, _) in pairwise(made) if newer_s < before_s and old.resolve() not in kept
    ]


def evict_caches(caches: Collection[Path]) -> int:
    """Remove caches; returns the bytes that this gives back. Shards that another cache shares give none."""
    freed = 0
    for cache in caches:
        freed += sum(file.stat().st_size for file in cache.iterdir() if file.stat().st_nlink == 1)
        # a cache that was removed in part is none: it loses its name first
        gone = cache.with_name(f".{cache.name}.evicted")
        for left in cache.parent.glob(".*.evicted"):  # of whoever was killed here
            shutil.rmtree(left, ignore_errors=True)
        cache.rename(gone)
        shutil.rmtree(gone)
    return freed
