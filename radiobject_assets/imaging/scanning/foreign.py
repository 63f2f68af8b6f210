"""Files of other programs, known by their first bytes: what each is, and how to make an image of it.

A volume in a format that is not read was left out, so somebody has to act; a surface, a picture or a
document is no volume and is only named.
"""

from __future__ import annotations

import ast
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from radiobject_assets.imaging.dicom.elements import Read

HDF5 = b"\x89HDF\r\n\x1a\n"
_NUMPY = b"\x93NUMPY"
_CONVERT = "convert it to NIfTI"


@dataclass(frozen=True)
class Foreign:
    """What a file is. `is_volume` if it holds, or may well hold, a volume that is left out."""

    text: str
    is_volume: bool = True


_VOLUMES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"MATRIX7", f"an ECAT 7 volume: {_CONVERT}, for instance with nibabel"),
    (0, b"mrtrix image", f"an MRtrix image (.mif): {_CONVERT} with mrconvert"),
    (0, b"##TITLE=", f"a Bruker ParaVision header: {_CONVERT}, for instance with brkraw"),
    (0, b"!INTERFILE", f"an Interfile header: {_CONVERT}"),
    (0, b"# AmiraMesh", f"an Amira mesh: {_CONVERT}"),
    (0, b"# Avizo", f"an Avizo mesh: {_CONVERT}"),
    (0, b"#!/usr/local/fdf", f"an Agilent FDF image: {_CONVERT}"),
    (0, b"ncaa", f"a VFF volume: {_CONVERT}"),
    (252, b"\xef\xff\xe9\xb0", f"a GIPL volume: {_CONVERT}"),
    (252, b"\x2a\xe3\x89\xb8", f"a GIPL volume: {_CONVERT}"),
    (0, b"ZISRAWFILE", "a Zeiss CZI microscopy file: convert it to NIfTI if it is a volume"),
    (2, b"b2frame\0", f"a Blosc2 array, without a place in space: {_CONVERT} with its affine"),
    (208, b"MAP ", f"an MRC or CCP4 map: {_CONVERT}"),
)
"""Offset, bytes there, what to say: formats of volumes."""

_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"ply\n", "a surface (PLY)"),
    (0, b"ply\r\n", "a surface (PLY)"),
    (0, b"solid ", "a surface (STL)"),
    (0, b"\xff\xff\xfe", "a FreeSurfer surface"),
    (0, b"\xff\xff\xff", "a FreeSurfer surface, or values on one"),
    (0, b"\xff\xff\xfd", "a FreeSurfer surface"),
    (0, b"TRACK", "streamlines (TrackVis)"),
    (0, b"mrtrix tracks", "streamlines (MRtrix)"),
    (0, b"#Insight Transform File", "a transform (ITK), not an image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
)
"""Offset, bytes there, what to say: what is no volume."""


def foreign(prefix: bytes, read: Read, size: int) -> Foreign | None:
    """What a file is that is neither DICOM nor of a format that is read; None where its bytes do not tell.

    Parameters
    ----------
    prefix
        The first bytes of the file (inflated, where it is compressed).
    read
        Gives bytes of the file: `read(offset, size)`.
    size
        Of the file in bytes.
    """
    for at, magic, text in _VOLUMES:
        if prefix[at : at + len(magic)] == magic:
            return Foreign(f"is {text}")
    for look in _LOOKS:
        found = look(prefix, read, size)
        if found is not None:
            return found
    for at, magic, text in _OTHERS:
        if prefix[at : at + len(magic)] == magic:
            # two letters alone are no evidence
            return Foreign(f"is {text}", is_volume=False) if magic != b"BM" or _is_bmp(prefix, size) else None
    return None


def _is_bmp(prefix: bytes, size: int) -> bool:
    return int.from_bytes(prefix[2:6], "little") == size


def _afni(prefix: bytes, read: Read, size: int) -> Foreign | None:
    text = prefix[:2048].lstrip()
    if not re.match(rb"type\s*=\s*(string|integer|float)-attribute\s+name\s*=", text):
        return None
    return Foreign(f"is the header of an AFNI volume: {_CONVERT} with 3dAFNItoNIFTI")


def _philips(prefix: bytes, read: Read, size: int) -> Foreign | None:
    start = prefix[:4096]
    if b"DATA DESCRIPTION FILE" not in start and not start.lstrip(b"\xef\xbb\xbf").startswith(b"<PRIDE_V5>"):
        return None
    return Foreign(f"is the header of a Philips PAR/REC volume: {_CONVERT}, for instance with dcm2niix")


