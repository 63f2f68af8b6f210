"""What a store has to be tidied of: tables in many files, and files that killed writers staged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from radiobject_assets.store.format.layout import STORE_FORMAT, Context, check_format, store_log
from radiobject_assets.store.log.segments import LARGEST
from radiobject_assets.store.storage.uris import normalise


@dataclass(frozen=True)
class Untidy:
    """What `consolidate` and `vacuum` would do something about."""

    small_segments: Mapping[str, int]
    """By folder of a table: files of rows that `consolidate` would merge into one."""
    left_overs: tuple[str, ...]
    """Files that were staged and never got their names, by their paths under the root."""


def untidiness(uri: str | os.PathLike[str], ctx: Context = None, grace_s: float = 86_400.0) -> Untidy:
    """Look for what a store should be tidied of; nothing is changed.

    Parameters
    ----------
    grace_s
        Seconds for which a staged file is left alone: somebody may be writing it.

    Raises
    ------
    StorageError
        There is no store.
    """
    where = normalise(uri)
    state = check_format(where, ctx, STORE_FORMAT)
    small = {
        name: count
        for name, table in state.tables.items()
        if (count := sum(segment.rows < LARGEST // 2 for segment in table.segments)) > 1
    }
    left = store_log(where, ctx).storage.leftovers(max(grace_s, 3600.0))
    return Untidy(small, tuple(entry.path for entry in left))
