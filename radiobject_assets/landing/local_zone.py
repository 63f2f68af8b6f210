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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from radiobject_assets.dataset.arrival_section import ArrivalsConfig
from radiobject_assets.errors import ConfigurationError, IngestError
from radiobject_assets.landing.folder_names import FolderNames, folder_names

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
_TOKEN = re.compile(r"a-[0-9a-f]{10}")
SHARED_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})-([0-9]{3,})")
"""What partitions that several arrivals share are called: a day and a number."""


# Folders with folders in them that are remembered of an arrival; with more, each glance lists them all.
_MAX_INNER = 256
# A marker whose modification time is older than its arrival here was copied along with the rest.
_COPIED_S = 2.0


@dataclass(frozen=True)
class Arrival:
    """What came in together: one folder or archive of the landing zone, and the key that it goes by."""

    key: str
    place: Path
    """The folder, or the archive's file; of an arrival on S3, where its copy lies."""
    source: str = ""
    """On S3: what its objects' keys begin with below the landing zone."""
    packed: bool = False
    """Whether it is an archive."""
    zone: int = 0
    """Which of the data set's landing zones it lies in."""


@dataclass(frozen=True)
class ArrivalState:
    """An arrival's content as the file system, or S3, tells it. All times are by its clock, not by ours."""

    n_files: int
    n_bytes: int
    changed_s: float
    """Latest change of any file or folder in it: seconds since the epoch."""
    content_s: float
    """As `changed_s`, of what a marker speaks of: without the marker, and without the moving of folders."""
    marker_s: float | None
    """When the marker that says `complete` was written; None: there is none, or it came as a copy with the
    rest and says nothing of how far the copying is."""
    version: str
    """Digest of relative paths, sizes and modification times (on S3: ETags); the marker does not count."""


@dataclass(frozen=True)
class Glance:
    """What one stat a folder tells of an arrival: whether a name came, went or was changed in any of them."""

    digest: str
    """"" where there is no cheaper look than at everything (S3)."""
    inner: tuple[int, ...] | None
    """Numbers of the folders that have folders; the others need not be listed. None: too many to remember."""


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


@dataclass(frozen=True)
class Listing:
    """What lies in a landing zone itself."""

    arrivals: tuple[Arrival, ...]
    """By key."""
    loose: LooseFiles
    """Files that belong to no arrival."""
    clashes: tuple[str, ...] = ()
    """Keys that several deliveries would share (of several landing zones, or a folder and an archive on S3):
    none of them is an arrival until one is renamed, since one would take the other's place."""

    @classmethod
    def of(cls, found: Iterable[Arrival], loose: LooseFiles, clashes: Iterable[str] = ()) -> Listing:
        """What was found, without what would share a key; `clashes` are known already."""
        arrivals = sorted(found, key=lambda arrival: arrival.key)
        counts = Counter(arrival.key for arrival in arrivals)
        shared = {*clashes, *(key for key, number in counts.items() if number > 1)}
        kept = tuple(arrival for arrival in arrivals if arrival.key not in shared)
        return cls(kept, loose, tuple(sorted(shared)))

    @cached_property
    def by_key(self) -> Mapping[str, Arrival]:
        """The arrivals by key."""
        return {arrival.key: arrival for arrival in self.arrivals}

    @cached_property
    def keys(self) -> frozenset[str]:
        """Keys of all that is there, also of what is not taken in because two share one."""
        return frozenset((*self.by_key, *self.clashes))


def arrival_key(name: str, trusted_names: str | None, zone: str = "") -> str:
    """The key of a folder or archive: its name where that is declared harmless, else a token of the name.

    Parameters
    ----------
    name
        Its name in the landing zone, an archive's with its suffix.
    trusted_names
        `arrivals.trusted_names` of dataset.yaml: a regular expression that the whole name must match. A name
        that looks as if we had given it (a token, a shared partition) goes by a token all the same: it would
        be taken for another arrival's, or for the partition of others.
    zone
        The landing zone, as dataset.yaml names it; empty for the first, whose keys are tokens of names alone,
        so that a data set that gets another zone keeps the keys that it has.
    """
    is_plain = _PLAIN_NAME.fullmatch(name) and not (is_token(name) or SHARED_NAME.fullmatch(name))
    if trusted_names and is_plain and re.fullmatch(trusted_names, name):
        return name
    told = os.fsencode(f"{zone}\0{name}" if zone else name)
    return f"a-{hashlib.blake2b(told, digest_size=5).hexdigest()}"


