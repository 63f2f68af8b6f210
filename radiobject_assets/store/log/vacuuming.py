"""Taking back space: manifests, segments and arrays that no state names which anybody may still read.

First a state is published that says what is about to go, and then it is removed: a writer that had begun
before finds that its number is taken, retries, and sees what it must not count on. So nothing that a commit
names is ever removed, however long a writer was paused; and to be killed half-way, or to run twice at once,
does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from radiobject_assets.errors import StorageError
from radiobject_assets.store.log.commit_log import FOLDER, Log, leads_on, manifest_path, now_ms
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.segments import is_segment
from radiobject_assets.store.log.state import State, blake3_of
from radiobject_assets.store.storage import Storage

# For so long a writer may hold arrays that it has not committed and still be told that they are gone.
REMEMBER_S = 30 * 86_400.0
# So many commits may come, and be vacuumed, between a writer's commit and its look whether it counts.
LATE_COMMITS = 100


@dataclass(frozen=True)
class Kept:
    """What must stay: all that states which somebody may read name."""

    floor: int
    """Number of the earliest state that is kept beside those of snapshots."""
    states: tuple[State, ...]
    """Kept states, the newest among them, as they are now."""

    def segments(self) -> dict[str, set[str]]:
        """Names of segments, by table."""
        found: dict[str, set[str]] = {}
        for state in self.states:
            for name, table in state.tables.items():
                found.setdefault(name, set()).update(segment.name for segment in table.segments)
        return found


def kept_states(log: Log, newest: State, horizon_ms: int, read: dict[int, State]) -> Kept:
    """The states that stay: the newest, those since a moment, the one in force then, and all snapshots'.

    Manifests that were `read` already are not read again, and what is read is added: they never change.
    """

    def state_of(number: int, digest: str | None = None) -> State:
        if number not in read:
            read[number] = log.manifest(number, newest, digest)
        return read[number].as_in(newest)

    states = [newest]
    floor = newest.number
    for number in sorted((n for n in log.numbers() if newest.floor <= n < newest.number), reverse=True):
        if states[-1].committed_ms <= horizon_ms:
            break
        states.append(state_of(number))
        floor = number
    pinned = {entry.number: entry.manifest for entry in newest.snapshots.values() if entry.number < floor}
    states += [state_of(number, digest) for number, digest in pinned.items()]
    return Kept(floor, tuple(states))


def revoked_tokens(storage: Storage, state: State) -> set[str]:
    """Tokens of arrays that must not be committed any more: they were removed, or are about to be.

    Raises
    ------
    StorageError
        A list of them is damaged.
    """
    found: set[str] = set()
    for name in state.revoked:
        # By its place and name, which has its digest: a storage is opened anew for each commit.
        key = (storage.uri, name)
        if key not in _revoked:
            if len(_revoked) >= _REVOKED_KEPT:
                _revoked.clear()
            _revoked[key] = _read_revoked(storage, name)
        found |= _revoked[key]
    return found


_REVOKED_KEPT = 256
_revoked: dict[tuple[str, str], frozenset[str]] = {}


def _read_revoked(storage: Storage, name: str) -> frozenset[str]:
    content = storage.read(_revoked_path(name))
    if blake3_of(content) != name.split(".")[1]:
        raise StorageError(f"{storage.uri}/{_revoked_path(name)} is damaged: restore it from a backup")
    return frozenset(json.loads(content))


def _revoked_path(name: str) -> str:
    return f"{FOLDER}/revoked/{name}"


def revoke(draft: Draft, tokens: Iterable[str]) -> None:
    """Let arrays that no row names be committed by nobody: they are about to be removed."""
    content = json.dumps(sorted(tokens)).encode()
    if content == b"[]":
        return
    now = now_ms()
    name = f"{now}.{blake3_of(content)}.json"
    same = [old for old in draft.state.revoked if old.split(".")[1] == name.split(".")[1]]
    if same:
        return
    draft.storage.publish(_revoked_path(name), content)
    fresh = [old for old in draft.state.revoked if int(old.split(".")[0]) > now - REMEMBER_S * 1000]
    draft.set(revoked=(*fresh, name))


@dataclass(frozen=True)
class Removed:
    """What `remove_unnamed` removed."""

    manifests: int = 0
    segments: int = 0


def announce(draft: Draft, kept: Kept, tokens: Iterable[str]) -> None:
    """Say in a draft what is about to go: states before a floor, segments and arrays that nothing names."""
    revoke(draft, tokens)
    named = kept.segments()
    replaced = {
        table: {old: new for old, new in names.items() if new.name in named.get(table, ())}
        for table, names in draft.state.replaced.items()
    }
    draft.set(
        floor=max(draft.state.floor, kept.floor),
        cleared=draft.base.number + 1,
        replaced={table: names for table, names in replaced.items() if names},
    )


def remove_unnamed(log: Log, state: State, kept: Kept, folders: Sequence[str]) -> Removed:
    """Remove what no kept state names, after `state` announced it.

    Parameters
    ----------
    folders
        Of tables, those that were about to be made included.
    """
    storage = log.storage
    pinned = {entry.number for entry in state.snapshots.values()}
    gone = min(state.floor, state.number - LATE_COMMITS)
    numbers = [n for n in log.numbers() if n < gone and n not in pinned and not leads_on(n)]
    for number in numbers:
        storage.remove(manifest_path(number))
    named = kept.segments()
    for name, table in state.tables.items():
        named.setdefault(name, set()).update(segment.name for segment in table.segments)
    count = 0
    for folder in folders:
        for name in unnamed_segments(storage, folder, named, state.cleared):
            storage.remove(f"{folder}/{name}")
            count += 1
    for entry in storage.list(f"{FOLDER}/revoked"):
        name = entry.path.rpartition("/")[2]
        stamp = name.split(".")[0]
        if name not in state.revoked and stamp.isdigit() and int(stamp) < now_ms() - REMEMBER_S * 1000:
            storage.remove(entry.path)
    return Removed(len(numbers), count)


def unnamed_segments(storage: Storage, folder: str, named: Mapping[str, set[str]], cleared: int) -> list[str]:
    """Segments in a table's folder that no kept state names, of writers that began before `cleared`."""
    found = []
    for entry in storage.list(folder):
        name = entry.path.rpartition("/")[2]
        if is_segment(name) and name not in named.get(folder, ()) and int(name.split("-")[0]) < cleared:
            found.append(name)
    return found
