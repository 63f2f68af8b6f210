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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from radiobject_assets.dataset.dataset_yaml import ArrivalsConfig
from radiobject_assets.errors import IngestError, StorageError
from radiobject_assets.landing.local_zone import Arrival, ArrivalState, Landing, arrival_key, is_archive

_AT_ONCE = 8
_SPARE_DISK_BYTES = 256 << 20
_MANIFEST = "copied.json"
_FILES = "files"
# A run that reads a copy looks at its manifest first: what was looked at lately is not removed.
_IN_USE_S = 3600.0


@dataclass(frozen=True)
class _Object:
    relative: str
    size: int
    etag: str
    modified_s: float


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
        growing = manifest.with_suffix(".partial")
        growing.write_text(json.dumps({"source": self.source, "files": self.files}), encoding="utf-8")
        growing.replace(manifest)


@dataclass(frozen=True)
class S3LandingZone(Landing):
    """A prefix on S3 in which each prefix below, and each archive, is one arrival.

    Parameters
    ----------
    uri
        `s3://bucket/prefix`.
    client
        A boto3 client for S3; its endpoint and credentials are the caller's.
    area
        Folder of the copies.
    """

    uri: str
    settings: ArrivalsConfig
    client: Any
    area: Path

    @property
    def _bucket(self) -> str:
        return self.uri.removeprefix("s3://").partition("/")[0]

    @property
    def _prefix(self) -> str:
        prefix = self.uri.removeprefix("s3://").partition("/")[2].strip("/")
        return f"{prefix}/" if prefix else ""

    def problem(self) -> str:
        """Why the landing zone can't be looked at; "" if it can. A prefix without objects is an empty one."""
        try:
            self._ask("list", lambda: self.client.list_objects_v2(Bucket=self._bucket, MaxKeys=1))
        except StorageError as error:
            return str(error)
        return ""

    def arrivals(self) -> tuple[Arrival, ...]:
        """All arrivals by key; entries whose names begin with a dot are left alone.

        Raises
        ------
        StorageError
            The bucket can't be listed.
        """
        folders, files = self._entries()
        found = [self._arrival(name, f"{name}/") for name in folders]
        found += [self._arrival(name, name) for name in files if is_archive(name)]
        return tuple(sorted(found, key=lambda arrival: arrival.key))

    def _names_of_files(self) -> list[str]:
        return self._entries()[1]

    def state(self, arrival: Arrival) -> ArrivalState:
        """What is there now, from its listing."""
        return self._state(arrival, list(self._objects(arrival)))

    def fetch(self, key: str) -> Arrival:
        """The arrival as files: copied unless the copy is complete and its objects are as they were.

        Raises
        ------
        IngestError
            It is gone, or an object was cut short.
        StorageError
            It can't be read, or is larger than the work area may be.
        """
        arrival = self.find(key)
        objects = [o for o in self._objects(arrival) if o.relative != self.settings.complete_marker]
        names = _local_names([o.relative for o in objects])
        wanted = {names[o.relative]: [o.etag, o.size] for o in objects}
        folder = self.area / key / _FILES
        manifest = self.area / key / _MANIFEST
        there = _Copy.read(manifest)
        made = _Copy(arrival.source, wanted)
        if there != made or not all((folder / name).is_file() for name in wanted):
            kept = {name for name in wanted if there is not None and there.files.get(name) == wanted[name]}
            self._make_room(key, sum(o.size for o in objects if names[o.relative] not in kept))
            manifest.unlink(missing_ok=True)
            for path in [path for path in folder.rglob("*") if path.is_file()]:
                if path.relative_to(folder).as_posix() not in kept:
                    path.unlink()
            missing = [o for o in objects if not (folder / names[o.relative]).is_file()]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda o: self._copy(arrival, o, folder / names[o.relative]), missing))
            folder.mkdir(parents=True, exist_ok=True)
        made.write(manifest)
        return Arrival(key, made.place(folder), arrival.source)

    def held(self, key: str) -> Arrival:
        """The arrival's copy as it is, whatever the bucket says by now; copied only if there is none."""
        manifest = self.area / key / _MANIFEST
        there = _Copy.read(manifest)
        if there is None:
            return self.fetch(key)
        manifest.touch()
        return Arrival(key, there.place(self.area / key / _FILES), there.source)

    def _arrival(self, name: str, source: str) -> Arrival:
        key = arrival_key(name, self.settings.trusted_names)
        return Arrival(key, self.area / key / _FILES, source)

    def _state(self, arrival: Arrival, objects: list[_Object]) -> ArrivalState:
        digest = hashlib.blake2b(digest_size=16)
        n_files = n_bytes = 0
        marker = self.settings.complete_marker
        is_marked = is_archive(arrival.source) and self._exists(arrival.source + marker)
        for item in objects:
            if item.relative == marker:
                is_marked = True
                continue
            n_files += 1
            n_bytes += item.size
            digest.update(f"{item.relative}\0{item.size}\0{item.etag}\0".encode("utf-8", "surrogatepass"))
        changed_s = max((item.modified_s for item in objects), default=0.0)
        return ArrivalState(n_files, n_bytes, changed_s, is_marked, digest.hexdigest())

    def _entries(self) -> tuple[list[str], list[str]]:
        folders: list[str] = []
        files: list[str] = []
        for page in self._pages(self._prefix, Delimiter="/"):
            folders += [item["Prefix"] for item in page.get("CommonPrefixes", ())]
            files += [item["Key"] for item in page.get("Contents", ())]
        names = [name.removeprefix(self._prefix).rstrip("/") for name in folders]
        loose = [name.removeprefix(self._prefix) for name in files]
        return [n for n in names if n and n[0] != "."], [n for n in loose if n and n[0] != "."]

    def _objects(self, arrival: Arrival) -> Iterator[_Object]:
        start = self._prefix + arrival.source
        for page in self._pages(start):
            for item in page.get("Contents", ()):
                relative = item["Key"].removeprefix(start)
                if is_archive(arrival.source):
                    if relative:
                        continue  # another archive whose name begins alike, or the marker
                    relative = PurePosixPath(arrival.source).name
                if relative and not relative.endswith("/"):
                    modified = item["LastModified"].timestamp()
                    yield _Object(relative, int(item["Size"]), str(item["ETag"]), modified)

    def _exists(self, name: str) -> bool:
        keys = [item["Key"] for page in self._pages(self._prefix + name) for item in page.get("Contents", ())]
        return self._prefix + name in keys

    def _pages(self, prefix: str, **more: str) -> Iterator[Mapping[str, Any]]:
        token: dict[str, str] = {}
        while True:
            call = partial(self.client.list_objects_v2, Bucket=self._bucket, Prefix=prefix, **more, **token)
            page = self._ask("list", call)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _copy(self, arrival: Arrival, item: _Object, target: Path) -> None:
        start = self._prefix + arrival.source
        key = start if is_archive(arrival.source) else start + item.relative
        target.parent.mkdir(parents=True, exist_ok=True)
        growing = target.with_name(f"{target.name}.partial")
        # the object that was listed or none: a copy must not be half of one state and half of another
        answer = self._ask(
            "read", lambda: self.client.get_object(Bucket=self._bucket, Key=key, IfMatch=item.etag)
        )
        with open(growing, "wb") as file:
            self._ask("read", lambda: shutil.copyfileobj(answer["Body"], file, 1 << 20))
        if growing.stat().st_size != item.size:
            growing.unlink()
            raise IngestError("an object of the arrival was cut short while it was copied")
        growing.replace(target)

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

    def _ask(self, what: str, call: Callable[[], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call()
        except ClientError as error:
            told = error.response.get("Error", {})
            cause = f"{told.get('Code', 'error')}: {told.get('Message', '')}".rstrip(": ")
        except (BotoCoreError, OSError) as error:
            cause = type(error).__name__
        endpoint = self.client.meta.endpoint_url
        raise StorageError(f"can't {what} the landing zone {self.uri} at {endpoint}: {cause}")


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