def _minc(prefix: bytes, read: Read, size: int) -> Foreign | None:
    how = f"{_CONVERT}, for instance with mnc2nii"
    if prefix[:4] in (b"CDF\x01", b"CDF\x02", b"CDF\x05"):
        if b"MINC" in prefix or b"minc" in prefix or b"xspace" in prefix:
            return Foreign(f"is a MINC 1 volume: {how}")
        return Foreign("is a netCDF file: convert it to NIfTI if it holds a volume")
    at = next((at for at in (0, 512, 1024, 2048) if prefix[at : at + 8] == HDF5), None)
    if at is None:
        return None
    if b"MATLAB" in prefix[:128]:
        return Foreign("is a MATLAB file (7.3): convert it to NIfTI if it holds a volume")
    if b"minc-2.0" in prefix:
        return Foreign(f"is a MINC 2 volume: {how}")
    return Foreign("is an HDF5 file: convert it to NIfTI if it holds a volume")


def _matlab(prefix: bytes, read: Read, size: int) -> Foreign | None:
    if not prefix.startswith(b"MATLAB 5.0 MAT-file"):
        return None
    if _largest_rank(prefix, read, size) >= 3:
        return Foreign("is a MATLAB file with an array of three or more axes: convert it to NIfTI")
    return Foreign("is a MATLAB file without a volume", is_volume=False)


def _largest_rank(prefix: bytes, read: Read, size: int) -> int:
    """Axes (longer than 1) of the array of a MAT-file (level 5) that has most."""
    order = "<" if prefix[126:128] == b"IM" else ">"
    at, most = 128, 0
    for _ in range(1000):
        if at + 8 > size:
            break
        kind, length = struct.unpack(f"{order}2I", read(at, 8).ljust(8, b"\0"))
        start = read(at + 8, min(length, 512))
        if kind == 15:  # zlib: an array in it
            try:
                start = zlib.decompressobj().decompress(start, 512)[8:]
            except zlib.error:
                start = b""
        # array flags (16 bytes), then the dimensions: type 5, length, 32-bit numbers
        if kind in (14, 15) and len(start) >= 24:
            count = struct.unpack_from(f"{order}I", start, 20)[0] // 4
            if 0 < count <= 32 and len(start) >= 24 + 4 * count:
                dims = struct.unpack_from(f"{order}{count}i", start, 24)
                most = max(most, sum(n > 1 for n in dims))
        at += 8 + length + (0 if kind == 15 else -length % 8)
    return most


def _numpy(prefix: bytes, read: Read, size: int) -> Foreign | None:
    shape = numpy_shape(prefix)
    if shape is None:
        return None
    said = "x".join(map(str, shape))
    if sum(n > 1 for n in shape) < 3:
        return Foreign(f"is a NumPy array of {said or 'one number'}, not a volume", is_volume=False)
    return Foreign(f"is a NumPy array of {said}, without a place in space: save it as NIfTI with its affine")


def numpy_shape(prefix: bytes) -> tuple[int, ...] | None:
    """The shape that the header of a `.npy` file says; None if the bytes begin none."""
    if prefix[: len(_NUMPY)] != _NUMPY or len(prefix) < 12:
        return None
    wide = prefix[6] > 1
    length = int.from_bytes(prefix[8 : 12 if wide else 10], "little")
    start = 12 if wide else 10
    found = re.search(rb"'shape':\s*(\([\d, ]*\))", prefix[start : start + min(length, 65536)])
    try:
        shape = ast.literal_eval(found[1].decode()) if found else ()
    except (SyntaxError, ValueError):
        shape = ()
    return shape if isinstance(shape, tuple) else (shape,)


def _tiff(prefix: bytes, read: Read, size: int) -> Foreign | None:
    order = {b"II": "<", b"MM": ">"}.get(prefix[:2])
    if order is None or len(prefix) < 16:
        return None
    version = struct.unpack_from(f"{order}H", prefix, 2)[0]
    if version not in (42, 43):
        return None
    big = version == 43
    first = struct.unpack_from(f"{order}Q" if big else f"{order}I", prefix, 8 if big else 4)[0]
    counted = read(first, 8 if big else 2) if first < size else b""
    pages = 1
    if len(counted) == (8 if big else 2):
        entries = struct.unpack(f"{order}Q" if big else f"{order}H", counted)[0]
        at = first + (8 + 20 * entries if big else 2 + 12 * entries)
        following = read(at, 8 if big else 4) if at < size else b""
        pages += any(following)
    if pages == 1:
        return Foreign("is a TIFF picture", is_volume=False)
    return Foreign("is a TIFF file of several pages, without a place in space: convert it to NIfTI")


