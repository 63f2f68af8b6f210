"""What a named snapshot pins: the commits of every table at its moment; none can join or leave unseen.

TileDB stamps a commit before it is visible. A slow writer, or one whose clock is behind, can so land in a
moment that a snapshot has named already. Who publishes looks afterwards, on both sides: the snapshot's
maker lists the commits again when its row is there, and a writer reads the snapshots when its commit is
there. Whichever is last sees the other, and gives the late commit a stamp after the snapshot. Where both
died in between, opening the snapshot says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.checksums import note_fragments
from radiobject_assets.store.deadline import DeadlineError, on_storage
from radiobject_assets.store.evolution import one_at_a_time
from radiobject_assets.store.uris import join, last_part, list_names, new_token, walk_files

PINNED = "commits"
"""Column of the snapshots: JSON, names of commits by the table's path in the store."""

_COMMIT = re.compile(r"__(\d+)_(\d+)_[0-9a-f]+_\d+\.(?:wrt|del)")


@dataclass(frozen=True)
class Commit:
    """A fragment or a delete condition that is visible: one file under `__commits`."""

    name: str
    first: int
    last: int

    @property
    def merged(self) -> bool:
        """Whether it certainly came from others."""
        return self.first < self.last


def commits_of(table_uri: str, ctx: tiledb.Ctx) -> list[Commit]:
    """The commits of a table, one listing."""
    names = list_names(join(table_uri, "__commits"), ctx)
    found = [(name, _COMMIT.fullmatch(name)) for name in names]
    return [Commit(name, int(match[1]), int(match[2])) for name, match in found if match]


def newest_stamp(table_uri: str, ctx: tiledb.Ctx) -> int:
    """The latest stamp of a commit in milliseconds, 0 where there is none."""
    return max((commit.last for commit in commits_of(table_uri, ctx)), default=0)


def store_of(table_uri: str) -> tuple[str, str] | None:
    """The store that a table belongs to, and its path there; None for a table that stands elsewhere."""
    match = re.fullmatch(r"(.+?)/(obs_meta|collections/[^/]+/obs)", table_uri)
    return (match[1], match[2]) if match else None


def pin(store_uri: str, tables: Iterable[str], moment: int, ctx: tiledb.Ctx) -> dict[str, list[str]]:
    """The commits up to a moment (ms) of tables given by their paths in the store."""
    return {
        path: sorted(c.name for c in commits_of(join(store_uri, path), ctx) if c.last <= moment)
        for path in tables
    }


def late(commits: Sequence[Commit], moment: int, pinned: Sequence[str]) -> list[Commit]:
    """Commits that joined a moment after it was pinned."""
    there = {commit.name for commit in commits}
    # Two commits of one millisecond merge into one that looks like a plain one.
    replaced = {_COMMIT.fullmatch(name)[1] for name in pinned if name not in there}  # type: ignore[index]  # only such names are pinned
    return [
        commit
        for commit in commits
        if commit.last <= moment
        and not commit.merged
        and commit.name not in pinned
        and str(commit.first) not in replaced
    ]


def lost(commits: Sequence[Commit], pinned: Sequence[str]) -> list[str]:
    """Pinned commits that are neither there nor part of a merged one."""
    there = {commit.name for commit in commits}
    stamps = [(name, _COMMIT.fullmatch(name)) for name in pinned if name not in there]
    return [
        name
        for name, match in stamps
        if match and not any(c.first <= int(match[1]) and int(match[2]) <= c.last for c in commits)
    ]


