"""What a file is, by its first bytes: DICOM, a volume of its own, an archive, another program's."""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from pathlib import Path

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.header_cache import HeaderCache
from radiobject_assets.imaging.dicom.headers import looks_like_bare_dicom, read_instance
from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.files.archives import is_tar
from radiobject_assets.imaging.files.unreadable import Unreadable
from radiobject_assets.imaging.nifti.header import (
    NiftiFile,
    almost_nifti,
    header_digest_of,
    is_nifti,
    read_nifti,
)
from radiobject_assets.imaging.nifti.metaimage import is_metaimage, read_metaimage
from radiobject_assets.imaging.nifti.mgh import is_mgh, read_mgh
from radiobject_assets.imaging.nifti.nrrd import is_nrrd, read_nrrd
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.foreign import Foreign, foreign

Record = Instance | NiftiFile | Unreadable

PREFIX_BYTES = 32768
# Of gzip data: the longest header that is known by its content (NIfTI-2's, with the mark of extensions).
_HEADER_BYTES = 1024
_ISO_MARK = 32769
GZIPPED_DICOM = "is a gzipped DICOM file"
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"BZh9": "bzip2",
    b"\xfd7zX": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x9d\x90": "compress",
}
# AppleDouble: what macOS keeps of a file beside it, as `._name`; and `.DS_Store`.
_SYSTEM_FILES = (b"\0\5\x16\7", b"\0\0\0\1Bud1")


def classify(path: Path, root: Path, descriptor: int, prefix: bytes, size: int, cache: HeaderCache) -> Record:
    """The record of an open file.

    Parameters
    ----------
    path, root
        The path that the record gets, and the folder that its name is relative to.
    prefix
        The first `PREFIX_BYTES` of the file, or all of it.
    cache
        What DICOM headers of the same scan said.

    Raises
    ------
    ImageReadError
        The file is of a format that is read, and its header is damaged.
    """

    def read(offset: int, count: int) -> bytes:
        if offset + count <= len(prefix) or (offset < len(prefix) and len(prefix) == size):
            return prefix[offset : offset + count]
        if offset < len(prefix) and count <= PREFIX_BYTES:
            return prefix[offset:]  # short, so what runs over its end asks again with a larger count
        return os.pread(descriptor, count, offset)

    if size == 0:
        return Unreadable(path, Reason.EMPTY_FILE, "the file is empty")
    if prefix.startswith(_SYSTEM_FILES):
        return Unreadable(path, Reason.SYSTEM_FILE, "is a file of macOS about another file or a folder")
    if prefix[128:132] == b"DICM":
        return read_instance(path, read, prefix, size, cache)
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
    kind = _ARCHIVES.get(prefix[:4]) or _ARCHIVES.get(prefix[:3]) or ("tar" if is_tar(prefix) else None)
    if kind is not None:
        return Unreadable(path, Reason.ARCHIVE, f"is a {kind} archive")
    if looks_like_bare_dicom(prefix):
        try:
            return read_instance(path, read, prefix, size, cache)
        except ImageReadError as error:
            if error.code == Reason.DICOMDIR:
                raise
            return Unreadable(
                path, Reason.NOT_AN_IMAGE, "resembles DICOM without preamble, but cannot be read as such"
            )
    if size > _ISO_MARK and read(_ISO_MARK, 5) == b"CD001":
        return Unreadable(path, Reason.ARCHIVE, "is a disc image (ISO 9660)")
    if found := foreign(prefix, read, size):
        return named(path, found)
    return Unreadable(path, Reason.NOT_AN_IMAGE, "is neither DICOM nor a volume of another format")


def _other_gzip(path: Path, root: Path, prefix: bytes, size: int) -> Record:
    """The record of gzip data that is neither NIfTI nor a tar archive."""
    inflated = _inflate_prefix(prefix, PREFIX_BYTES)

    def read(offset: int, count: int) -> bytes:
        return inflated[offset : offset + count]

    if not inflated:
        return Unreadable(path, Reason.ARCHIVE_DAMAGED, "its gzip data is damaged or cut short")
    if inflated[128:132] == b"DICM" or looks_like_bare_dicom(inflated):
        return Unreadable(path, Reason.ARCHIVE, GZIPPED_DICOM)
    found = foreign(inflated, read, len(inflated))
    if is_nrrd(inflated) or is_metaimage(inflated):
        found = Foreign("is an NRRD or MetaImage file: unpack it")
    if found is not None:
        return named(path, replace(found, text=found.text.replace("is ", "is (gzipped) ", 1)))
    return Unreadable(path, Reason.NOT_AN_IMAGE, "is gzip data that holds no image")


def named(path: Path, found: Foreign) -> Unreadable:
    """The record of a file of another program."""
    reason = Reason.FOREIGN_FORMAT if found.is_volume else Reason.NOT_AN_IMAGE
    return Unreadable(path, reason, found.text)


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