def is_token(key: str) -> bool:
    """Whether an arrival goes by a token of its name, and not by the name itself."""
    return _TOKEN.fullmatch(key) is not None


def is_archive(name: str) -> bool:
    """Whether a file of that name is an arrival of its own."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


class Landing(ABC):
    """What landing zones have in common, wherever they lie."""

    settings: ArrivalsConfig
    walk_at_once: int = 5_000
    """Files that are looked at anew in one look although nothing says that their arrival has changed."""
    glance_at_once: int = 10_000
    """Settled arrivals that get a glance in one look."""

    @abstractmethod
    def listing(self) -> Listing:
        """All arrivals, and the files that belong to none; names that begin with a dot are left alone.

        Raises
        ------
        ConfigurationError
            The landing zone is no folder.
        StorageError
            The bucket can't be listed.
        """

    @abstractmethod
    def states(
        self, arrivals: Iterable[Arrival], out_of_time: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[Arrival, ArrivalState | None]]:
        """What is there now, one arrival after the other, in an order that suits the zone.

        None: it was taken away, or closed to us, while we looked.

        Parameters
        ----------
        out_of_time
            Asked while a long listing is read (S3): then the rest is left out, and the next call in this
            process goes on with that listing.
        """

    @abstractmethod
    def glance(self, arrival: Arrival, inner: tuple[int, ...] | None) -> Glance:
        """The cheapest look at an arrival; `inner` is that of an earlier glance, None without one."""

    @abstractmethod
    def problem(self) -> str:
        """Why the landing zone can't be looked at; "" if it can."""

    @abstractmethod
    def fetch(self, one: str | Arrival) -> Arrival:
        """An arrival, or that of a key, as files: on local disk it is where it is, from S3 it is copied.

        Who has several to fetch lists them once (`arrivals`), instead of looking for each key.
        """

    @abstractmethod
    def held(self, one: str | Arrival) -> Arrival:
        """The arrival's copy as it is; on local disk as `fetch`."""

    @contextmanager
    def fetched(self, arrival: Arrival) -> Iterator[Arrival]:
        """As `fetch`, for one look: a copy that is made for it is gone afterwards."""
        yield self.fetch(arrival)

    def those_of(self, keys: Collection[str]) -> dict[str, Arrival]:
        """Of these keys the arrivals that are there: one look for those that a run works on."""
        return {arrival.key: arrival for arrival in self.arrivals() if arrival.key in keys}

    def arrivals(self) -> tuple[Arrival, ...]:
        """All arrivals by key. Hidden entries are left alone: tools keep half-copied files there."""
        return self.listing().arrivals

    def keys(self) -> frozenset[str]:
        """Keys of all that is there (`Listing.keys`)."""
        return self.listing().keys

    def loose_files(self) -> LooseFiles:
        """Files in the landing zone itself that belong to no arrival."""
        return self.listing().loose

    def state(self, arrival: Arrival) -> ArrivalState:
        """What is there now. Reads folders, never files.

        Raises
        ------
        IngestError
            It is gone.
        """
        for _, state in self.states([arrival]):
            if state is not None:
                return state
        raise _gone(arrival.key)

    def find(self, key: str) -> Arrival:
        """The arrival of that key.

        Raises
        ------
        IngestError
            Nothing goes by it (any more), or several deliveries do.
        """
        listing = self.listing()
        if key in listing.clashes:
            raise _shared(key)
        for arrival in listing.arrivals:
            if arrival.key == key:
                return arrival
        raise _gone(key)

    def _loose(self, names: Iterable[str]) -> LooseFiles:
        names = sorted(names)
        markers = {name + self.settings.complete_marker for name in names if is_archive(name)}
        return LooseFiles(Counter(kind_of_name(n) for n in names if not is_archive(n) and n not in markers))


