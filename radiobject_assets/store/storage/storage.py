"""One room for what a store is kept in: files on a local disk, or objects on S3.

A path is relative to the storage's root, with `/` between its parts. Reads give what was written whole or
not at all; nothing is read half-written. Every operation on S3 has an end (`S3Config.deadline_s`, and a
second for each MB), and every error is a `StorageError` that says what was attempted, where and why.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from radiobject_assets.errors import StorageError


@dataclass(frozen=True, order=True)
class Entry:
    """A file, or a folder."""

    path: str
    """Relative to the storage's root; a folder's ends with a slash."""
    size: int
    """Bytes; 0 for a folder."""
    stamp: str = field(default="", compare=False)
    """Of a file: another whenever it was written anew (S3's ETag; on a disk its number, time and size)."""


class Storage(ABC):
    """A folder on a disk, or a prefix on S3. Picklable, usable by threads, and after a fork."""

    uri: str
    """Of the root, without a final slash."""

    @property
    @abstractmethod
    def parallel(self) -> int:
        """Reads that are worth to be under way together."""

    @abstractmethod
    def list(self, prefix: str = "", *, after: str | None = None, recursive: bool = False) -> Sequence[Entry]:
        """What lies in the folder `prefix`, sorted by path; nothing where there is no such folder.

        Parameters
        ----------
        after
            Leave out paths (as in `Entry.path`) up to and with this one. On S3 they are not listed at all.
        recursive
            Every file below, and no folders; else the folder's own files and folders.
        """

    @abstractmethod
    def read(self, path: str) -> bytes:
        """A whole file.

        Raises
        ------
        MissingError
            There is none.
        """

    def range(self, path: str, offset: int, nbytes: int) -> bytes:
        """Bytes [offset, offset + nbytes) of a file; fewer where it ends before.

        Raises
        ------
        MissingError
            There is no such file.
        """
        return self.ranges(path, [(offset, nbytes)])[0]

    @abstractmethod
    def ranges(self, path: str, spans: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Spans (offset, nbytes) of one file, in their order; on S3 by requests under way together.

        Raises
        ------
        MissingError
            There is no such file.
        """

    @abstractmethod
    def read_many(self, paths: Iterable[str]) -> Sequence[bytes]:
        """Whole files, in the order of their paths; on S3 by requests under way together.

        Raises
        ------
        MissingError
            One of them is not there.
        """

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Put a file there, in place of what may be there: whole, for certain, or not at all.

        Where the answer of S3 is lost the error says so; the file is then as before or as given.
        """

    @abstractmethod
    def write_file(self, path: str, source: Path) -> None:
        """`write` what a file of this machine holds, which may be larger than memory."""

    @abstractmethod
    def write_files(self, sources: Mapping[str, Path]) -> None:
        """`write_file` for several paths, in no order; on S3 they are under way together."""

    @abstractmethod
    def publish(self, path: str, data: bytes) -> bool:
        """Put a file there unless there is one: for certain, and by one of all who try.

        Returns
        -------
        Whether it is the caller's that is there now. Where the answer of S3 was lost, what lies there is
        compared: so `data` should hold something that nobody else writes, like a random token.

        Raises
        ------
        DeadlineError
            It was not to be found out in time; it may still come to lie there.
        """

    @abstractmethod
    def read_version(self, path: str) -> tuple[bytes, str]:
        """A whole file, and the version that it is, for `replace`.

        Raises
        ------
        MissingError
            There is none.
        """

    @abstractmethod
    def replace(self, path: str, data: bytes, version: str) -> bool:
        """Put a file in the place of just that version of it: by one of all who try by `replace`.

        Returns
        -------
        Whether `data` is there now. False: another version was there, or none, and it was left alone. On a
        disk a `write` at the same moment is not held off: files that are replaced are written by no other
        way once they are there.

        Raises
        ------
        DeadlineError
            It was not to be found out in time; it may still come to lie there.
        """

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def remove_tree(self, path: str) -> None:
        """Remove a folder with all that is in it, if it is there. Bytes of older versions that a bucket with
        versioning keeps stay."""

    @abstractmethod
    def prune(self) -> None:
        """Remove folders that hold nothing, the root among them. S3 has none."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether there is a file."""

    @abstractmethod
    def lock(self, path: str, *, wait_s: float) -> AbstractContextManager[None]:
        """Hold the file lock `path` (made where it is missing) for the length of the `with` block.

        Between processes and threads that use the same disk only; it is let go when its holder dies. On S3
        nothing is exclusive: the block runs at once, and correctness may not rest on it.

        Raises
        ------
        LockedError
            Somebody else held it all the time.
        """

    @abstractmethod
    def leftovers(self, older_than_s: float) -> Sequence[Entry]:
        """Files that writers staged and did not put in their places, untouched for so long: of killed ones.

        They never stand in the way; `remove` takes them away. S3 has none.
        """


def checked(path: str) -> str:
    """`path`, if it leads to something below a root.

    Raises
    ------
    StorageError
        It is empty, absolute, or has parts that lead elsewhere.
    """
    if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise StorageError(
            "a path in a storage has parts joined by '/', none of them empty, '.' or '..', and no final slash"
        )
    return path


def folder_prefix(prefix: str) -> str:
    """A folder's prefix of the paths in it: "" for the root, else with a final slash."""
    prefix = prefix.rstrip("/")
    return checked(prefix) + "/" if prefix else ""
