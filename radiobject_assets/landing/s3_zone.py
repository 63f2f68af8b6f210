"""A landing zone on S3: each prefix, and each archive, below a URI is one arrival.

Whether an arrival is settled and what is new in it is told by listings alone. To be read, an arrival is
copied to a work area that is bounded: copies of other arrivals make room for it, and it is copied again when
it is needed again. Objects are written under their own relative keys, unless a key would lead out of the
copy's folder or can't be a file there; then under a number.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from radiobject_assets.dataset.arrival_section import ArrivalsConfig
from radiobject_assets.errors import StorageError
from radiobject_assets.landing.local_zone import (
    Arrival,
    ArrivalState,
    Glance,
    Landing,
    Listing,
    arrival_key,
    is_archive,
)
from radiobject_assets.store import S3Object, S3Objects
from radiobject_assets.system.durable_files import write_whole
from radiobject_assets.system.locks import file_lock
from radiobject_assets.system.temporary import temporary_folder

_AT_ONCE = 8
_SPARE_DISK_BYTES = 256 << 20
_MANIFEST = "copied.json"
_FILES = "files"
_LOCK = "copying.lock"
# A run that reads a copy looks at its manifest first: what was looked at lately is not removed.
_IN_USE_S = 3600.0


@dataclass(frozen=True)
class _Copy:
    """What was copied of an arrival: by local name, the object's ETag and size."""

    source: str
    files: Mapping[str, list[Any]]

    def place(self, folder: Path) -> Path:
        """The copy's folder, or the one archive in it."""
        return folder / next(iter(self.files)) if is_archive(self.source) and self.files else folder

    @classmethod
    def read(cls, manifest: Path) -> _Copy | None:
        """The copy that a manifest tells of; None if it is not whole."""
        try:
            content: Any = json.loads(manifest.read_text(encoding="utf-8"))
            return cls(str(content["source"]), dict(content["files"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, manifest: Path) -> None:
        """Note that the copy is whole."""
        manifest.parent.mkdir(parents=True, exist_ok=True)
        write_whole(manifest, json.dumps({"source": self.source, "files": self.files}))


@dataclass(frozen=True)
class S3LandingZone(Landing):
    """A prefix on S3 in which each prefix below, and each archive, is one arrival.

    Parameters
    ----------
    objects
        What lies below the prefix; endpoint and credentials are those of its context.
    area
        Folder of the copies.
    """

    settings: ArrivalsConfig
    objects: S3Objects
    area: Path
    name: str = ""
    number: int = 0
    walk_at_once: int = 20_000  # twenty requests: a listing tells of 1,000 objects

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return self.objects.uri

    def problem(self) -> str:
        """Why the landing zone can't be looked at; "" if it can. A prefix without objects is an empty one."""
        try:
            self.objects.check()
        except StorageError as error:
            return str(error)
        return ""

    def listing(self) -> Listing:
        """See `Landing`."""
        folders, files = self.objects.top()
        found = [self._arrival(name, f"{name}/", False) for name in folders if name and name[0] != "."]
        files = [name for name in files if name and name[0] != "."]
        found += [self._arrival(name, name, True) for name in files if is_archive(name)]
        return Listing.of(found, self._loose(files))

    def glance(self, arrival: Arrival, inner: tuple[int, ...] | None) -> Glance:
        """On S3 there is no cheaper look than at everything."""
        return Glance("", ())

    def states(
        self, arrivals: Iterable[Arrival], out_of_time: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[Arrival, ArrivalState | None]]:
        """See `Landing`; in the order of S3, so that neighbours are told by one request.

        A listing that took several looks may tell of objects at several times. So it is no proof that nothing
        changed: a second one must say the same, and `raw_dicom` asks once more before it reads them.
        """
        listed = _Pages(self.objects)
        for arrival in sorted(arrivals, key=lambda one: _order(one.source)):
            found = listed.beginning_with(arrival.source, out_of_time)
            if found is None:
                return
            yield arrival, self._state(arrival, found)

    def fetch(self, one: str | Arrival) -> Arrival:
        """The arrival as files: copied unless the copy is complete and its objects are as they were.

        Raises
        ------
        IngestError
            It is gone.
        StorageError
            It can't be read, or is larger than the work area may be.
        """
        arrival = one if isinstance(one, Arrival) else self.find(one)
        # another process that copies it would take away what this one has copied
        with file_lock(self.area / arrival.key / _LOCK, make_folders=True):
            return self._fetch(arrival)

    @contextmanager
    def fetched(self, arrival: Arrival) -> Iterator[Arrival]:
        """See `Landing`; in a place of its own, for a run may be reading, or making, the copy in the area."""
        with temporary_folder() as own:
            yield replace(self, area=own).fetch(arrival)

    def object_of(self, arrival: Arrival, copy: Path) -> str | None:
        """Key of the object that a file is a copy of, in whichever area; None if the file is no copy."""
        if arrival.packed:
            return arrival.source
        parts = copy.parts
        ends = (n for n in range(2, len(parts)) if parts[n - 2 : n] == (arrival.key, _FILES))
        end = next(ends, None)
        return None if end is None else arrival.source + "/".join(parts[end:])

    def held(self, one: str | Arrival) -> Arrival:
        """The arrival's copy as it is, whatever the bucket says by now; copied only if there is none."""
        key = one.key if isinstance(one, Arrival) else one
        manifest = self.area / key / _MANIFEST
        there = _Copy.read(manifest)
        if there is None:
            return self.fetch(one)
        manifest.touch()
        place = there.place(self.area / key / _FILES)
        return Arrival(key, place, there.source, is_archive(there.source), self.number)

    def _fetch(self, arrival: Arrival) -> Arrival:
        key = arrival.key
        objects = dict(self._own(arrival, self.objects.beginning_with(arrival.source)))
        names = _local_names(list(objects))
        wanted: dict[str, list[Any]] = {
            names[relative]: [found.etag, found.size] for relative, found in objects.items()
        }
        folder = self.area / key / _FILES
        manifest = self.area / key / _MANIFEST
        there = _Copy.read(manifest)
        made = _Copy(arrival.source, wanted)
        whole = {name for name, (_, size) in wanted.items() if _has_size(folder / name, size)}
        if there != made or len(whole) < len(wanted):
            kept = {name for name in whole if there is not None and there.files.get(name) == wanted[name]}
            missing = {names[r]: found for r, found in objects.items() if names[r] not in kept}
            self._make_room(key, sum(found.size for found in missing.values()))
            manifest.unlink(missing_ok=True)
            for path in [path for path in folder.rglob("*") if path.is_file()]:
                if path.relative_to(folder).as_posix() not in kept:
                    path.unlink()
            for name in missing:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda name: self.objects.download(missing[name], folder / name), missing))
            folder.mkdir(parents=True, exist_ok=True)
        made.write(manifest)
        return replace(arrival, place=made.place(folder))

    def _arrival(self, name: str, source: str, packed: bool) -> Arrival:
        key = arrival_key(name, self.settings.trusted_names, self.name)
        return Arrival(key, self.area / key / _FILES, source, packed, self.number)

    def _state(self, arrival: Arrival, found: Sequence[S3Object]) -> ArrivalState:
        digest = hashlib.blake2b(digest_size=16)
        n_files = n_bytes = 0
        marker = self.settings.complete_marker
        beside = arrival.source + marker
        marker_s = next((one.modified_s for one in found if one.key == beside), None)
        changed_s = 0.0
        for relative, one in self._own(arrival, found):
            n_files += 1
            n_bytes += one.size
            changed_s = max(changed_s, one.modified_s)
            digest.update(f"{relative}\0{one.size}\0{one.etag}\0".encode("utf-8", "surrogatepass"))
        return ArrivalState(n_files, n_bytes, changed_s, changed_s, marker_s, digest.hexdigest())

    def _own(self, arrival: Arrival, found: Sequence[S3Object]) -> list[tuple[str, S3Object]]:
        """The arrival's objects, each under its key in the arrival, without the marker."""
        if arrival.packed:
            # not another archive whose name begins alike, nor the marker
            return [(PurePosixPath(arrival.source).name, one) for one in found if one.key == arrival.source]
        named = [(one.key.removeprefix(arrival.source), one) for one in found]
        not_files = ("", self.settings.complete_marker)
        return [
            (relative, one) for relative, one in named if relative not in not_files and relative[-1] != "/"
        ]

    def _make_room(self, key: str, needed: int) -> None:
        limit = int(self.settings.copy_limit_gb * 2**30)
        others = sorted(
            (path.parent for path in self.area.glob(f"*/{_MANIFEST}") if path.parent.name != key),
            key=lambda folder: (folder / _MANIFEST).stat().st_mtime,
        )
        self.area.mkdir(parents=True, exist_ok=True)
        while True:
            free = shutil.disk_usage(self.area).free - _SPARE_DISK_BYTES
            room = min(limit - _bytes_below(self.area), free)
            if needed <= room:
                return
            old = others.pop(0) if others else None
            if old is None or time.time() - (old / _MANIFEST).stat().st_mtime < _IN_USE_S:
                raise StorageError(
                    f"the arrival has {needed / 2**30:.1f} GB to copy, and the work area has room for "
                    f"{max(0, room) / 2**30:.1f} GB; raise arrivals.copy_limit_gb, free the disk, or send it "
                    "in smaller arrivals"
                )
            shutil.rmtree(old)


