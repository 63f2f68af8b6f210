"""Forgetting subjects: every segment that has rows of theirs is written anew without, in one commit.

Earlier states keep their manifests, which name segments by random tokens and no ids. The commit says which
segment is to be read in place of which (`State.replaced`), so that every state, named or not, has all rows
of everybody else as before, and none of the erased. Then the files are removed. Who is killed in between
left nothing undone that the same call does not do again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from radiobject_assets.errors import StorageError
from radiobject_assets.store.log.commit_log import Log
from radiobject_assets.store.log.description import counts_and_digest
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.segments import (
    RemovedError,
    column_names,
    is_segment,
    read_segment,
    unchecked,
)
from radiobject_assets.store.log.state import DamagedError, RowSegment, State
from radiobject_assets.store.log.vacuuming import revoke
from radiobject_assets.store.names import COLLECTIONS, OBS
from radiobject_assets.store.storage import MissingError

_SUBJECT, _TOKEN = "obs_subject_id", "volume"
Tokens = dict[str, set[str]]


@dataclass
class Found:
    """What of some subjects is in the files of a store's tables."""

    segments: dict[str, list[str]] = field(default_factory=dict)
    """Names of segments that have rows of theirs, by folder."""
    tokens: Tokens = field(default_factory=dict)
    """Arrays of theirs that rows name, by collection folder ("" for a collection of its own)."""
    named: Tokens = field(default_factory=dict)
    """Arrays of anybody that rows name, in any state."""
    damaged: list[tuple[str, str]] = field(default_factory=list)
    """Folder and name of files that are no segments any more, and that no state needs."""
    searched: int = 0


def table_folders(log: Log, state: State) -> list[str]:
    """Folders in which segments may lie: those of tables, and of collections that were never committed."""
    found = {folder.path for folder in log.storage.list(COLLECTIONS) if folder.path.endswith("/")}
    return sorted({*state.tables, *(f"{folder}{OBS}" for folder in found)})


class Search:
    """Looks for subjects in segments, in each only once: segments never change."""

    def __init__(self, log: Log, ids: Collection[str]) -> None:
        self._log = log
        self._ids = pa.array(sorted(ids), pa.large_string())
        self._seen: dict[tuple[str, str], tuple[bool, set[str], set[str]]] = {}
        self.subjects: set[str] = set()
        """Everybody whose rows were met on the way, where nobody is looked for."""

    def run(self, state: State) -> Found:
        """What is there now.

        Raises
        ------
        StorageError
            A segment that the state or a snapshot needs can't be read: nobody can be erased from it.
        """
        found = Found()
        needed = self.needed(state)
        for folder in table_folders(self._log, state):
            for entry in self._log.storage.list(folder):
                name = entry.path.rpartition("/")[2]
                if not is_segment(name):
                    continue
                try:
                    held, tokens, named = self._look(folder, name, needed.get((folder, name)))
                except MissingError:
                    continue  # vacuumed meanwhile
                except DamagedError as error:
                    if (folder, name) in needed:
                        raise DamagedError(
                            f"{error}. Nobody can be erased while it is needed; if only snapshots need it, "
                            "`delete_snapshot` lets them go"
                        ) from error
                    found.damaged.append((folder, name))
                    continue
                found.searched += 1
                if held:
                    found.segments.setdefault(folder, []).append(name)
                place = folder.rpartition("/")[0]
                if tokens:
                    found.tokens.setdefault(place, set()).update(tokens)
                if named:
                    found.named.setdefault(place, set()).update(named)
        return found

    def needed(self, state: State) -> dict[tuple[str, str], RowSegment]:
        """Segments of a state and of its snapshots, by folder and name."""
        states = [state]
        states += [
            self._log.manifest(entry.number, state, entry.manifest) for entry in state.snapshots.values()
        ]
        return {(n, s.name): s for one in states for n, table in one.tables.items() for s in table.segments}

    def _look(self, folder: str, name: str, segment: RowSegment | None) -> tuple[bool, set[str], set[str]]:
        known = self._seen.get((folder, name))
        if known is None:
            rows = self._rows(folder, name, segment, [_SUBJECT, _TOKEN])
            if not len(self._ids):
                self.subjects.update(pc.unique(rows.column(_SUBJECT)).drop_null().to_pylist())
            mine = pc.is_in(rows.column(_SUBJECT), value_set=self._ids)
            tokens: set[str] = set()
            named: set[str] = set()
            if folder.rpartition("/")[2] == OBS and _TOKEN in rows.column_names:
                tokens = set(rows.filter(mine).column(_TOKEN).drop_null().to_pylist())
                named = set(rows.column(_TOKEN).drop_null().to_pylist())
            known = self._seen[folder, name] = (bool(pc.any(mine).as_py()), tokens, named)
        return known

    def _rows(
        self, folder: str, name: str, segment: RowSegment | None, columns: Sequence[str] | None
    ) -> pa.Table:
        storage = self._log.storage
        if segment is None:
            return unchecked(storage, folder, name, [_SUBJECT])
        names = column_names(storage, folder, segment) if columns is None else columns
        read = read_segment(storage, folder, segment, names)
        return pa.table({column: read[column] for column in names if column in read})

    def others(self, folder: str, name: str, segment: RowSegment | None) -> pa.Table:
        """The rows of everybody else in a segment."""
        rows = self._rows(folder, name, segment, None)
        return rows.filter(pc.invert(pc.is_in(rows.column(_SUBJECT), value_set=self._ids)))


