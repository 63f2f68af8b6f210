"""The log itself: finding the newest state, earlier ones, and committing the next."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace

from radiobject_assets.errors import StorageError
from radiobject_assets.store.log.draft import Draft, DraftMemory
from radiobject_assets.store.log.segments import RemovedError
from radiobject_assets.store.log.state import (
    DamagedError,
    State,
    TableState,
    blake3_of,
    decode_manifest,
    encode,
)
from radiobject_assets.store.storage import MissingError, Storage
from radiobject_assets.store.storage.uris import new_token

_log = logging.getLogger(__name__)

HEAD = "state.json"
FOLDER = "log"
_PER_FOLDER = 100
_ATTEMPTS = 1000
_LONGEST_PAUSE_S = 0.25
_LONG_CHANGE_S = 0.05


class NoLogError(StorageError):
    """There is no log at a place."""


def now_ms() -> int:
    """This machine's clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def manifest_path(number: int) -> str:
    """Where the manifest of a number is, under the root."""
    return f"{FOLDER}/{number // _PER_FOLDER:09d}/{number:012d}.json"


def leads_on(number: int) -> bool:
    """Whether a manifest must stay, also when its state is not kept: the last of its folder.

    Who comes with an old copy of the state finds by it that there are later folders.
    """
    return number % _PER_FOLDER == _PER_FOLDER - 1


def manifest_number(path: str) -> int | None:
    """The number of the manifest at a path under the root; None for other files."""
    name = path.rpartition("/")[2].removesuffix(".json")
    return int(name) if name.isdigit() and manifest_path(int(name)) == path else None


