"""Archives (`.zip`, `.tar`, `.tar.gz`) read in place: their members one after the other, within bounds.

A member is named by the path `<archive>!/<its path in the archive>`. No member is ever written under its own
name, so a name cannot lead out of a folder; and what an archive holds is counted while it is unpacked, so
that what its headers claim cannot fill the disk or the memory. A bound that is exceeded refuses the archive.
"""

from __future__ import annotations

import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.reasons import Reason

Kind = Literal["zip", "tar", "tar.gz"]
MARK = "!"
"""Ends the archive's own name in the path of a member."""

_CHUNK = 1 << 20
# A tar header's extensions are read whole by tarfile, whatever size they claim.
_MAX_READ = 16 << 20
# What zipfile and tarfile let through when bytes are not what they expect, besides their own errors.
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError,
    NotImplementedError, RuntimeError, ValueError, LookupError, TypeError, ArithmeticError,
)  # fmt: skip
_TAR_BLOCK = 512
_ARCHIVE_ENDING = re.compile(r"\.(zip|tar|tgz|tar\.gz)$", re.IGNORECASE)
_OFFICE = "[Content_Types].xml"


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold.

    members, member_bytes, total_bytes
        Number of members, unpacked bytes of one and of all.
    ratio, free_bytes
        Unpacked bytes for each byte of the archive; not judged below `free_bytes` unpacked.
    """

    members: int = 200_000
    member_bytes: int = 8 << 30
    total_bytes: int = 64 << 30
    ratio: int = 250
    free_bytes: int = 256 << 20

    def check(self, unpacked: int, packed: int) -> None:
        """Refuse an archive of `packed` bytes that has given `unpacked` bytes."""
        if unpacked > self.total_bytes:
            raise ImageReadError(Reason.ARCHIVE_LIMITS, f"holds more than {self.total_bytes >> 30} GB")
        if unpacked > max(self.free_bytes, packed * self.ratio):
            raise ImageReadError(Reason.ARCHIVE_LIMITS, f"unpacks to more than {self.ratio} times its size")

    def check_member(self, number: int, size: int) -> None:
        """Refuse an archive whose `number`-th member is one too many, or too large."""
        if number > self.members:
            raise ImageReadError(Reason.ARCHIVE_LIMITS, f"holds more than {self.members} members")
        if size > self.member_bytes:
            raise ImageReadError(
                Reason.ARCHIVE_LIMITS, f"holds a member of more than {self.member_bytes >> 30} GB"
            )


LIMITS = ArchiveLimits()


@dataclass(frozen=True)
class Member:
    """One file in an archive; valid until the next one is asked for.

    path
        `<archive>!/<member>`, no two the same.
    refused
        Why it must not be read; "" if it may.
    """

    path: Path
    size_bytes: int
    refused: str
    _open: Callable[[], IO[bytes]]

    def copy_to(self, target: IO[bytes]) -> None:
        """Write the member's bytes.

        Raises
        ------
        ImageReadError
            With ARCHIVE_MEMBER if the bytes are damaged or not as many as declared.
        """
        left = self.size_bytes
        try:
            with self._open() as source:
                while left > 0 and (data := source.read(min(left, _CHUNK))):
                    target.write(data)
                    left -= len(data)
                source.read(1)  # zip compares the checksum at the end
        except ImageReadError:
            raise
        except (gzip.BadGzipFile, *_DAMAGE) as error:
            raise ImageReadError(
                Reason.ARCHIVE_MEMBER, f"cannot be unpacked ({type(error).__name__})", self.path
            ) from error
        if left:
            raise ImageReadError(Reason.ARCHIVE_MEMBER, "is cut short in the archive", self.path)


def members(archive: Path, kind: Kind, limits: ArchiveLimits = LIMITS) -> Iterator[Member]:
    """The files in an archive, in its own order; folders are left out.

    Raises
    ------
    ImageReadError
        With ARCHIVE_LIMITS or ARCHIVE_DAMAGED, for the archive as a whole; also between members.
    """
    names: Counter[str] = Counter()
    number = 0
    try:
        for name, size, refused, opener in _entries(archive, kind, limits):
            number += 1
            limits.check_member(number, size)
            inner = _inner_path(name)
            if inner is None:
                inner, refused = f"unsafe-name-{number}", "has a name that leads out of the archive"
            names[inner] += 1
            if names[inner] > 1:
                inner = f"{inner}#{names[inner]}"
            yield Member(Path(f"{archive}{MARK}", inner), size, refused, opener)
    except ImageReadError:
        raise
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise ImageReadError(Reason.ARCHIVE_DAMAGED, "its gzip data is damaged", archive) from error
        raise ImageReadError(
            Reason.NOT_READABLE, error.strerror or "the archive cannot be read", archive
        ) from error
    except _DAMAGE as error:
        raise ImageReadError(
            Reason.ARCHIVE_DAMAGED, f"cannot be unpacked ({type(error).__name__})", archive
        ) from error


def split_member(path: Path) -> tuple[Path, str] | None:
    """The archive of a member's path and the path in it; None for the path of a plain file."""
    text = path.as_posix()
    if f"{MARK}/" not in text:
        return None
    for parent in path.parents:
        if parent.name.endswith(MARK) and not parent.exists():
            archive = parent.with_name(parent.name[: -len(MARK)])
            if archive.is_file():
                return archive, path.relative_to(parent).as_posix()
    return None


