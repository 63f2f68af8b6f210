"""NIfTI-1 and NIfTI-2 headers: what shape, type, scaling and place the voxels have.

Rules as nibabel's: slope 0 or not finite means no scaling, colours have none. A unit of metres or micrometres
scales the affine where voxels have a usual size only so (writers often set it wrong): `millimetres`.
Source: the NIfTI-1 and NIfTI-2 definitions (nifti1.h, nifti2.h).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Container
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.nifti.place import NiftiPlace, is_place, millimetres
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.source import AttributeValue

NIFTI_TYPES: dict[int, str] = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 32: "c8", 64: "f8", 128: "rgb24", 256: "i1", 512: "u2", 768: "u4",
    1024: "i8", 1280: "u8", 1536: "f16", 1792: "c16", 2048: "c32", 2304: "rgba32", 16384: "f2",
}  # fmt: skip
_STORABLE = frozenset({"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"})
_COMPONENTS = {
    "c8": ("complex", "f4", 2),
    "c16": ("complex", "f8", 2),
    "rgb24": ("rgb", "u1", 3),
    "rgba32": ("rgba", "u1", 4),
}
_MILLIMETRES = 2
_TIME_UNITS = {8: 1.0, 16: 1e-3, 24: 1e-6}  # to seconds
_MAX_VOXELS = 1 << 40
_HEADER_BYTES = 348
# DEFLATE cannot shrink more than 1032 to 1.
_DEFLATE_RATIO = 1032
# What follows the magic of NIfTI-2, since a transfer as text changes it.
_UNTOUCHED = b"\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class NiftiFile:
    """The header of one volume in a file of its own: NIfTI, or another format that is read (`volume_file`).

    files
        The image's files: one, or the .hdr and its .img; then its sidecars (JSON, b-values, b-vectors).
    data_file
        The one that holds the voxels.
    attributes
        Acquisition parameters from the sidecars.
    subject, key, place
        Pseudonyms of the subject, the name and the path (`deidentification.Release`); "" where none are
        wanted.
    name
        Path relative to the scanned root, with forward slashes.
    unpacked_name
        Of a member of an archive: its name as if the archive were unpacked (`told_name`); else "".
    shape, type_name, order
        Dimensions as in the header (trailing ones removed beyond the third), numpy type code, byte order.
    slope, intercept
        scl_slope and scl_inter, 1 and 0 where they say "no scaling".
    affine
        Rows of the (3, 4) upper part of voxel index to RAS+ mm.
    intent_code, intent_parameters
        What the values mean, as the header says; without the parameters where they are zero.
    fifth_axis
        True if the dimensions are (x, y, z, 1, n): `shape` has n as its fourth.
    other_place
        Where the qform says otherwise than the affine (`place.NiftiPlace.other_place`).
    steps
        pixdim of the fourth to seventh axis; empty where all are 1 or one is not finite.
    extension_bytes
        Of header extensions; 0 where there are none, or where they may not leave.
    keep_extensions
        Whether the source's attributes hold them (`nifti_extensions`).
    problem
        Reason code and detail, separated by a blank, if the image cannot be ingested.
    header_digest
        Of the header (`header_digest_of`): by it, a file that was replaced since is known.
    format
        `nifti`, or another key of `volume_file.FORMATS`; with these, `version` and the
        codes of transforms are 0.
    packing
        How the voxels alone are compressed (`gzip`, `zlib`, `bzip2`), as in NRRD and MetaImage.
    interleaved
        True if the values of the fourth axis lie together.
    colours
        What the fourth axis is where its values make one: `rgb`, `rgba`, `complex`.
    channel
        The one value of the fourth axis that the volume is of; None for all.
    data_name
        Name of the file with the voxels, as the header says it.
    segmentation, segments
        Whether the header says that the voxels are labels, and of each its layer (value of the fourth axis),
        value, name, coded type and category.
    """

    path: Path
    files: tuple[Path, ...]
    name: str
    size_bytes: int
    version: int
    single_file: bool
    compressed: bool
    shape: tuple[int, ...]
    type_name: str
    order: str
    data_offset: int
    slope: float
    intercept: float
    affine: tuple[float, ...]
    sform_code: int
    qform_code: int
    description: str
    time_step_s: float | None
    intent_code: int = 0
    intent_parameters: tuple[float, ...] = ()
    fifth_axis: bool = False
    other_place: tuple[float, ...] = ()
    steps: tuple[float, ...] = ()
    extension_bytes: int = 0
    keep_extensions: bool = False
    problem: str = ""
    data_file: Path | None = None
    xyzt_units: int = 0
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    subject: str = ""
    key: str = ""
    place: str = ""
    header_digest: str = ""
    format: str = "nifti"
    packing: str = ""
    interleaved: bool = False
    colours: str = ""
    channel: int | None = None
    data_name: str = ""
    segmentation: bool = False
    segments: tuple[tuple[int, int, str, str, str], ...] = ()
    unpacked_name: str = ""

    @property
    def told_name(self) -> str:
        """The name by which a subject and a collection are told: an archive's is that of its folder."""
        return self.unpacked_name or self.name

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype in native byte order, of one component where a voxel has several."""
        return self.component_dtype or np.dtype(self.type_name)

    @property
    def components(self) -> str:
        """What a voxel of several values holds: `complex`, `rgb`, `rgba`; else ""."""
        return _COMPONENTS.get(self.type_name, ("", "", 1))[0]

    @property
    def n_components(self) -> int:
        """Values in a voxel."""
        return _COMPONENTS.get(self.type_name, ("", "", 1))[2]

    @property
    def component_dtype(self) -> np.dtype[Any] | None:
        """dtype of one component of a sound 3D image of colours or complex numbers; else None."""
        if self.type_name not in _COMPONENTS or not self.problem.startswith(Reason.NIFTI_DATATYPE):
            return None
        return np.dtype(_COMPONENTS[self.type_name][1]) if len(self.shape) == 3 else None

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(4, 4) affine."""
        return np.vstack([np.array(self.affine, dtype=np.float64).reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])