def _gone(key: str) -> IngestError:
    return IngestError(
        f"arrival {key!r} is no longer in the landing zone; put it back there, or delete the partition",
        public="this arrival is no longer in the landing zone",
        advice="Put the delivery back, under the same name; if it was taken away for good, delete the "
        "partition. What is in the store of it stays.",
    )


def _shared(key: str) -> IngestError:
    return IngestError(
        f"several deliveries go by {key!r}; rename one of them, so that neither takes the other's place",
        public="several deliveries would go by this name, so none of them is taken in",
        advice="Rename one of them.",
    )


_MOST_LISTINGS = 16
_listings: dict[str, tuple[FolderNames, tuple[object, ...], Listing]] = {}
"""Of each folder the listing that was made of these names, which stay the same object."""


@dataclass(frozen=True)
class LandingZone(Landing):
    """A local folder in which each sub-folder, and each archive, is one arrival."""

    path: Path
    settings: ArrivalsConfig
    name: str = ""
    """What its arrivals' tokens are made with (`arrival_key`)."""
    number: int = 0
    """Which of the data set's landing zones it is."""

    def listing(self) -> Listing:
        """See `Landing`. The same object while nothing comes or goes."""
        names, own = self._names(), (self.path, self.name, self.number, self.settings)
        kept = _listings.get(os.fspath(self.path))
        if kept is not None and kept[0] is names and kept[1] == own:
            return kept[2]
        listing = Listing.of((self._arrival(*one) for one in self._keyed(names)), self._loose(names.files))
        while len(_listings) >= _MOST_LISTINGS:
            _listings.pop(next(iter(_listings)), None)
        _listings[os.fspath(self.path)] = (names, own, listing)
        return listing

    def keys(self) -> frozenset[str]:
        """See `Landing`."""
        return frozenset(key for key, _, _ in self._keyed(self._names()))

    def those_of(self, keys: Collection[str]) -> dict[str, Arrival]:
        """See `Landing`. Only those that are found are more than names; what two have for key is none."""
        wanted = frozenset(keys)
        found = [one for one in self._keyed(self._names()) if one[0] in wanted]
        counts = Counter(key for key, _, _ in found)
        return {one[0]: self._arrival(*one) for one in found if counts[one[0]] == 1}

    def find(self, key: str) -> Arrival:
        """See `Landing`."""
        found = [self._arrival(*one) for one in self._keyed(self._names()) if one[0] == key]
        if len(found) > 1:
            raise _shared(key)
        if not found:
            raise _gone(key)
        return found[0]

    def _keyed(self, names: FolderNames) -> Iterator[tuple[str, str, bool]]:
        """Of all deliveries the key, the name, and whether it is an archive."""
        trusted = self.settings.trusted_names
        for name in names.folders:
            yield arrival_key(name, trusted, self.name), name, False
        for name in names.files:
            if is_archive(name):
                yield arrival_key(name, trusted, self.name), name, True

    def _arrival(self, key: str, name: str, packed: bool) -> Arrival:
        return Arrival(key, self.path / name, packed=packed, zone=self.number)

    def problem(self) -> str:
        """Why the landing zone can't be looked at; "" if it can."""
        return "" if self.path.is_dir() else f"the landing zone is not there yet: {self.path}"

    def fetch(self, one: str | Arrival) -> Arrival:
        """The arrival as files: on local disk it is where it is."""
        return one if isinstance(one, Arrival) else self.find(one)

    def held(self, one: str | Arrival) -> Arrival:
        """As `fetch`."""
        return self.fetch(one)

    def glance(self, arrival: Arrival, inner: tuple[int, ...] | None) -> Glance:
        """One stat a folder; only folders that have folders are listed."""
        digest = hashlib.blake2b(digest_size=8)
        if arrival.packed:
            state = self._packed(arrival.place)
            digest.update(f"{state.version}{state.marker_s}".encode())
            return Glance(digest.hexdigest(), ())
        root = os.fspath(arrival.place)
        with suppress(OSError):  # a marker that is written anew changes no folder
            marker = os.stat(f"{root}/{self.settings.complete_marker}")
            digest.update(b"%d\0" % marker.st_ctime_ns)
        listed = None if inner is None else frozenset(inner)
        found: list[int] = []
        waiting, number = [root], 0
        while waiting:
            folder = waiting.pop()
            # not the time of its last inode change: that is another one after each move of the whole arrival
            digest.update(b"%d\0" % os.stat(folder).st_mtime_ns)
            if listed is None or number in listed:
                with os.scandir(folder) as entries:
                    below = sorted(e.path for e in entries if e.is_dir(follow_symlinks=False))
                if below:
                    found.append(number)
                waiting += reversed(below)
            number += 1
        return Glance(digest.hexdigest(), tuple(found) if len(found) <= _MAX_INNER else None)

    def states(
        self, arrivals: Iterable[Arrival], out_of_time: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[Arrival, ArrivalState | None]]:
        """See `Landing`; in the order in which they are given.

        An archive's marker is a file of its name and the marker's beside it (`drop.zip_COMPLETE`).
        """
        for arrival in arrivals:
            try:
                yield arrival, self._packed(arrival.place) if arrival.packed else self._folder(arrival.place)
            except OSError:
                yield arrival, None

    def _folder(self, place: Path) -> ArrivalState:
        digest = hashlib.blake2b(digest_size=16)
        n_files = n_bytes = 0
        marker = None
        own = place.stat()
        changed_s, content_s = own.st_ctime, own.st_mtime - _COPIED_S
        for relative, stat in sorted(_walk(place), key=lambda item: item[0]):
            # ctime: copying tools keep the old modification time of what they have only just written
            changed_s = max(changed_s, stat.st_ctime)
            if relative == self.settings.complete_marker:
                marker = stat
            elif _is_folder(stat):
                # writing the marker changes its folder; and to move a folder is no change of what is in it
                content_s = max(content_s, stat.st_mtime - _COPIED_S)
            else:
                content_s = max(content_s, stat.st_ctime)
                n_files += 1
                n_bytes += stat.st_size
                digest.update(os.fsencode(f"{relative}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
        return ArrivalState(n_files, n_bytes, changed_s, content_s, _written_s(marker), digest.hexdigest())

    def _packed(self, archive: Path) -> ArrivalState:
        stat = archive.stat()
        text = os.fsencode(f"\0{stat.st_size}\0{stat.st_mtime_ns}\0")
        marker = archive.with_name(archive.name + self.settings.complete_marker)
        version = hashlib.blake2b(text, digest_size=16).hexdigest()
        written_s = _written_s(marker.stat() if marker.is_file() else None)
        return ArrivalState(1, stat.st_size, stat.st_ctime, stat.st_ctime, written_s, version)

    def _names(self) -> FolderNames:
        try:
            return folder_names(self.path)
        except OSError as error:
            raise ConfigurationError(
                f"the landing zone can't be listed: {error.strerror}: {self.path}; "
                "`landing` in dataset.yaml must name a folder"
            ) from error


def _written_s(marker: os.stat_result | None) -> float | None:
    """When a marker was written here; None if it is a copy of one that was written elsewhere, or earlier."""
    if marker is None or marker.st_ctime - marker.st_mtime > _COPIED_S:
        return None
    return marker.st_ctime


def kind_of_name(name: str) -> str:
    """What may be told of a loose file: its suffix, where that is no part of a name."""
    suffix = max((known for known in _TOLD if name.lower().endswith(known)), key=len, default="")
    if suffix:
        return suffix
    return "of another kind" if "." in name else "without suffix"


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    root = os.fspath(folder)
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                try:
                    stat = entry.stat()
                except OSError:
                    continue  # moved away, or a link to nowhere: the next sweep sees what is then there
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_dir():
                    continue  # links to folders can lead in circles
                yield entry.path[len(root) + 1 :], stat  # `os.path.relpath` takes half of a walk's time


def _is_folder(stat: os.stat_result) -> bool:
    return (stat.st_mode & 0o170000) == 0o040000
