"""Members of archives, one at a time or some together: copied to a scratch folder, within bounds.

A scan unpacks one member at a time into a scratch file and reads its header there.
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.files.archives import (
    LIMITS,
    ArchiveLimits,
    Kind,
    is_tar,
    members,
    split_member,
)
from radiobject_assets.imaging.files.volume_names import SIDECAR_SUFFIXES
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.system.temporary import temporary_folder

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
            if member.path.suffix in SIDECAR_SUFFIXES and member.size_bytes <= _MAX_TEXT_BYTES:
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