def folder_of_archive(mark: str) -> str:
    """The folder that an archive would be unpacked into, from its name in members' paths; "" for others."""
    return _ARCHIVE_ENDING.sub("", mark.removesuffix(MARK)) if mark.endswith(MARK) else ""


def as_unpacked(member: Path, root: Path) -> str:
    """A member's path below `root` as if its archive were unpacked into a folder of the archive's name.

    `root` may be the archive itself, of which this folder is then the root.
    """
    found = split_member(member)
    if found is None:
        return member.relative_to(root).as_posix()
    archive, inner = found
    if archive == root:
        return inner
    folder = archive.with_name(folder_of_archive(f"{archive.name}{MARK}") or archive.name)
    return (folder.relative_to(root) / inner).as_posix()


def file_on_disk(path: Path) -> Path:
    """The file that holds `path`: itself, or the archive that it is a member of."""
    found = split_member(path)
    return path if found is None else found[0]


def is_tar(start: bytes) -> bool:
    """Whether bytes begin a tar archive: by its mark, or (the oldest kind has none) its header's checksum."""
    if start[257:262] == b"ustar":
        return True
    block = start[:_TAR_BLOCK]
    stated = block[148:156].strip(b" \0")
    if len(block) < _TAR_BLOCK or not stated or stated.strip(b"01234567"):
        return False
    return int(stated, 8) == sum(block) - sum(block[148:156]) + 8 * ord(" ")


def is_office_document(archive: Path) -> bool:
    """True for a zip file that is a document of another program (docx, xlsx...), not a parcel of files."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return _OFFICE in opened.NameToInfo or opened.namelist()[:1] == ["mimetype"]
    except (OSError, *_DAMAGE):
        return False


_Entry = tuple[str, int, str, Callable[[], IO[bytes]]]


def _entries(archive: Path, kind: Kind, limits: ArchiveLimits) -> Iterator[_Entry]:
    if kind == "zip":
        return _zip_entries(archive, limits)
    return _tar_entries(archive, limits, compressed=kind == "tar.gz")


def _zip_entries(archive: Path, limits: ArchiveLimits) -> Iterator[_Entry]:
    packed = archive.stat().st_size
    _check_directory(archive, packed, limits)
    with zipfile.ZipFile(archive) as opened:
        infos = [info for info in opened.infolist() if not info.is_dir()]
        limits.check(sum(info.file_size for info in infos), packed)
        for info in infos:
            refused = ""
            if info.flag_bits & 1:
                refused = "is encrypted"
            elif stat.S_ISLNK(info.external_attr >> 16):
                refused = "is a link"
            yield info.filename, info.file_size, refused, partial(opened.open, info)


def _check_directory(archive: Path, packed: int, limits: ArchiveLimits) -> None:
    # zipfile reads the whole directory of an archive and keeps an object of half a kilobyte for each entry
    with open(archive, "rb") as file:
        file.seek(max(0, packed - (1 << 16) - 22))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end >= 0 and len(tail) >= end + 16:
        size = int.from_bytes(tail[end + 12 : end + 16], "little")
        zip64 = tail.rfind(b"PK\x06\x06", 0, end)
        if size == 0xFFFFFFFF and zip64 >= 0:
            size = int.from_bytes(tail[zip64 + 40 : zip64 + 48], "little")
        if size > limits.members * 256:
            raise ImageReadError(Reason.ARCHIVE_LIMITS, f"lists more than {limits.members} members", archive)


def _tar_entries(archive: Path, limits: ArchiveLimits, *, compressed: bool) -> Iterator[_Entry]:
    packed = archive.stat().st_size
    with open(archive, "rb") as file:
        stream: Any = gzip.GzipFile(fileobj=file) if compressed else file
        bounded = _Bounded(stream, lambda position: limits.check(position, packed) if compressed else None)
        with tarfile.open(fileobj=bounded, mode="r:") as opened:
            while (info := opened.next()) is not None:
                vars(opened)["members"].clear()  # tarfile would keep every header
                if info.isdir():
                    continue
                refused = "" if info.isreg() and not info.issparse() else "is a link or a special file"
                size = info.size if not refused else 0
                yield info.name, size, refused, partial(_extracted, opened, info)


def _extracted(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    found = opened.extractfile(info)
    if found is None:
        raise tarfile.ReadError("is no file")
    return found


class _Bounded(io.RawIOBase):
    """A stream that calls `check` with the position that a read or a seek leads to, before it goes there."""

    def __init__(self, stream: Any, check: Callable[[int], None]) -> None:
        self._stream = stream
        self._check = check

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; more than any sane header needs is refused."""
        if size < 0 or size > _MAX_READ:
            raise ImageReadError(Reason.ARCHIVE_LIMITS, "has a header of an impossible size")
        self._check(self._stream.tell() + size)
        data: bytes = self._stream.read(size)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to `offset` from the start."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        self._check(offset)
        return int(self._stream.seek(offset))

    def tell(self) -> int:
        """Bytes unpacked so far."""
        return int(self._stream.tell())


def _inner_path(name: str) -> str | None:
    """A member's name as a plain relative path; None if it would lead elsewhere."""
    plain = name.replace("\\", "/").encode("utf-8", "replace").decode("utf-8")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    drive = len(plain) > 1 and plain[1] == ":"
    if not parts or plain.startswith("/") or drive or ".." in parts or "\0" in plain:
        return None
    return "/".join(parts)
