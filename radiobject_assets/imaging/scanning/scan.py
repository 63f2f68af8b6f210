"""Scan any tree of files by content, not by name: every regular file becomes one record, once.

A file is DICOM (an `Instance`), a volume in a file of its own (a `NiftiFile`: NIfTI, MGH, NRRD, MetaImage)
or unreadable with a reason (`recognition`). Only headers are read, each file is opened once, and a bad file
never stops the others. Archives are looked into: each member is a file of its own, and the archive itself is
none unless it is refused as a whole.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from blake3 import blake3

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.duplicates import SeenInstances, candidates
from radiobject_assets.imaging.dicom.header_cache import HeaderCache
from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.files.archives import LIMITS, ArchiveLimits, as_unpacked, is_office_document
from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.files.unpacked_members import Unpacked, copies, inflate, kind_of_archive
from radiobject_assets.imaging.files.unreadable import Unreadable
from radiobject_assets.imaging.nifti.axis import with_channel_names
from radiobject_assets.imaging.nifti.bids import described
from radiobject_assets.imaging.nifti.header import NiftiFile
from radiobject_assets.imaging.nifti.visits import with_visits
from radiobject_assets.imaging.reasons import IMPOSSIBLE, Reason
from radiobject_assets.imaging.scanning.data_files import claim_data_files
from radiobject_assets.imaging.scanning.foreign import arrays_in
from radiobject_assets.imaging.scanning.recognition import (
    GZIPPED_DICOM,
    PREFIX_BYTES,
    Record,
    classify,
    named,
)
from radiobject_assets.system.temporary import temporary_folder

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

__all__ = ["Record", "ScanResult", "Unreadable", "find_files", "pixel_digest", "scan", "scan_file"]

Progress = Callable[[int, int], None]
"""(files done, files in all)"""


@dataclass(frozen=True)
class ScanResult:
    """Every regular file under the sources, in exactly one of three lists, each sorted by path."""

    instances: tuple[Instance, ...] = ()
    niftis: tuple[NiftiFile, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def n_files(self) -> int:
        """Files that were scanned."""
        return len(self.instances) + sum(len(n.files) for n in self.niftis) + len(self.unreadable)

    def to_table(self) -> pa.Table:
        """All records as one Arrow table (`scan_table.scan_to_table`)."""
        from radiobject_assets.imaging.scanning.scan_table import scan_to_table

        return scan_to_table(self)

    @classmethod
    def from_table(cls, table: pa.Table) -> ScanResult:
        """The scan that a table was made of (`scan_table.scan_from_table`)."""
        from radiobject_assets.imaging.scanning.scan_table import scan_from_table

        return scan_from_table(table)


def find_files(source: Path) -> Iterator[Path]:
    """Regular files under `source` (or itself), sorted; folders behind symbolic links are not entered.

    A folder that may not be listed comes last, as a path of its own.
    """
    if source.is_file():
        yield source
        return
    # a folder that can't be listed is handed on, so that it is reported as unreadable and not passed over
    closed: list[Path] = []
    waiting = [os.fspath(source)]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            closed.append(Path(folder))
            continue
        below = []
        for entry in entries:
            # the listing itself says what most entries are; to ask for each takes as long as to open it
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
            elif entry.is_file(follow_symlinks=False) or (entry.is_symlink() and Path(entry.path).is_file()):
                yield Path(entry.path)
        waiting += reversed(below)
    yield from closed


def scan(
    sources: Sequence[Path],
    on_progress: Progress | None = None,
    *,
    limits: ArchiveLimits = LIMITS,
    known: Mapping[Path, Instance] = MappingProxyType({}),
) -> ScanResult:
    """Read the header of every file under `sources`; never raises for a bad file.

    Parameters
    ----------
    sources
        Folders and files; a file that is reached twice is read once.
    on_progress
        Called now and then with the number of files done and the number of all files.
    limits
        What an archive may hold before it is refused.
    known
        Records of files that are as they were: these are not opened, unless a copy of one has come.

    Raises
    ------
    FileNotFoundError
        If a source does not exist.
    """
    roots: dict[Path, Path] = {}
    for source in sources:
        if not source.exists():
            raise FileNotFoundError(f"nothing to scan at {source}")
        root = source if source.is_dir() else source.parent
        for path in find_files(source):
            roots.setdefault(path, root)
    alone = {source for source in sources if not source.is_dir()}
    instances: list[Instance] = []
    niftis: list[NiftiFile] = []
    unreadable: list[Unreadable] = []
    texts: dict[Path, bytes] = {}
    seen, cache = SeenInstances(), HeaderCache()
    for done, path in enumerate(sorted(roots, key=str)):
        root = roots[path]
        if on_progress is not None and done % 256 == 0:
            on_progress(done, len(roots))
        record = known.get(path) or scan_file(path, root, seen=seen, cache=cache)
        is_archive = isinstance(record, Unreadable) and record.reason is Reason.ARCHIVE
        for item in _members(path, root, record, limits, texts, cache) if is_archive else (record,):
            if isinstance(item, Instance):
                instances.append(item)
            elif isinstance(item, NiftiFile):
                if is_archive:
                    inside = as_unpacked(item.path, path if path in alone else root)
                    item = replace(item, unpacked_name=path_text(inside))
                niftis.append(item)
            else:
                unreadable.append(item)
    if on_progress is not None:
        on_progress(len(roots), len(roots))
    niftis, unreadable = claim_data_files(niftis, unreadable, texts)
    niftis, unreadable = described(niftis, unreadable, texts)
    niftis = with_visits(niftis)
    niftis = with_channel_names(niftis, (item.path for item in unreadable), texts)
    instances = _with_pixel_digests(instances)
    log.info(
        "%d files read: %d DICOM instances, %d other images, %d without an image",
        *(len(roots), len(instances), len(niftis), len(unreadable)),
    )
    return ScanResult(
        tuple(sorted(instances, key=_place)),
        tuple(sorted(niftis, key=_place)),
        tuple(sorted(unreadable, key=_place)),
    )


def _place(record: Record) -> tuple[str, ...]:
    return record.path.parts  # the order of paths, which take four times as long to compare


def _with_pixel_digests(instances: list[Instance]) -> list[Instance]:
    """Digest the pixel data of the first of each group of copies; the others were known for copies."""
    digests: dict[Path, str] = {}
    for group in candidates(instances):
        encodings = Counter(instance.transfer_syntax for instance in group)
        for instance in group:
            if not instance.pixel_digest and encodings[instance.transfer_syntax] > 1:
                digests[instance.path] = pixel_digest(instance)
    return [replace(i, pixel_digest=digests[i.path]) if i.path in digests else i for i in instances]


def pixel_digest(instance: Instance) -> str:
    """blake3 of the bytes from the start of the pixel data (of the whole file where that is not known)."""
    try:
        with open(instance.path, "rb") as file:
            return _digest(instance, file.fileno())
    except OSError:
        return f"unreadable {instance.path.name}"


def _digest(instance: Instance, descriptor: int) -> str:
    hasher = blake3()
    at = max(0, instance.pixel_offset)
    end = at + (instance.pixel_length if instance.pixel_length > 0 else instance.size_bytes)
    while at < end and (data := os.pread(descriptor, min(end - at, 1 << 22), at)):
        hasher.update(data)
        at += len(data)
    return hasher.hexdigest()


def _members(
    archive: Path,
    root: Path,
    refused: Record,
    limits: ArchiveLimits,
    texts: dict[Path, bytes],
    cache: HeaderCache,
) -> list[Record]:
    """The records of an archive's members; the archive's own where nothing of it can be used."""
    unpacked = Unpacked()
    records: list[Record] = []
    try:
        if isinstance(refused, Unreadable) and refused.detail == GZIPPED_DICOM:
            return [_gzipped(archive, root, archive, limits, cache)]
        kind = kind_of_archive(archive)
        if kind is None:
            return [refused]
        if kind == "zip" and is_office_document(archive):
            return [Unreadable(archive, Reason.NOT_AN_IMAGE, "is a document of another program")]
        if kind == "zip" and (arrays := arrays_in(archive)) is not None:
            return [named(archive, arrays)]
        for path, copy in copies(archive, kind, unpacked, limits):
            record = scan_file(copy, root, shown=path, cache=cache)
            if isinstance(record, Unreadable) and record.detail == GZIPPED_DICOM:
                record = _gzipped(copy, root, path, limits, cache)
            if isinstance(record, Unreadable) and record.reason is Reason.ARCHIVE:
                record = replace(
                    record, reason=Reason.NESTED_ARCHIVE, detail=f"{record.detail} in an archive"
                )
            elif isinstance(record, Instance) and record.pixel_keyword:
                record = replace(record, pixel_digest=pixel_digest(replace(record, path=copy)))
            records.append(record)
    except ImageReadError as error:
        return [Unreadable(archive, Reason(error.code), error.detail)]
    except OSError as error:
        return [Unreadable(archive, Reason.NOT_READABLE, error.strerror or "cannot be read")]
    records.extend(Unreadable(path, reason, detail) for path, reason, detail in unpacked.refused)
    if not records:
        return [Unreadable(archive, Reason.NOT_AN_IMAGE, "is an archive without files")]
    texts.update(unpacked.texts)
    return records


def _gzipped(packed: Path, root: Path, shown: Path, limits: ArchiveLimits, cache: HeaderCache) -> Record:
    """The record of the DICOM file that is gzipped in `packed`, which is known by the path `shown`."""
    with temporary_folder() as folder:
        copy = Path(folder, "inflated")
        try:
            inflate(packed, copy, limits)
        except ImageReadError as error:
            return Unreadable(shown, Reason(error.code), error.detail)
        record = scan_file(copy, root, shown=shown, cache=cache)
        if not isinstance(record, Instance):
            return record
        digest = pixel_digest(replace(record, path=copy)) if record.pixel_keyword else ""
        return replace(record, gzipped=True, pixel_digest=digest)


def scan_file(
    path: Path,
    root: Path,
    shown: Path | None = None,
    seen: SeenInstances | None = None,
    cache: HeaderCache | None = None,
) -> Record:
    """Read one file's header: the record of what it is.

    Parameters
    ----------
    shown
        The path that the record gets, where `path` is only a copy.
    seen
        The instances of other files; what seems a copy of one gets its pixel digest while it is open.
    cache
        What the headers of other files said; without it the file is read by itself.
    """
    name = shown or path
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        return Unreadable(name, Reason.NOT_READABLE, error.strerror or "cannot be opened")
    try:
        size = os.fstat(descriptor).st_size
        prefix = os.pread(descriptor, PREFIX_BYTES, 0)
        record = classify(name, root, descriptor, prefix, size, cache or HeaderCache())
        if not isinstance(record, Instance):
            return record
        if seen is not None and seen.again(record):
            return replace(record, pixel_digest=_digest(record, descriptor))
        return record
    except ImageReadError as error:
        return Unreadable(name, Reason(error.code), error.detail)
    except OSError as error:
        return Unreadable(name, Reason.NOT_READABLE, error.strerror or "cannot be read")
    except IMPOSSIBLE as error:  # a header may hold anything, and one file never stops the others
        told = f"holds a value that cannot be used ({type(error).__name__})"
        return Unreadable(name, Reason.DAMAGED_HEADER, told)
    finally:
        os.close(descriptor)
