"""Scan any tree of files by content, not by name: every regular file becomes one record, once.

A file is DICOM (an `Instance`), NIfTI (a `NiftiFile`) or unreadable with a reason. Only headers are read,
each file is opened once, and a bad file never stops the others. Archives are looked into: each member is a
file of its own, and the archive itself is none unless it is refused as a whole.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.archives import LIMITS, ArchiveLimits, is_office_document, is_tar
from radiobject_assets.imaging.bids import described
from radiobject_assets.imaging.duplicates import Seen, candidates
from radiobject_assets.imaging.foreign import Foreign, arrays_in, data_names, foreign
from radiobject_assets.imaging.headers import looks_like_bare_dicom, read_instance
from radiobject_assets.imaging.instance import Instance
from radiobject_assets.imaging.members import Unpacked, copies, inflate, kind_of_archive
from radiobject_assets.imaging.metaimage_header import is_metaimage, read_metaimage
from radiobject_assets.imaging.mgh_header import is_mgh, read_mgh
from radiobject_assets.imaging.nifti_axis import with_channel_names
from radiobject_assets.imaging.nifti_header import (
    NiftiFile,
    almost_nifti,
    header_digest_of,
    is_nifti,
    nifti_data_file,
    read_nifti,
    with_data_file,
)
from radiobject_assets.imaging.nrrd_header import is_nrrd, read_nrrd
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.sidecars import read_sidecars, sidecars_of
from radiobject_assets.imaging.volume_file import FORMATS, data_path, with_volume_data
from radiobject_assets.temporary import temporary_folder

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[int, int], None]
"""(files done, files in all)"""

_PREFIX_BYTES = 32768
# Of gzip data: the longest header that is known by its content (NIfTI-2's, with the mark of extensions).
_HEADER_BYTES = 1024
_GZIPPED_DICOM = "is a gzipped DICOM file"
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"BZh9": "bzip2",
    b"\xfd7zX": "xz",
}
# AppleDouble: what macOS keeps of a file beside it, as `._name`; and `.DS_Store`.
_SYSTEM_FILES = (b"\0\5\x16\7", b"\0\0\0\1Bud1")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is no image that can be used, and why."""

    path: Path
    reason: Reason
    detail: str


Record = Instance | NiftiFile | Unreadable


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
        """All records as one Arrow table (`tables.scan_to_table`)."""
        from radiobject_assets.imaging.tables import scan_to_table

        return scan_to_table(self)

    @classmethod
    def from_table(cls, table: pa.Table) -> ScanResult:
        """The scan that a table was made of (`tables.scan_from_table`)."""
        from radiobject_assets.imaging.tables import scan_from_table

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
    sources: Sequence[Path], on_progress: Progress | None = None, *, limits: ArchiveLimits = LIMITS
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
    instances: list[Instance] = []
    niftis: list[NiftiFile] = []
    unreadable: list[Unreadable] = []
    texts: dict[Path, bytes] = {}
    seen = Seen()
    for done, path in enumerate(sorted(roots, key=str)):
        root = roots[path]
        if on_progress is not None and done % 256 == 0:
            on_progress(done, len(roots))
        record = scan_file(path, root, seen=seen)
        is_archive = isinstance(record, Unreadable) and record.reason is Reason.ARCHIVE
        for item in _members(path, root, record, limits, texts) if is_archive else (record,):
            if isinstance(item, Instance):
                instances.append(item)
            elif isinstance(item, NiftiFile):
                niftis.append(item)
            else:
                unreadable.append(item)
    if on_progress is not None:
        on_progress(len(roots), len(roots))
    niftis, unreadable = _claim_data_files(niftis, _with_foreign_data(unreadable), texts)
    niftis, unreadable = described(niftis, unreadable, texts)
    niftis = with_channel_names(niftis, (item.path for item in unreadable), texts)
    instances = _with_pixel_digests(instances)
    return ScanResult(
        tuple(sorted(instances, key=_place)),
        tuple(sorted(niftis, key=_place)),
        tuple(sorted(unreadable, key=_place)),
    )


def _place(record: Record) -> tuple[str, ...]:
    return record.path.parts  # the order of paths, which take four times as long to compare


def _with_pixel_digests(instances: list[Instance]) -> list[Instance]:
    """Digest the pixel data of the first of each group of copies; `Seen` knew the others for copies."""
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
    archive: Path, root: Path, refused: Record, limits: ArchiveLimits, texts: dict[Path, bytes]
) -> list[Record]:
    """The records of an archive's members; the archive's own where nothing of it can be used."""
    unpacked = Unpacked()
    records: list[Record] = []
    try:
        if isinstance(refused, Unreadable) and refused.detail == _GZIPPED_DICOM:
            return [_gzipped(archive, root, archive, limits)]
        kind = kind_of_archive(archive)
        if kind is None:
            return [refused]
        if kind == "zip" and is_office_document(archive):
            return [Unreadable(archive, Reason.NOT_AN_IMAGE, "is a document of another program")]
        if kind == "zip" and (arrays := arrays_in(archive)) is not None:
            return [_named(archive, arrays)]
        for path, copy in copies(archive, kind, unpacked, limits):
            record = scan_file(copy, root, shown=path)
            if isinstance(record, Unreadable) and record.detail == _GZIPPED_DICOM:
                record = _gzipped(copy, root, path, limits)
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