class Log:
    """The log under one root. Holds nothing but where it is, so that it may be shared, pickled and forked."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @property
    def uri(self) -> str:
        """Of the root."""
        return self.storage.uri

    # -- reading ------------------------------------------------------------------------------------

    def newest(self) -> State:
        """The present state.

        Raises
        ------
        NoLogError
            Nothing was ever committed here.
        StorageError
            A manifest is damaged or missing; an older state is never given in place of a newer one.
        """
        head = self._head()
        if head is None:
            found = self.numbers()
            if not found:
                raise NoLogError(f"no store at {self.uri}: it has no {HEAD} and no {FOLDER}/")
            return self._manifest(found[-1])
        # A copy that was not renewed for long may lie before all that vacuum left.
        later = self._from(head.number) or [n for n in self.numbers() if n > head.number]
        if not later:
            raise StorageError(
                f"{self.uri}: {manifest_path(head.number)} is missing, which {HEAD} is a copy of; "
                f"copy {HEAD} there"
            )
        if later[0] == head.number:
            check = self._manifest(head.number)
            if check.digest != head.digest:
                raise StorageError(
                    f"{self.uri}: {HEAD} and {manifest_path(head.number)} differ: one of them was exchanged; "
                    "restore both from one backup"
                )
        return head if later[-1] == head.number else self._following(head, later[-1])

    def _following(self, head: State, number: int) -> State:
        state = self._manifest(number)
        if state.root_id != head.root_id or (number == head.number + 1 and state.previous != head.digest):
            raise StorageError(
                f"{self.uri}: {manifest_path(number)} does not follow {HEAD}: it was exchanged; "
                "restore it from a backup"
            )
        return state

    def _head(self) -> State | None:
        """The state that the copy shows, which may be a little older than the newest."""
        try:
            content = self.storage.read(HEAD)
        except MissingError:
            return None
        try:
            return decode_manifest(content, f"{self.uri}/{HEAD}")
        except DamagedError:
            return None  # the manifests themselves tell

    def _from(self, number: int) -> list[int]:
        """Numbers of the manifests from one on, in order."""
        found: list[int] = []
        folder = number // _PER_FOLDER
        after: str | None = manifest_path(number - 1) if number % _PER_FOLDER else None
        while True:
            listed = self.storage.list(f"{FOLDER}/{folder:09d}", after=after)
            found += [n for n in (manifest_number(entry.path) for entry in listed) if n is not None]
            if not found or found[-1] != folder * _PER_FOLDER + _PER_FOLDER - 1:
                return found
            folder, after = folder + 1, None

    def numbers(self) -> list[int]:
        """Numbers of all manifests that are there, in order."""
        entries = self.storage.list(FOLDER, recursive=True)
        return sorted(n for n in (manifest_number(entry.path) for entry in entries) if n is not None)

    def _manifest(self, number: int) -> State:
        where = manifest_path(number)
        try:
            state = decode_manifest(self.storage.read(where), f"{self.uri}/{where}")
        except MissingError:
            raise RemovedError(
                f"{self.uri}: state {number} is gone: it was vacuumed, or {where} was lost"
            ) from None
        if state.number != number:
            raise StorageError(f"{self.uri}/{where} is that of state {state.number}: it was exchanged")
        return state

    def manifest(self, number: int, newest: State, digest: str | None = None) -> State:
        """An earlier state, without what was erased since, as `newest` knows.

        Raises
        ------
        StorageError
            It is gone, damaged, or not the one of this `digest`.
        """
        state = self._manifest(number)
        if state.root_id != newest.root_id or digest not in (None, state.digest):
            raise StorageError(f"{self.uri}/{manifest_path(number)} is not the one that was pinned")
        return state.as_in(newest)

    def at(self, moment: int | str | None) -> State:
        """The state at a moment: milliseconds since 1970, the name of a snapshot, or None for now.

        Raises
        ------
        StorageError
            There is no such snapshot, or what was there then was vacuumed.
        """
        newest = self.newest()
        if moment is None:
            return newest
        if isinstance(moment, str):
            entry = newest.snapshots.get(moment)
            if entry is None:
                names = ", ".join(repr(name) for name in newest.snapshots) or "none"
                raise StorageError(f"{self.uri} has no snapshot {moment!r}; there are {names}")
            return self.manifest(entry.number, newest, entry.manifest)
        if newest.committed_ms <= moment:
            return newest
        return self._at_ms(moment, newest)

    def _at_ms(self, moment: int, newest: State) -> State:
        numbers = [n for n in self.numbers() if newest.floor <= n < newest.number]
        low, high = 0, len(numbers)
        found: State | None = None
        while low < high:  # commits are ordered by time
            middle = (low + high) // 2
            state = self._manifest(numbers[middle])
            if state.committed_ms <= moment:
                found, low = state, middle + 1
            else:
                high = middle
        if found is not None:
            self._check_followers(found, moment, newest)
            return found.as_in(newest)
        pinned = [entry for entry in newest.snapshots.values() if entry.timestamp_ms == moment]
        if pinned:
            return self.manifest(pinned[0].number, newest, pinned[0].manifest)
        if newest.floor > 1:
            raise StorageError(
                f"{self.uri}: its states before number {newest.floor} were vacuumed, but for snapshots"
            )
        return replace(
            State(newest.kind, newest.root_id), tables=_emptied(newest), properties=newest.properties
        )

    def _check_followers(self, state: State, moment: int, newest: State) -> None:
        """Make sure that an earlier state was the newest at a moment: the next two tell."""
        before = state
        for number in range(state.number + 1, min(state.number + 2, newest.number) + 1):
            after = newest if number == newest.number else self._manifest(number)
            wrong = after.previous != before.digest or before.root_id != newest.root_id
            if wrong or after.committed_ms <= moment:
                raise StorageError(
                    f"{self.uri}: {manifest_path(number)} does not follow the one before it: one of them was "
                    "exchanged; restore both from one backup"
                )
            before = after

    # -- committing ---------------------------------------------------------------------------------

    def commit(
        self,
        operation: str,
        change: Callable[[Draft], None],
        *,
        start: State | None = None,
        initial: State | None = None,
    ) -> State:
        """Make a change and commit it, as one step.

        Parameters
        ----------
        operation
            What it is, for people who read the log.
        change
            Says what is to be changed by calls to the draft it is given. It is called again, on the newer
            state, each time that another commit came first: it must not keep what it read before. If it
            changes nothing, nothing is committed.
        start
            The newest state, if the caller has just read it.
        initial
            What there is before the first commit, where there is no log yet: it is made by this one.

        Returns
        -------
        The state with the change.
        """
        memory = DraftMemory(self.storage)
        try:
            for attempt in range(_ATTEMPTS):
                began = time.monotonic()
                state = self._base(initial) if start is None or attempt else start
                draft = Draft(state, memory)
                try:
                    change(draft)
                except RemovedError:
                    if self._base(initial).number == state.number:
                        raise
                    continue  # erased from, or vacuumed, since this attempt began
                if draft.state == state and state.number:
                    return state
                following = replace(
                    draft.state,
                    number=state.number + 1,
                    committed_ms=max(now_ms(), state.committed_ms + 1),
                    commit=new_token(),
                    operation=operation,
                    previous=state.digest,
                )
                content = encode(following)
                named = memory.named.copy()
                memory.named |= (
                    draft.segments_written()
                )  # also if it never comes to be known whether it is there
                if self.storage.publish(manifest_path(following.number), content):
                    self._show(following, content)
                    return replace(following, digest=blake3_of(content))
                memory.named = named
                if time.monotonic() - began > _LONG_CHANGE_S:
                    continue  # who works long for each attempt loses to those who don't; no waiting too
                time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.002 * 2 ** min(attempt, 8))))
        finally:
            with contextlib.suppress(StorageError):  # what stays is a left-over like that of a killed writer
                memory.discard_unnamed()
        raise StorageError(f"{self.uri}: {_ATTEMPTS} other commits came first each time; try again")

    def _base(self, initial: State | None) -> State:
        try:
            return self.newest()
        except NoLogError:
            if initial is None:
                raise
            return initial

    def _show(self, state: State, content: bytes) -> None:
        """Let the copy show a commit that was published, and make sure that it counts.

        Raises
        ------
        StorageError
            This process slept, before it published, while others committed and vacuumed: its number had been
            another's, and what it published is in no state.
        """
        try:
            head = self._head()
            if head is None or head.number < state.number:  # else others came since
                self.storage.write(HEAD, content)
                return
            newest = self.newest()
        except StorageError as error:
            # It is committed: the copy is only a short cut, and a sleep that long is rare.
            _log.warning("%s: %s was not renewed after commit %d: %s", self.uri, HEAD, state.number, error)
            return
        if state.number >= newest.floor:
            return
        try:
            counts = self._manifest(state.number + 1).previous == blake3_of(content)
        except RemovedError:
            counts = False
        if not counts:
            raise StorageError(
                f"{self.uri}: this process was stopped so long that its commit {state.number} may not have "
                "counted; look whether its change is there, and repeat it if not"
            )


def _emptied(state: State) -> dict[str, TableState]:
    tables = {"store": ("obs_meta",), "collection": ("obs",), "table": ("rows",)}[state.kind]
    return {name: replace(state.table(name), columns=(), segments=()) for name in tables}
