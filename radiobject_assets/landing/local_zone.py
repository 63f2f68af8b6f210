"""The landing zone: the folders and archives that arrivals come in, seen without opening a file.

Their names may name patients, so they are shown to nobody unless dataset.yaml declares them harmless:
elsewhere an arrival goes by its key.
"""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from radiobject_assets.dataset.dataset_yaml import ArrivalsConfig, DatasetSettings
from radiobject_assets.errors import ConfigurationError, IngestError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
"""Names of archives that are arrivals of their own; what they hold is judged when they are scanned."""

# Suffixes that may be told: any other may be part of a name.
_TOLD = (
    ".dcm",
    ".nii",
    ".nii.gz",
    ".json",
    ".tsv",
    ".csv",
    ".txt",
    ".xlsx",
    ".7z",
    ".rar",
    ".gz",
    ".mgz",
    ".mgh",
    ".nrrd",
    ".mha",
    ".mhd",
)

# What a trusted name must also be: it becomes a partition key and a folder of the work directory.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Arrival:
    """What came in together: one folder or archive of the landing zone, and the key that it goes by."""

    key: str
    place: Path
    """The folder, or the archive's file; of an arrival on S3, where its copy lies."""
    source: str = ""
    """On S3: what its objects' keys begin with below the landing zone."""


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


@dataclass(frozen=True)
class LooseFiles:
    """Files that lie in the landing zone itself and are no archives: nothing takes them in."""

    kinds: Mapping[str, int]
    """Number of files by suffix, without names."""

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.kinds.values())

    def __str__(self) -> str:
        kinds = ", ".join(f"{number} {kind}" for kind, number in self.kinds.items())
        lie = "file lies" if self.count == 1 else "files lie"
        return f"{self.count} {lie} in the landing zone itself ({kinds}): put them in a folder"


def arrival_key(name: str, trusted_names: str | None) -> str:
    """The key of a folder or archive: its name where that is declared harmless, else a token of the name.

    Parameters
    ----------
    name
        Its name in the landing zone, an archive's with its suffix.
    trusted_names
        `arrivals.trusted_names` of dataset.yaml: a regular expression that the whole name must match.
    """
    if trusted_names and re.fullmatch(trusted_names, name) and _PLAIN_NAME.fullmatch(name):
        return name
    return f"a-{hashlib.blake2b(os.fsencode(name), digest_size=5).hexdigest()}"


def is_archive(name: str) -> bool:
    """Whether a file of that name is an arrival of its own."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


class Landing(ABC):
    """What landing zones have in common, wherever they lie."""

    settings: ArrivalsConfig

    @abstractmethod
    def arrivals(self) -> tuple[Arrival, ...]:
        """All arrivals by key; entries whose names begin with a dot are left alone."""

    @abstractmethod
    def _names_of_files(self) -> list[str]:
        """Names of the files that lie in the landing zone itself."""

    def find(self, key: str) -> Arrival:
        """The arrival of that key.

        Raises
        ------
        IngestError
            Nothing goes by it (any more).
        """
        for arrival in self.arrivals():
            if arrival.key == key:
                return arrival
        raise IngestError(
            f"arrival {key!r} is no longer in the landing zone; put it back there, or delete the partition",
            public="this arrival is no longer in the landing zone",
            advice="Put the delivery back, under the same name; if it was taken away for good, delete the "
            "partition. What is in the store of it stays.",
        )

    def loose_files(self) -> LooseFiles:
        """Files in the landing zone itself that belong to no arrival."""
        names = sorted(self._names_of_files())
        markers = {name + self.settings.complete_marker for name in names if is_archive(name)}
        return LooseFiles(Counter(kind_of_name(n) for n in names if not is_archive(n) and n not in markers))


@dataclass(frozen=True)
class LandingZone(Landing):
    """A local folder in which each sub-folder, and each archive, is one arrival."""

    path: Path
    settings: ArrivalsConfig

    @classmethod
    def of(cls, dataset: DatasetSettings) -> LandingZone:
        """The landing zone that dataset.yaml names."""
        return cls(dataset.landing_path, dataset.arrivals)

    def arrivals(self) -> tuple[Arrival, ...]:
        """All arrivals by key. Hidden entries are left alone: tools keep half-copied files there.

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
                    if entry.is_dir() or (entry.is_file() and is_archive(entry.name))
                ),
                key=lambda arrival: arrival.key,
            )
        )

    def problem(self) -> str:
        """Why the landing zone can't be looked at; "" if it can."""
        return "" if self.path.is_dir() else f"the landing zone is not there yet: {self.path}"

    def fetch(self, key: str) -> Arrival:
        """The arrival as files: on local disk it is where it is."""
        return self.find(key)

    def held(self, key: str) -> Arrival:
        """As `fetch`."""
        return self.find(key)

    def _names_of_files(self) -> list[str]:
        return [entry.name for entry in self._entries() if entry.is_file()]

    def state(self, arrival: Arrival) -> ArrivalState:
        """What is there now. Reads folders, never files.

        An archive is complete when it is quiet, or when a file of its name and the marker's lies beside it
        (`drop.zip_COMPLETE`).
        """
        if arrival.place.is_file():
            return self._state_of_archive(arrival.place)
        digest = hashlib.blake2b(digest_size=16)
        n_files = n_bytes = 0
        is_marked = False
        changed_s = arrival.place.stat().st_ctime
        for relative, stat in sorted(_walk(arrival.place), key=lambda item: item[0]):
            # ctime: copying tools keep the old modification time of what they have only just written
            changed_s = max(changed_s, stat.st_ctime)
            if relative == self.settings.complete_marker:
                is_marked = True
            elif not _is_folder(stat):
                n_files += 1
                n_bytes += stat.st_size
                digest.update(os.fsencode(f"{relative}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
        return ArrivalState(n_files, n_bytes, changed_s, is_marked, digest.hexdigest())

    def _state_of_archive(self, archive: Path) -> ArrivalState:
        stat = archive.stat()
        text = os.fsencode(f"\0{stat.st_size}\0{stat.st_mtime_ns}\0")
        marker = archive.with_name(archive.name + self.settings.complete_marker)
        version = hashlib.blake2b(text, digest_size=16).hexdigest()
        return ArrivalState(1, stat.st_size, stat.st_ctime, marker.is_file(), version)

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.path) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise ConfigurationError(
                f"the landing zone can't be listed: {error.strerror}: {self.path}; "
                "`landing` in dataset.yaml must name a folder"
            ) from error


def kind_of_name(name: str) -> str:
    """What may be told of a loose file: its suffix, where that is no part of a name."""
    suffix = max((known for known in _TOLD if name.lower().endswith(known)), key=len, default="")
    if suffix:
        return suffix
    return "of another kind" if "." in name else "without suffix"


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