def _zarr(prefix: bytes, read: Read, size: int) -> Foreign | None:
    start = prefix[:4096]
    if b'"zarr_format"' not in start or not start.lstrip().startswith(b"{"):
        return None
    shape = re.search(rb'"shape"\s*:\s*\[([\d,\s]*)\]', start)
    if shape is None or sum(n.strip() not in (b"", b"1") for n in shape[1].split(b",")) < 3:
        return Foreign("is a note of a Zarr store", is_volume=False)
    return Foreign(f"describes a Zarr array of three or more axes: {_CONVERT}")


def _multipart(prefix: bytes, read: Read, size: int) -> Foreign | None:
    if not prefix.startswith(b"--") or b"application/dicom" not in prefix[:1024]:
        return None
    return Foreign("is an answer of a DICOMweb server with files in it: save each part as a file of its own")


def _stl(prefix: bytes, read: Read, size: int) -> Foreign | None:
    if size < 84 or size != 84 + 50 * int.from_bytes(prefix[80:84], "little"):
        return None
    return Foreign("is a surface (STL)", is_volume=False)


def _vtk(prefix: bytes, read: Read, size: int) -> Foreign | None:
    start = prefix[:4096]
    if start.startswith(b"# vtk DataFile"):
        if re.search(rb"DATASET\s+STRUCTURED_POINTS", start, re.IGNORECASE):
            return Foreign(f"is a VTK image: {_CONVERT}")
        return Foreign("is a surface or mesh (VTK)", is_volume=False)
    if b"<VTKFile" in start:
        if b'type="ImageData"' in start or b'type="RectilinearGrid"' in start:
            return Foreign(f"is a VTK image: {_CONVERT}")
        return Foreign("is a surface or mesh (VTK)", is_volume=False)
    if b"<GIFTI" in start:
        return Foreign("is a surface, or values on one (GIFTI)", is_volume=False)
    return None


_LOOKS: tuple[Callable[[bytes, Read, int], Foreign | None], ...] = (
    _afni, _philips, _minc, _matlab, _numpy, _tiff, _vtk, _zarr, _multipart, _stl,
)  # fmt: skip

_DATA_SUFFIXES: dict[str, tuple[str, ...]] = {
    ".head": (".BRIK",), ".par": (".REC",), ".xml": (".REC",), ".hdr": (".img",), ".hv": (".v",),
}  # fmt: skip


def arrays_in(archive: Path) -> Foreign | None:
    """What to say of a zip file of NumPy arrays (`.npz`); None for other zip files.

    Raises
    ------
    OSError
        The file can't be read.
    """
    shapes = []
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
            if not names or not all(name.endswith(".npy") for name in names):
                return None
            for name in names[:100]:
                with opened.open(name) as member:
                    shapes.append(numpy_shape(member.read(1024)))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError):
        return None
    if None in shapes:
        return None
    largest = max((shape or () for shape in shapes), key=lambda shape: sum(n > 1 for n in shape))
    said = "x".join(map(str, largest))
    if sum(n > 1 for n in largest) < 3:
        return Foreign("is a file of NumPy arrays (.npz) without a volume", is_volume=False)
    return Foreign(
        f"is a file of NumPy arrays (.npz), the largest of {said}, without a place in space: "
        "save each volume as NIfTI with its affine"
    )


def voxels_alone(name: str) -> str:
    """What to say of a file without a mark whose name says that a header should lie beside it; else ""."""
    plain = re.sub(r"\.(gz|bz2)$", "", name.lower())
    suffix = next((s for s in (".brik", ".rec", ".img", ".raw", ".zraw") if plain.endswith(s)), "")
    if not suffix:
        return ""
    return f"is named like the voxels of a volume ({suffix}), and no header lies beside it: supply the header"


def data_names(header: str) -> tuple[str, ...]:
    """Names, in small letters, that the data file of a header of another program may have."""
    stem, dot, suffix = header.rpartition(".")
    names = [stem + data for data in _DATA_SUFFIXES.get((dot + suffix).lower(), ())]
    return tuple((name + packed).lower() for name in names for packed in ("", ".gz", ".bz2"))