def erase_rows(
    log: Log, ids: Collection[str], unnamed: Callable[[State, Found], Tokens]
) -> tuple[State, Found]:
    """Commit a state in which subjects are nowhere, in no earlier state either; the files are there still.

    Parameters
    ----------
    unnamed
        Arrays of these subjects that no row names, by collection folder; it is given what rows name.
    """
    search = Search(log, ids)
    result: list[Found] = []

    def erase(draft: Draft) -> None:
        found = search.run(draft.base)
        result[:] = [found]
        needed = search.needed(draft.base) if found.segments else {}
        moved: dict[str, dict[str, RowSegment]] = {}
        for folder, names in found.segments.items():
            for name in names:
                if name not in draft.base.replaced.get(folder, {}):  # else a call was killed that replaced it
                    segment = needed.get((folder, name))
                    rows = partial(search.others, folder, name, segment)
                    try:
                        moved.setdefault(folder, {})[name] = draft.write(folder, ("erase", name), rows)
                    except MissingError:
                        if segment is not None:
                            raise
                        # nothing names it, and another process has just removed it
        hidden = unnamed(draft.base, found)
        for folder, tokens in hidden.items():
            found.tokens.setdefault(folder, set()).update(tokens)
        replace_segments(draft, moved)
        # Also those that rows named: should this process die while it removes them, others know that they go.
        revoke(draft, {token for tokens in found.tokens.values() for token in tokens})
        if draft.state != draft.base or found.damaged:
            draft.set(cleared=draft.base.number + 1)
        _describe_snapshots(log, draft)

    return log.commit("erase", erase), result[0]


def replace_segments(draft: Draft, moved: Mapping[str, Mapping[str, RowSegment]]) -> None:
    """Let every state read other segments in place of some: by folder of a table, and by name."""
    if not any(moved.values()):
        return
    replaced = {folder: dict(names) for folder, names in draft.state.replaced.items()}
    for folder, names in moved.items():
        known = replaced.setdefault(folder, {})
        for old, new in known.items():  # what took the place of another is replaced itself
            known[old] = names.get(new.name, new)
        known.update(names)
        if folder in draft.state.tables:
            segments = [names.get(s.name, s) for s in draft.state.table(folder).segments]
            draft.set_segments(folder, [s for s in segments if s.rows])
    draft.set(replaced=replaced)


def _describe_snapshots(log: Log, draft: Draft) -> None:
    if draft.state.kind != "store" or draft.state.replaced == draft.base.replaced:
        return
    changed = {}
    for name, entry in draft.base.snapshots.items():
        before = log.manifest(entry.number, draft.base, entry.manifest)
        after = log.manifest(entry.number, draft.state, entry.manifest)
        if before.tables != after.tables:
            counts, digest = counts_and_digest(draft.storage, after)
            changed[name] = replace(entry, counts=counts, digest=digest)
    if changed:
        draft.with_entry("snapshots", changed)


def remove_erased(log: Log, found: Found, ids: Collection[str]) -> None:
    """Remove the files that a committed erasure replaced."""
    storage, newest = log.storage, log.newest()
    named = Search(log, ids).needed(newest)
    damaged = [item for item in found.damaged if int(item[1].split("-")[0]) < newest.cleared]
    for folder, name in [*((f, n) for f, names in found.segments.items() for n in names), *damaged]:
        if (folder, name) not in named:
            storage.remove(f"{folder}/{name}")
    # Rows that a killed process staged. A living one finds its file gone and stages another.
    for entry in storage.leftovers(0.0):
        storage.remove(entry.path)


def prove_absent(log: Log, ids: Collection[str], erased: State) -> int:
    """Look again through every segment that was there when somebody was erased; returns how many there are.

    What writers that began before then left, and can commit no more, is removed.

    Raises
    ------
    StorageError
        One of these subjects is still in one of them. The message does not repeat the id.
    """
    search = Search(log, ids)
    while True:
        newest = log.newest()
        try:
            found, needed = search.run(newest), search.needed(newest)
            break
        except RemovedError:
            if log.newest().number == newest.number:  # lost; else vacuumed since
                raise
    for folder, names in found.segments.items():
        for name in names:
            if int(name.split("-")[0]) < erased.number:
                if (folder, name) not in needed:
                    log.storage.remove(f"{folder}/{name}")
                    continue
                raise StorageError(
                    f"{log.uri}/{folder}/{name} still has rows of a subject that was deleted; "
                    "call delete_subjects again"
                )
    return found.searched
