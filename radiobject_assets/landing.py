"""The landing zone: folders that arrivals come in, and what can be said of one without opening its files.

A folder may be named after a patient, so its name is shown to nobody unless dataset.yaml declares it
harmless: elsewhere an arrival goes by its key.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from radiobject_assets.dataset import ArrivalsConfig, DatasetConfig
from radiobject_assets.errors import ConfigurationError, IngestError

# What a trusted name must also be: it becomes a partition key and a folder of the work directory.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Arrival:
    """What came in together: one folder of the landing zone, and the key that it goes by."""

    key: str
    folder: Path


@dataclass(frozen=True)
class ArrivalState:
    """An arrival's content as the file system tells it."""

    n_files: int
    n_bytes: int
    changed_s: float
    """Latest change of any file or folder in it: seconds since the epoch, by the file system's clock."""
    is_marked: bool
    """Whether the marker that says `complete` is there."""
    version: str
    """Digest of relative paths, sizes and modification times; the marker does not count."""

    def is_settled(self, now_s: float, quiet_period_s: float) -> bool:
        """Whether nothing more is expected: marked as complete, or quiet for long enough."""
        return self.is_marked or now_s - self.changed_s >= quiet_period_s


def arrival_key(folder_name: str, trusted_names: str | None) -> str:
    """The key of a folder: its name where that is declared harmless, else a token of the name.

    Parameters
    ----------
    folder_name
        Name of the folder in the landing zone.
    trusted_names
        `arrivals.trusted_names` of dataset.yaml: a regular expression that the whole name must match.
    """
    if trusted_names and re.fullmatch(trusted_names, folder_name) and _PLAIN_NAME.fullmatch(folder_name):
        return folder_name
    return f"a-{hashlib.blake2b(os.fsencode(folder_name), digest_size=5).hexdigest()}"


@dataclass(frozen=True)
class LandingZone:
    """A local folder in which each sub-folder is one arrival."""

    path: Path
    settings: ArrivalsConfig

    @classmethod
    def of(cls, dataset: DatasetConfig) -> LandingZone:
        """The landing zone that dataset.yaml names."""
        return cls(dataset.landing_path, dataset.arrivals)

    def arrivals(self) -> tuple[Arrival, ...]:
        """All arrivals by key. Hidden folders are left alone: tools keep half-copied files there.

        Raises
        ------
        ConfigurationError
            The landing zone is no folder.
        """
        return tuple(
            sorted(
                (
                    Arrival(arrival_key(entry.name, self.settings.trusted_names), Path(entry.path))
                    for entry in self._entries()
                    if entry.is_dir()
                ),
                key=lambda arrival: arrival.key,
            )
        )

    def n_loose_files(self) -> int:
        """Files that lie in the landing zone itself: they belong to no arrival, so nothing takes them in."""
        return sum(entry.is_file() for entry in self._entries())

    def find(self, key: str) -> Arrival:
        """The arrival of that key.

        Raises
        ------
        IngestError
            No folder goes by it (any more).
        """
        for arrival in self.arrivals():
            if arrival.key == key:
                return arrival
        raise IngestError(
            f"arrival {key!r} is no longer in the landing zone; put its folder back, or delete the partition"
        )

    def state(self, arrival: Arrival) -> ArrivalState:
        """What is there now. Reads folders, never files."""
        digest = hashlib.blake2b(digest_size=16)
        n_files = n_bytes = 0
        is_marked = False
        changed_s = arrival.folder.stat().st_ctime
        for relative, stat in sorted(_walk(arrival.folder), key=lambda item: item[0]):
            # ctime: copying tools keep the old modification time of what they have only just written
            changed_s = max(changed_s, stat.st_ctime)
            if relative == self.settings.complete_marker:
                is_marked = True
            elif not _is_folder(stat):
                n_files += 1
                n_bytes += stat.st_size
                digest.update(os.fsencode(f"{relative}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
        return ArrivalState(n_files, n_bytes, changed_s, is_marked, digest.hexdigest())

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.path) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise ConfigurationError(
                f"the landing zone can't be listed: {error.strerror}: {self.path}; "
                "`landing` in dataset.yaml must name a folder"
            ) from error


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                try:
                    stat = entry.stat()
                except OSError:
                    continue  # moved away, or a link to nowhere: the next sweep sees what is then there
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                elif entry.is_dir():
                    continue  # links to folders can lead in circles
                yield os.path.relpath(entry.path, folder), stat


def _is_folder(stat: os.stat_result) -> bool:
    return (stat.st_mode & 0o170000) == 0o040000
