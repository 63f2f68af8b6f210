"""Whether the files of a log are those that were written: manifests, their order, and segments."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from radiobject_assets.errors import StorageError
from radiobject_assets.store.log.commit_log import HEAD, Log, manifest_path
from radiobject_assets.store.log.state import RowSegment, State, blake3_of, decode_manifest
from radiobject_assets.store.log.vacuuming import revoked_tokens
from radiobject_assets.store.storage import DeadlineError, MissingError, Storage


@dataclass(frozen=True)
class FileProblem:
    """Something wrong with one file of a log."""

    path: str
    """Under the root."""
    code: str
    """`copy`, `manifest`, `segment` or `list`."""
    detail: str


def log_problems(log: Log) -> Iterator[FileProblem]:
    """What is wrong with the files that the present state, earlier ones and snapshots need.

    Raises
    ------
    StorageError
        If even the present state can't be read; or storage fails.
    """
    newest = log.newest()
    yield from _copy_problems(log, newest)
    states = [newest]
    numbers = {number for number in log.numbers() if number >= newest.floor}
    later: State | None = None
    for number in reversed(range(max(newest.floor, 1), newest.number + 1)):
        if number not in numbers:
            yield FileProblem(manifest_path(number), "manifest", "it is missing")
            later = None
            continue
        state = yield from _manifest(log, number, newest, None if later is None else later.previous)
        if state is not None:
            states.append(state.as_in(newest))
        later = state
    for entry in newest.snapshots.values():
        state = yield from _manifest(log, entry.number, newest, entry.manifest)
        if state is not None:
            states.append(state.as_in(newest))
    try:
        revoked_tokens(log.storage, newest)
    except DeadlineError:
        raise
    except StorageError as error:
        yield FileProblem("log/revoked", "list", str(error))
    seen: set[tuple[str, str]] = set()
    for state in states:
        for name, table in state.tables.items():
            for segment in table.segments:
                if (name, segment.digest) not in seen:
                    seen.add((name, segment.digest))
                    wrong = segment_problem(log.storage, name, segment)
                    if wrong is not None:
                        yield FileProblem(f"{name}/{segment.name}", "segment", wrong)


def segment_problem(storage: Storage, table: str, segment: RowSegment) -> str | None:
    """What is wrong with the file of a segment, read from the disk in any case; None for nothing."""
    try:
        content = storage.read(f"{table}/{segment.name}")
    except MissingError:
        return "it is missing"
    if len(content) != segment.nbytes or blake3_of(content) != segment.digest:
        return "it is not the file that was written"
    return None


def _copy_problems(log: Log, newest: State) -> Iterator[FileProblem]:
    """Of the copy of the newest manifest; one that is a little older is none."""
    try:
        state = decode_manifest(log.storage.read(HEAD), HEAD)
    except MissingError:
        yield FileProblem(HEAD, "copy", "it is missing; the next commit makes it again")
        return
    except DeadlineError:
        raise
    except StorageError:
        yield FileProblem(HEAD, "copy", "its checksum is wrong; the next commit makes it again")
        return
    if state.root_id != newest.root_id or state.number > newest.number:
        yield FileProblem(HEAD, "copy", "it is not of this store")


def _manifest(
    log: Log, number: int, newest: State, digest: str | None
) -> Generator[FileProblem, None, State | None]:
    try:
        state = decode_manifest(log.storage.read(manifest_path(number)), manifest_path(number))
    except MissingError:
        yield FileProblem(manifest_path(number), "manifest", "it is missing")
        return None
    except DeadlineError:
        raise
    except (StorageError, ValueError, KeyError) as error:
        yield FileProblem(manifest_path(number), "manifest", str(error))
        return None
    if state.root_id != newest.root_id or state.number != number or digest not in (None, state.digest):
        yield FileProblem(manifest_path(number), "manifest", "it is not the one that was committed")
        return None
    return state
