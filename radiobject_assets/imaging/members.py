"""Series whose files lie in archives: their headers read in place, their voxels from a short-lived copy.

A scan unpacks one member at a time into a scratch file and reads its header there. Decoding unpacks the
members of one series into a temporary folder and removes them when the last slab was read, so the disk holds
at most one series for each worker, never the whole archive (but see `unpacking`).
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.archives import LIMITS, ArchiveLimits, Kind, is_tar, members, split_member
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series_record import Series
from radiobject_assets.imaging.sidecars import SUFFIXES
from radiobject_assets.imaging.source import AttributeValue, ImageSource, Slab
from radiobject_assets.temporary import temporary_folder

# Room that is left for others on the disk that temporary copies go to.
_SPARE_DISK_BYTES = 256 << 20
_CHUNK = 1 << 20
_ROOM_STEP = 64 << 20
_MAX_TEXT_BYTES = 1 << 20
_MAX_TEXTS_BYTES = 64 << 20

Copied = tuple[Path, Path]
"""Path of a member, and of the copy that may be read until the next one."""


@dataclass
class Unpacked:
    """What came out of an archive besides the members' copies.

    refused
        Members that were not read, with the reason and what to say.
    texts
        Content of sidecars (small JSON, b-value and b-vector files), by the member's path.
    """

    refused: list[tuple[Path, Reason, str]] = field(default_factory=list)
    texts: dict[Path, bytes] = field(default_factory=dict)


def copies(archive: Path, kind: Kind, into: Unpacked, limits: ArchiveLimits = LIMITS) -> Iterator[Copied]:
    """Each member of an archive in a scratch file, one after the other; refused ones are noted in `into`.

    Raises
    ------
    ImageReadError
        If the archive as a whole is refused (`archives.members`).
    """
    text_bytes = 0
    with temporary_folder() as folder:
        scratch = Path(folder, "member")
        for member in members(archive, kind, limits):
            if member.refused:
                into.refused.append((member.path, Reason.ARCHIVE_MEMBER, member.refused))
                continue
            _check_room(scratch.parent, member.size_bytes)
            try:
                with open(scratch, "wb") as file:
                    member.copy_to(file)
            except ImageReadError as error:
                into.refused.append((member.path, Reason(error.code), error.detail))
                continue
            if member.path.suffix in SUFFIXES and member.size_bytes <= _MAX_TEXT_BYTES:
                text_bytes += member.size_bytes
                if text_bytes <= _MAX_TEXTS_BYTES:
                    into.texts[member.path] = scratch.read_bytes()
            yield member.path, scratch


def kind_of_archive(path: Path) -> Kind | None:
    """Which of the archives that are read in place a file is, by its first bytes; None if none."""
    with open(path, "rb") as file:
        start = file.read(512)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if start[:2] == b"\x1f\x8b":
        with gzip.open(path) as packed, suppress(EOFError, zlib.error, gzip.BadGzipFile):
            return "tar.gz" if is_tar(packed.read(512)) else None
        return "tar.gz"  # damaged: unpacking says how
    return "tar" if is_tar(start) else None


def inflate(packed: Path, target: Path, limits: ArchiveLimits = LIMITS) -> None:
    """Write what a gzip file holds (of one member or several) to `target`.

    Raises
    ------
    ImageReadError
        ARCHIVE_DAMAGED where the gzip data is damaged or cut short, ARCHIVE_LIMITS where it unpacks to more
        than is plausible, NOT_READABLE where the disk has no room.
    """
    size = packed.stat().st_size
    written = 0
    try:
        with gzip.open(packed) as source, open(target, "wb") as file:
            while data := source.read(_CHUNK):
                written += len(data)
                limits.check_member(1, written)
                limits.check(written, size)
                if written % _ROOM_STEP < _CHUNK:
                    _check_room(target.parent, len(data))
                file.write(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageReadError(
            Reason.ARCHIVE_DAMAGED, "its gzip data is damaged or cut short", packed
        ) from error


def read_member(path: Path, max_bytes: int) -> bytes:
    """The bytes of one member.

    Raises
    ------
    ImageReadError
        It is gone, damaged, or has more than `max_bytes`.
    """
    found = split_member(path)
    if found is None:
        raise ImageReadError(Reason.FILE_CHANGED, "is no longer in an archive", path)
    with temporary_folder() as folder:
        local: dict[Path, Path] = {}
        unpack(found[0], {path}, Path(folder), local)
        if path not in local:
            raise ImageReadError(Reason.FILE_CHANGED, "is no longer in the archive", path)
        if local[path].stat().st_size > max_bytes:
            raise ImageReadError(Reason.ARCHIVE_LIMITS, f"has more than {max_bytes >> 20} MB", path)
        return local[path].read_bytes()


def in_archive(series: Series) -> bool:
    """Whether any file of a series is a member of an archive, or gzipped by itself."""
    if any(instance.gzipped for instance in series.instances):
        return True
    return any(split_member(path) is not None for path in needed_files(series)[:1])


@contextmanager
def local_copy(series: Series) -> Iterator[Series]:
    """The series with its members unpacked to a temporary folder, which is removed at the end.

    Raises
    ------
    ImageReadError
        FILE_CHANGED where a member is gone, NOT_READABLE where the disk has no room for the copies.
    """
    wanted: dict[Path, set[Path]] = defaultdict(set)
    for path in needed_files(series):
        found = split_member(path)
        if found is not None:
            wanted[found[0]].add(path)
    gzipped = [instance.path for instance in series.instances if instance.gzipped]
    if not wanted and not gzipped:
        yield series
        return
    with temporary_folder() as folder:
        local: dict[Path, Path] = {}
        for archive, paths in wanted.items():
            unpack(archive, paths, Path(folder), local)
        missing = {path for paths in wanted.values() for path in paths} - local.keys()
        if missing:
            raise ImageReadError(Reason.FILE_CHANGED, f"{len(missing)} members are no longer in the archive")
        for number, path in enumerate(gzipped):
            packed, local[path] = local.get(path, path), Path(folder, f"inflated{number}")
            try:
                inflate(packed, local[path])
            except OSError as error:
                raise ImageReadError(
                    Reason.FILE_CHANGED, f"cannot be opened again ({error.strerror})", path
                ) from error
        copy = moved(series, lambda path: local.get(path, path))
        yield replace(copy, instances=tuple(replace(i, gzipped=False) for i in copy.instances))


def unpack(archive: Path, wanted: set[Path], folder: Path, local: dict[Path, Path]) -> None:
    """Copy the wanted members of an archive into `folder` in one pass, and note each copy in `local`.

    Raises
    ------
    ImageReadError
        The archive is gone or damaged, a member is, or the disk has no room.
    """
    try:
        kind = kind_of_archive(archive)
    except OSError as error:
        raise ImageReadError(
            Reason.FILE_CHANGED, f"the archive cannot be opened again ({error.strerror})", archive
        ) from error
    if kind is None:
        raise ImageReadError(Reason.FILE_CHANGED, "is no archive any more", archive)
    left = set(wanted)
    for member in members(archive, kind):
        if member.path not in left:
            continue
        _check_room(folder, member.size_bytes)
        target = folder / f"{len(local)}"
        try:
            with open(target, "wb") as file:
                member.copy_to(file)
        except OSError as error:
            raise ImageReadError(
                Reason.NOT_READABLE, f"cannot be unpacked ({error.strerror})", member.path
            ) from error
        local[member.path] = target
        left.discard(member.path)
        if not left:
            return


def _check_room(folder: Path, size_bytes: int) -> None:
    if shutil.disk_usage(folder).free < size_bytes + _SPARE_DISK_BYTES:
        raise ImageReadError(
            Reason.NOT_READABLE, f"the disk for temporary files has no room for {size_bytes >> 20} MB"
        )


def needed_files(series: Series) -> list[Path]:
    """The files that decoding a series opens."""
    if series.nifti is not None:
        return list(dict.fromkeys((series.nifti.path, series.nifti.data_file or series.nifti.path)))
    return [instance.path for instance in series.instances]


def moved(series: Series, place: Callable[[Path], Path]) -> Series:
    """The series with each file that decoding opens where `place` says."""
    nifti = series.nifti
    if nifti is not None:
        data = None if nifti.data_file is None else place(nifti.data_file)
        nifti = replace(nifti, path=place(nifti.path), data_file=data)
    instances = tuple(replace(instance, path=place(instance.path)) for instance in series.instances)
    return replace(series, nifti=nifti, instances=instances)


class MemberSource:
    """Voxels of a series in an archive (`source.ImageSource`): unpacked when `slabs` begins, removed after.

    Where the attributes need the file (`NiftiFile.keep_extensions`, contours), it is unpacked for them and
    kept until the voxels are read, so that the archive is gone through once.

    Parameters
    ----------
    reopen
        Opens a series whose files lie on disk.
    """

    def __init__(self, series: Series, reopen: Callable[[Series], ImageSource]) -> None:
        described = reopen(series)  # nothing is read yet
        self._series = series
        self._reopen = reopen
        self.shape: tuple[int, ...] = described.shape
        self.dtype: np.dtype[Any] = described.dtype
        self.affine: NDArray[np.float64] = described.affine
        self.slope = described.slope
        self.intercept = described.intercept
        nifti = series.nifti
        in_file = nifti is not None and nifti.keep_extensions and nifti.extension_bytes > 0
        in_file |= any(segment.contours for segment in series.segments)
        self._attributes = None if in_file else described.attributes
        self._digest = ""
        self._held: tuple[ExitStack, ImageSource] | None = None

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """See `ImageSource.attributes`."""
        if self._attributes is None:
            self._held = self._unpacked()
            self._attributes = self._held[1].attributes
        return self._attributes

    def slabs(self, depth: int) -> Iterator[Slab]:
        """See `ImageSource.slabs`."""
        (copies, source), self._held = self._held or self._unpacked(), None
        with copies:
            self._attributes = source.attributes
            yield from source.slabs(depth)
            self._digest = source.source_digest()

    def _unpacked(self) -> tuple[ExitStack, ImageSource]:
        with ExitStack() as copies:
            source = self._reopen(copies.enter_context(local_copy(self._series)))
            return copies.pop_all(), source

    def source_digest(self) -> str:
        """See `ImageSource.source_digest`."""
        if not self._digest:
            raise ImageReadError(Reason.FILE_CHANGED, "not every file has been read: exhaust slabs() first")
        return self._digest