def _gzipped(packed: Path, root: Path, shown: Path, limits: ArchiveLimits) -> Record:
    """The record of the DICOM file that is gzipped in `packed`, which is known by the path `shown`."""
    with temporary_folder() as folder:
        copy = Path(folder, "inflated")
        try:
            inflate(packed, copy, limits)
        except ImageReadError as error:
            return Unreadable(shown, Reason(error.code), error.detail)
        record = scan_file(copy, root, shown=shown)
        if not isinstance(record, Instance):
            return record
        digest = pixel_digest(replace(record, path=copy)) if record.pixel_keyword else ""
        return replace(record, gzipped=True, pixel_digest=digest)


def scan_file(path: Path, root: Path, shown: Path | None = None, seen: Seen | None = None) -> Record:
    """Read one file's header: the record of what it is.

    Parameters
    ----------
    shown
        The path that the record gets, where `path` is only a copy.
    seen
        The instances of other files; what seems a copy of one gets its pixel digest while it is open.
    """
    name = shown or path
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        return Unreadable(name, Reason.NOT_READABLE, error.strerror or "cannot be opened")
    try:
        size = os.fstat(descriptor).st_size
        prefix = os.pread(descriptor, _PREFIX_BYTES, 0)
        record = _classify(name, root, descriptor, prefix, size)
        if not isinstance(record, Instance):
            return record
        if seen is not None and seen.again(record):
            return replace(record, pixel_digest=_digest(record, descriptor))
        return record
    except ImageReadError as error:
        return Unreadable(name, Reason(error.code), error.detail)
    except OSError as error:
        return Unreadable(name, Reason.NOT_READABLE, error.strerror or "cannot be read")
    finally:
        os.close(descriptor)


def _classify(path: Path, root: Path, descriptor: int, prefix: bytes, size: int) -> Record:
    def read(offset: int, count: int) -> bytes:
        if offset + count <= len(prefix) or (offset < len(prefix) and len(prefix) == size):
            return prefix[offset : offset + count]
        if offset < len(prefix) and count <= _PREFIX_BYTES:
            return prefix[offset:]  # short, so what runs over its end asks again with a larger count
        return os.pread(descriptor, count, offset)

    if size == 0:
        return Unreadable(path, Reason.EMPTY_FILE, "the file is empty")
    if prefix.startswith(_SYSTEM_FILES):
        return Unreadable(path, Reason.SYSTEM_FILE, "is a file of macOS about another file or a folder")
    if prefix[128:132] == b"DICM":
        return read_instance(path, read, prefix, size)
    if prefix[:2] == b"\x1f\x8b":
        inflated = _inflate_prefix(prefix, _HEADER_BYTES)
        if is_nifti(inflated):
            nifti = read_nifti(path, root, inflated, size, compressed=True)
            return replace(nifti, header_digest=header_digest_of(inflated))
        if refused := almost_nifti(inflated):
            return Unreadable(path, Reason.NIFTI_INVALID, refused)
        if is_mgh(inflated):
            return read_mgh(path, root, inflated, size, compressed=True)
        if is_tar(inflated):
            return Unreadable(path, Reason.ARCHIVE, "is a tar.gz archive")
        return _other_gzip(path, root, prefix, size)
    if is_nrrd(prefix):
        return read_nrrd(path, root, read, prefix, size)
    if is_metaimage(prefix):
        return read_metaimage(path, root, read, prefix, size)
    if is_nifti(prefix):
        nifti = read_nifti(path, root, prefix, size, compressed=False)
        return replace(nifti, header_digest=header_digest_of(prefix))
    if refused := almost_nifti(prefix):
        return Unreadable(path, Reason.NIFTI_INVALID, refused)
    if is_mgh(prefix):
        return read_mgh(path, root, prefix, size, compressed=False)
    kind = _ARCHIVES.get(prefix[:4]) or ("tar" if is_tar(prefix) else None)
    if kind is not None:
        return Unreadable(path, Reason.ARCHIVE, f"is a {kind} archive")
    if looks_like_bare_dicom(prefix):
        try:
            return read_instance(path, read, prefix, size)
        except ImageReadError as error:
            if error.code == Reason.DICOMDIR:
                raise
            return Unreadable(
                path, Reason.NOT_AN_IMAGE, "resembles DICOM without preamble, but cannot be read as such"
            )
    if found := foreign(prefix, read, size):
        return _named(path, found)
    return Unreadable(path, Reason.NOT_AN_IMAGE, "is neither DICOM nor a volume of another format")