def settle(table_uri: str, ctx: tiledb.Ctx, since_ms: int | None = None) -> int:
    """Give commits that are late for a snapshot a stamp after it; returns how many there were.

    With `since_ms`, only snapshots that could concern a commit begun at that time are read: for the others
    one listing is enough.
    """
    place = store_of(table_uri)
    if place is None:
        return 0
    from radiobject_assets.store.layout import SNAPSHOTS

    snapshots = join(place[0], SNAPSHOTS)
    newest = newest_stamp(snapshots, ctx)
    if newest == 0 or (since_ms is not None and newest < since_ms):
        return 0
    pinned = [(moment, record) for moment, record in _pins(snapshots, ctx) if record is not None]
    if not _late_for(table_uri, place[1], pinned, ctx):
        return 0
    with one_at_a_time(join(table_uri, "__fragments")):
        found = _late_for(table_uri, place[1], pinned, ctx)
        # Not after what was written since the snapshot: that shall still win.
        stamp = max(moment for moment, _ in pinned) + 1
        for number, commit in enumerate(found):
            try:
                _stamp_anew(table_uri, commit, stamp + number, ctx)
            except DeadlineError:
                raise
            except StorageError:
                # On S3 another process may have been first. What this one left is no commit, so not visible.
                if commit in commits_of(table_uri, ctx):
                    raise
    return len(found)


def _late_for(
    table_uri: str, path: str, pinned: Sequence[tuple[int, Mapping[str, list[str]]]], ctx: tiledb.Ctx
) -> list[Commit]:
    commits = commits_of(table_uri, ctx)
    found = {c for moment, record in pinned for c in late(commits, moment, record.get(path, []))}
    return sorted(found, key=lambda commit: commit.name)


def _pins(snapshots_uri: str, ctx: tiledb.Ctx) -> list[tuple[int, Mapping[str, list[str]] | None]]:
    from radiobject_assets.store.layout import SNAPSHOT_CORE
    from radiobject_assets.store.table import Table

    table = Table(snapshots_uri, ctx, SNAPSHOT_CORE)
    if PINNED not in table.columns:
        return []
    rows = table.read(["timestamp_ms", PINNED]).to_pylist()
    table.close()
    return [(row["timestamp_ms"], json.loads(row[PINNED]) if row[PINNED] else None) for row in rows]


def _stamp_anew(table_uri: str, commit: Commit, stamp: int, ctx: tiledb.Ctx) -> None:
    """Copy a commit under a new stamp, then remove the old one: rows that two commits hold alike are one."""
    vfs = tiledb.VFS(ctx=ctx)
    old, suffix = commit.name[:-4], commit.name[-4:]
    new = f"__{stamp}_{stamp}_{new_token()}_{old.rsplit('_', 1)[1]}"
    commits, fragments = join(table_uri, "__commits"), join(table_uri, "__fragments")

    def copy(source: str, target: str) -> None:
        with vfs.open(source, "rb") as file:
            content = file.read()
        if not content:
            vfs.touch(target)
            return
        with vfs.open(target, "wb") as file:
            file.write(content)

    doing = "stamp anew a commit of"
    if suffix == ".wrt":
        on_storage(doing, table_uri, ctx, partial(vfs.create_dir, join(fragments, new)))
        for path, _ in walk_files(join(fragments, old), ctx):
            target = join(fragments, new, last_part(path))
            on_storage(doing, table_uri, ctx, partial(copy, path, target))
    target = join(commits, new + suffix)
    if "://" in commits:
        on_storage(doing, table_uri, ctx, partial(copy, join(commits, commit.name), target))
    else:  # in one step: a delete condition that is half there makes the table unreadable
        aside = join(table_uri, new_token())
        on_storage(doing, table_uri, ctx, partial(copy, join(commits, commit.name), aside))
        Path(aside).rename(target)
    _remove(vfs, table_uri, join(commits, commit.name), ctx)
    if suffix == ".wrt":
        _remove(vfs, table_uri, join(fragments, old), ctx)
        note_fragments(table_uri, {new})


def _remove(vfs: tiledb.VFS, table_uri: str, path: str, ctx: tiledb.Ctx) -> None:
    def remove() -> None:
        if vfs.is_dir(path):
            vfs.remove_dir(path)
        elif vfs.is_file(path):  # else another process was first
            vfs.remove_file(path)

    on_storage("stamp anew a commit of", table_uri, ctx, remove)