_BEGUN: dict[tuple[str, str], list[S3Object]] = {}
"""Objects of prefixes of which there was no time to list all, for the next look in this process."""


class _Pages:
    """The zone's objects, page by page: what lies side by side is told by one request."""

    def __init__(self, objects: S3Objects) -> None:
        self._objects = objects
        self._page: Sequence[S3Object] = ()
        self._keys: list[bytes] = []
        self._is_last = False

    def beginning_with(self, source: str, out_of_time: Callable[[], bool]) -> list[S3Object] | None:
        """All objects; None where there was no time for that, and the next call goes on."""
        first = _order(source)
        found = _BEGUN.pop((self._objects.uri, source), [])
        if found:
            self._turn(found[-1].key)
        elif not (self._keys and self._keys[0] <= first and (self._is_last or first <= self._keys[-1])):
            # what comes after a folder's own key is in it; an archive's key itself must come after
            self._turn(source if source.endswith("/") else source[:-1])
        while True:
            at = bisect_left(self._keys, first)
            while at < len(self._page) and self._page[at].key.startswith(source):
                found.append(self._page[at])
                at += 1
            if at < len(self._page) or self._is_last:
                return found
            if found and out_of_time():
                _BEGUN[self._objects.uri, source] = found
                return None
            self._turn(self._page[-1].key)

    def _turn(self, after: str) -> None:
        self._page, more = self._objects.page(after)
        self._keys = [_order(one.key) for one in self._page]
        self._is_last = not more or not self._page


def _order(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")  # S3 lists by bytes


def _local_names(relatives: list[str]) -> dict[str, str]:
    """A relative path for each object's key, no two the same, none a folder of another, none leading out."""
    folders = {parent.as_posix() for name in relatives for parent in PurePosixPath(name).parents}
    names: dict[str, str] = {}
    taken: set[str] = set()
    for number, name in enumerate(sorted(relatives)):
        parts = name.split("/")
        unsafe = any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > 240 for part in parts)
        plain = f"object-{number}" if unsafe or name in folders else name
        while plain in taken:
            plain = f"{plain}-{number}"
        taken.add(plain)
        names[name] = plain
    return names


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