def _other_gzip(path: Path, root: Path, prefix: bytes, size: int) -> Record:
    """The record of gzip data that is neither NIfTI nor a tar archive."""
    inflated = _inflate_prefix(prefix, _PREFIX_BYTES)

    def read(offset: int, count: int) -> bytes:
        return inflated[offset : offset + count]

    if not inflated:
        return Unreadable(path, Reason.ARCHIVE_DAMAGED, "its gzip data is damaged or cut short")
    if inflated[128:132] == b"DICM" or looks_like_bare_dicom(inflated):
        return Unreadable(path, Reason.ARCHIVE, _GZIPPED_DICOM)
    found = foreign(inflated, read, len(inflated))
    if is_nrrd(inflated) or is_metaimage(inflated):
        found = Foreign("is an NRRD or MetaImage file: unpack it")
    if found is not None:
        return _named(path, replace(found, text=found.text.replace("is ", "is (gzipped) ", 1)))
    return Unreadable(path, Reason.NOT_AN_IMAGE, "is gzip data that holds no image")


def _named(path: Path, found: Foreign) -> Unreadable:
    reason = Reason.FOREIGN_FORMAT if found.is_volume else Reason.NOT_AN_IMAGE
    return Unreadable(path, reason, found.text)


def _with_foreign_data(unreadable: list[Unreadable]) -> list[Unreadable]:
    """Give the data files beside headers of other programs (.BRIK, .REC, .img) their header's reason."""
    headers = [u for u in unreadable if u.reason in (Reason.FOREIGN_FORMAT, Reason.NIFTI_INVALID)]
    if not headers:
        return unreadable
    found = {
        (header.path.parent, name): header for header in headers for name in data_names(header.path.name)
    }
    result = []
    for item in unreadable:
        header = found.get((item.path.parent, item.path.name.lower()))
        if header is not None and header.path != item.path and item.reason is not Reason.FOREIGN_FORMAT:
            item = replace(
                item,
                reason=header.reason,
                detail=f"has the voxels of a file beside it, which {header.detail}",
            )
        result.append(item)
    return result


def _inflate_prefix(prefix: bytes, wanted: int) -> bytes:
    """The first bytes of the gzip data that begin with `prefix`; they may have several members."""
    found = b""
    try:
        while len(found) < wanted and prefix[:2] == b"\x1f\x8b":
            inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            while prefix and len(found) < wanted and not inflater.eof:
                # a little at a time: damage further on is for those who read the voxels to find
                found += inflater.decompress(prefix, wanted // 16)
                prefix = inflater.unconsumed_tail
            prefix = inflater.unused_data
    except zlib.error:
        pass  # what came before the damage may still tell what the file is
    return found


def _claim_data_files(
    niftis: list[NiftiFile], unreadable: list[Unreadable], texts: Mapping[Path, bytes]
) -> tuple[list[NiftiFile], list[Unreadable]]:
    """Give .img files to their .hdr and sidecars to their image; a header without its data is unreadable."""
    others = {entry.path: entry for entry in unreadable}
    kept: list[NiftiFile] = []
    for nifti in niftis:
        if nifti.single_file:
            kept.append(_with_sidecars(nifti, others, texts))
            continue
        data = nifti_data_file(nifti.path, others) if nifti.format == "nifti" else data_path(nifti)
        if data is None or (data not in others and not data.is_file()):
            others[nifti.path] = _without_data(nifti)
            continue
        others.pop(data, None)
        join = with_data_file if nifti.format == "nifti" else with_volume_data
        pair = join(nifti, data, data.stat().st_size if data.is_file() else None)
        kept.append(_with_sidecars(pair, others, texts))
    return kept, list(others.values())


def _without_data(header: NiftiFile) -> Unreadable:
    if header.format == "nifti":
        return Unreadable(header.path, Reason.NIFTI_DATA_MISSING, "has no .img file beside it")
    if header.problem:
        code, _, detail = header.problem.partition(" ")
        return Unreadable(header.path, Reason(code), detail)
    name = FORMATS[header.format]
    return Unreadable(
        header.path, Reason.VOLUME_DATA_MISSING, f"is an {name} header whose data file is not beside it"
    )


def _with_sidecars(
    nifti: NiftiFile, others: dict[Path, Unreadable], texts: Mapping[Path, bytes]
) -> NiftiFile:
    # Only what the scan has met: a sidecar outside the sources is not ours to read.
    present = tuple(path for path in sidecars_of(nifti.path) if path in others)
    for path in present:
        del others[path]
    if not present:
        return nifti
    told = read_sidecars(present, nifti.matrix, texts)
    return replace(nifti, files=(*nifti.files, *present), attributes={**nifti.attributes, **told})