def is_nifti(prefix: bytes) -> bool:
    """True if the bytes start a NIfTI-1 or NIfTI-2 header."""
    if prefix[344:348] in (b"n+1\0", b"ni1\0") and _order(prefix, 348):
        return True
    return prefix[4:8] in (b"n+2\0", b"ni2\0") and bool(_order(prefix, 540))


def almost_nifti(prefix: bytes) -> str:
    """What to say of bytes that start a header of this family which cannot be trusted; "" for others."""
    if prefix[344:348] in (b"n+1\0", b"ni1\0") or prefix[4:12] in (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n"):
        return "has the mark of NIfTI and another size of its header"
    if len(prefix) < _HEADER_BYTES or not (order := _order(prefix, _HEADER_BYTES)):
        return ""
    dims = struct.unpack_from(f"{order}8h", prefix, 40)
    if prefix[38:39] != b"r" and not (1 <= dims[0] <= 7 and min(dims[1 : dims[0] + 1]) > 0):
        return ""
    return "is an ANALYZE header, which does not tell left from right: convert it to NIfTI, knowing which"


def _order(prefix: bytes, header_size: int) -> str:
    for order in "<>":
        if struct.unpack_from(f"{order}i", prefix)[0] == header_size:
            return order
    return ""


def nifti_data_file(header: Path, known: Container[Path] = ()) -> Path | None:
    """The image file of a .hdr: same name, suffix .img (or .img.gz), on disk or among the `known` paths."""
    plain = header.with_suffix("") if header.suffix.lower() == ".gz" else header
    stem = plain.name.removesuffix(plain.suffix) if plain.suffix.lower() in (".hdr", ".nii") else plain.name
    for img, gz in product((".img", ".IMG", ".Img"), ("", ".gz", ".GZ")):
        candidate = header.with_name(stem + img + gz)
        if candidate in known or candidate.is_file():
            return candidate
    return None


def nifti_header_file(data: Path) -> Path | None:
    """The header file (.hdr) that lies beside an image file (.img, .img.gz); None for other files."""
    plain = data.with_suffix("") if data.suffix.lower() == ".gz" else data
    if plain.suffix.lower() != ".img":
        return None
    beside = (
        plain.with_suffix(hdr + gz) for hdr, gz in product((".hdr", ".HDR", ".Hdr"), ("", ".gz", ".GZ"))
    )
    return next((path for path in beside if path.is_file()), None)


def read_nifti(path: Path, root: Path, prefix: bytes, size: int, *, compressed: bool) -> NiftiFile:
    """Read the header in `prefix`, the first (inflated) bytes of the file.

    Raises
    ------
    ImageReadError
        With NIFTI_INVALID where the header contradicts itself.
    """
    if prefix[344:348] in (b"n+1\0", b"ni1\0"):
        version, order, magic = 1, _order(prefix, 348), prefix[344:348]
        dims = struct.unpack_from(f"{order}8h", prefix, 40)
        datatype, _ = struct.unpack_from(f"{order}2h", prefix, 70)
        pixdim = struct.unpack_from(f"{order}8f", prefix, 76)
        offset, slope, intercept = struct.unpack_from(f"{order}3f", prefix, 108)
        units = prefix[123]
        description = prefix[148:228]
        (intent_code,) = struct.unpack_from(f"{order}h", prefix, 68)
        intent = struct.unpack_from(f"{order}3f", prefix, 56)
        qform_code, sform_code = struct.unpack_from(f"{order}2h", prefix, 252)
        quaternion = struct.unpack_from(f"{order}6f", prefix, 256)
        sform = struct.unpack_from(f"{order}12f", prefix, 280)
        minimum_offset = 352
    else:
        if len(prefix) < 540:
            raise ImageReadError(Reason.NIFTI_INVALID, "the header is cut short", path)
        version, order, magic = 2, _order(prefix, 540), prefix[4:8]
        (datatype,) = struct.unpack_from(f"{order}h", prefix, 12)
        dims = struct.unpack_from(f"{order}8q", prefix, 16)
        pixdim = struct.unpack_from(f"{order}8d", prefix, 104)
        (offset,) = struct.unpack_from(f"{order}q", prefix, 168)
        slope, intercept = struct.unpack_from(f"{order}2d", prefix, 176)
        description = prefix[240:320]
        qform_code, sform_code = struct.unpack_from(f"{order}2i", prefix, 344)
        quaternion = struct.unpack_from(f"{order}6d", prefix, 352)
        sform = struct.unpack_from(f"{order}12d", prefix, 400)
        units, intent_code = struct.unpack_from(f"{order}2i", prefix, 500)
        intent = struct.unpack_from(f"{order}3d", prefix, 80)
        minimum_offset = 544
        if prefix[8:12] not in (_UNTOUCHED, bytes(4)):
            raise ImageReadError(Reason.NIFTI_INVALID, "was transferred as text, which damages it", path)
    single = magic[1:2] == b"+"
    if not 1 <= dims[0] <= 7 or any(n < 1 for n in dims[1 : dims[0] + 1]):
        raise ImageReadError(Reason.NIFTI_INVALID, f"dimensions {list(dims)} are impossible", path)
    type_name = NIFTI_TYPES.get(datatype, "")
    if not math.isfinite(offset) or offset < 0 or (single and 0 < offset < minimum_offset):
        raise ImageReadError(Reason.NIFTI_INVALID, "the voxel offset is impossible", path)
    shape = _trimmed(dims[1 : dims[0] + 1])
    fifth_axis = len(shape) == 5 and shape[3] == 1  # values that belong together, as of a vector field
    if fifth_axis:
        shape = (*shape[:3], shape[4])
    data_offset = max(int(offset), minimum_offset) if single else int(offset)
    colour = _COMPONENTS.get(type_name, ("",))[0].startswith("rgb")
    usable = math.isfinite(slope) and slope != 0 and not colour
    if usable and not math.isfinite(intercept):
        raise ImageReadError(Reason.NIFTI_INVALID, f"the slope is {slope:g} and the intercept none", path)
    place = NiftiPlace(shape, pixdim, qform_code, sform_code, quaternion, sform)
    affine, other_place = place.affine[:3], place.other_place
    lengths = np.linalg.norm(affine[:, :3], axis=0)
    factor = millimetres(int(units), lengths)
    if factor not in (None, 1.0):
        affine = affine * factor
        other_place = tuple(np.multiply(other_place, [1, 1, 1, factor] * 3).tolist()) if other_place else ()
        units = (int(units) & ~7) | _MILLIMETRES
    steps = tuple(map(float, pixdim[4:8]))
    timed = dims[0] >= 4 and not fifth_axis and units & 0x38 in _TIME_UNITS
    step = pixdim[4] * _TIME_UNITS[units & 0x38] if timed else None
    end = data_offset if single else size * (_DEFLATE_RATIO if compressed else 1)
    extended = prefix[minimum_offset - 4 : minimum_offset - 3] not in (b"", b"\0")
    file = NiftiFile(
        path=path,
        files=(path,),
        name=path_text(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name),
        size_bytes=size,
        version=version,
        single_file=single,
        compressed=compressed,
        shape=shape,
        type_name=type_name,
        order=order,
        data_offset=data_offset,
        slope=float(slope) if usable else 1.0,
        intercept=float(intercept) if usable else 0.0,
        affine=tuple(affine.ravel().tolist()),
        sform_code=sform_code,
        qform_code=qform_code,
        description=description.split(b"\0")[0].decode("latin-1"),
        xyzt_units=int(units) & 0xFF,
        time_step_s=step if step is not None and math.isfinite(step) and step > 0 else None,
        intent_code=int(intent_code),
        intent_parameters=tuple(map(float, intent)) if _says_something(intent) else (),
        fifth_axis=fifth_axis,
        other_place=other_place,
        steps=steps if all(map(math.isfinite, steps)) and set(steps) != {1.0} else (),
        extension_bytes=max(0, end - minimum_offset) if extended else 0,
    )
    if factor is None:
        sides = "x".join(f"{side:.4g}" for side in lengths)
        unit = "metre" if int(units) & 7 == 1 else "micrometre"
        told = f"its unit is the {unit} and voxels are {sides}: neither that nor millimetres alone is likely"
        return replace(file, problem=f"{Reason.NIFTI_INVALID} {told}; set xyzt_units to what is true")
    return _judged(file, datatype)


def _says_something(parameters: tuple[float, ...]) -> bool:
    return any(parameters) and all(map(math.isfinite, parameters))


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return tuple(int(n) for n in shape)


def _judged(file: NiftiFile, datatype: int) -> NiftiFile:
    problem = ""
    size = "x".join(map(str, file.shape))
    if file.type_name not in _STORABLE and file.type_name not in _COMPONENTS:
        problem = f"{Reason.NIFTI_DATATYPE} data type {datatype} is not stored"
    elif len(file.shape) not in (3, 4):
        problem = f"{Reason.NIFTI_NO_SPACE} dimensions are {size}"
    elif math.prod(file.shape) > _MAX_VOXELS:
        problem = f"{Reason.TOO_LARGE} dimensions are {size}"
    elif not is_place(file.matrix):
        problem = f"{Reason.BAD_GEOMETRY} the affine is singular or not finite"
    elif file.single_file and not _large_enough(file):
        problem = f"{Reason.TRUNCATED} {file.size_bytes} bytes cannot hold {size} voxels"
    elif file.type_name in _COMPONENTS:
        several = "a time series of " if len(file.shape) > 3 else ""
        problem = f"{Reason.NIFTI_DATATYPE} {several}{file.components} voxels, not single values"
    return replace(file, problem=problem) if problem else file


def with_data_file(file: NiftiFile, data: Path, size: int | None) -> NiftiFile:
    """The image of a header (.hdr) with its data file (.img), refused where that is too small.

    Parameters
    ----------
    size
        Of the data file in bytes; None where it is not known (members of archives are cut off on reading).
    """
    pair = replace(file, files=(file.path, data), data_file=data)
    if size is None or pair.problem:
        return pair
    packed = data.name.lower().endswith(".gz")
    if _large_enough(replace(pair, size_bytes=size, compressed=packed)):
        return pair
    shape = "x".join(map(str, pair.shape))
    return replace(pair, problem=f"{Reason.TRUNCATED} {size} bytes cannot hold {shape} voxels")


def _voxel_bytes(type_name: str) -> int:
    if type_name in _COMPONENTS:
        _, component, count = _COMPONENTS[type_name]
        return np.dtype(component).itemsize * count
    return np.dtype(type_name).itemsize


def _large_enough(file: NiftiFile) -> bool:
    needed = file.data_offset + math.prod(file.shape) * _voxel_bytes(file.type_name)
    # this bounds what a small file may claim
    available = file.size_bytes * _DEFLATE_RATIO if file.compressed else file.size_bytes
    return needed <= available


def header_digest_of(data: bytes) -> str:
    """blake3 of the header of a file (inflated where it is compressed) that begins with `data`."""
    return blake3(data[:_HEADER_BYTES]).hexdigest()


_TEXTS = {
    1: {"data_type": (4, 14), "db_name": (14, 32), "descrip": (148, 228), "aux_file": (228, 252),
        "intent_name": (328, 344)},
    2: {"descrip": (240, 320), "aux_file": (320, 344), "intent_name": (508, 524)},
}  # fmt: skip


def header_texts(header: bytes, file: NiftiFile) -> dict[str, str]:
    """The free texts of a NIfTI header by their fields, those that are not empty.

    Parameters
    ----------
    header
        The first inflated bytes of the file, 544 at least.
    """
    fields = _TEXTS.get(file.version, {}) if file.format == "nifti" else {}
    texts = {name: header[start:end] for name, (start, end) in fields.items()}
    # what stands behind the first zero is left over from another text, and is in the file all the same
    told = {name: text.replace(b"\0", b" ").decode("latin-1").strip() for name, text in texts.items()}
    return {name: text for name, text in told.items() if text}
