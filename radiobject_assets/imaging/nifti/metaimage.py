"""MetaImage headers (`.mha`, `.mhd`): lines of `Key = Value` up to ElementDataFile, in LPS millimetres.

Read here, since the libraries that read them (ITK's) read the voxels as well, and whole. TransformMatrix
holds the direction of each axis after the other; identity and an offset of 0 are the format's own defaults.
Source: the MetaIO documentation, "MetaImage".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.elements import Read
from radiobject_assets.imaging.geometry import LPS_TO_RAS
from radiobject_assets.imaging.nifti.header import NiftiFile
from radiobject_assets.imaging.nifti.volume_file import VolumeFileHeader, volume_file
from radiobject_assets.imaging.reasons import Reason

_MAX_HEADER_BYTES = 1 << 20
_START = re.compile(rb"(?:[A-Za-z]\w*[ \t]*=[^\n\0]*\n){0,20}[ \t]*NDims[ \t]*=")
_END = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n\0]*)(\r?\n|$)", re.MULTILINE | re.IGNORECASE)
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_UNITS_MM = {"": 1.0, "?": 1.0, "mm": 1.0, "um": 1e-3, "cm": 10.0}
_MAX_AXES = 4


def is_metaimage(prefix: bytes) -> bool:
    """True if the bytes start a MetaImage header: lines of `Key = Value`, one of them NDims."""
    return b"=" in prefix[:64] and _START.match(prefix[:8192]) is not None


def read_metaimage(path: Path, root: Path, read: Read, prefix: bytes, size: int) -> NiftiFile:
    """Read the header of a MetaImage.

    Raises
    ------
    ImageReadError
        With VOLUME_HEADER where it is damaged or lacks what the format asks for.
    """
    start = prefix if _END.search(prefix) else read(0, min(size, _MAX_HEADER_BYTES))
    end = _END.search(start)
    if end is None:
        raise ImageReadError(Reason.VOLUME_HEADER, "is a MetaImage whose header does not end", path)
    fields: dict[str, str] = {}
    for line in start[: end.start()].decode("utf-8", "replace").splitlines():
        key, equals, value = line.partition("=")
        if equals:
            fields[key.strip().lower()] = value.strip()
    try:
        found = _header(fields, end[1].decode("utf-8", "replace").strip(), end.end())
    except (ValueError, OverflowError) as error:
        raise ImageReadError(Reason.VOLUME_HEADER, f"is a MetaImage whose {error}", path) from error
    return volume_file(found, "metaimage", path, root, start, size)


def _header(fields: Mapping[str, str], data: str, end: int) -> VolumeFileHeader:
    axes = int(_numbers(fields, "NDims", 1)[0])
    if not 1 <= axes <= _MAX_AXES:
        raise ValueError(f"NDims is {axes}")
    sizes = _numbers(fields, "DimSize", axes)
    shape = tuple(int(n) for n in sizes)
    if any(n != whole or n < 1 for n, whole in zip(sizes, shape, strict=True)):
        raise ValueError("DimSize has impossible values")
    channels = int(_numbers(fields, "ElementNumberOfChannels", 1, (1.0,))[0])
    if channels < 1:
        raise ValueError("ElementNumberOfChannels is below 1")
    type_name = _TYPES.get(fields.get("elementtype", ""), "")
    problem: tuple[Reason, str] | None = None
    if axes == 4 and shape[3] == 1:
        shape = shape[:3]
    if not type_name:
        problem = Reason.VOLUME_HEADER, "its ElementType is none that is stored"
    elif len(shape) < 3 or (len(shape) == 4 and channels > 1):
        more = f" of {channels} channels" if channels > 1 else ""
        problem = Reason.VOLUME_AXES, f"its dimensions are {'x'.join(map(str, shape))}{more}"
    elif _is_true(fields.get("binarydata", "True")) is False:
        problem = Reason.FOREIGN_FORMAT, "a MetaImage whose voxels are text: save it as binary"
    elif data.upper().startswith("LIST") or "%" in data:
        problem = Reason.FOREIGN_FORMAT, "a MetaImage whose voxels lie in several files: save it as one file"
    affine = None
    if problem is None:
        affine, problem = _placed(fields, axes)
    offset = int(_numbers(fields, "HeaderSize", 1, (0.0,))[0])
    packed = _is_true(fields.get("compresseddata", "False")) is True
    local = data.upper() == "LOCAL"
    if offset < -1 or (local and 0 < offset < end) or (packed and offset < 0):
        raise ValueError(f"HeaderSize is {offset}")
    if not local and (not data or len(data) > 1024):
        raise ValueError("ElementDataFile names no file")
    big = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False"))
    slope, intercept = (
        _numbers(fields, f"ElementToIntensityFunction{name}", 1, (value,))[0]
        for name, value in (("Slope", 1.0), ("Offset", 0.0))
    )
    return VolumeFileHeader(
        shape=(*shape, channels) if channels > 1 else shape,
        type_name=type_name or "u1",
        order=">" if _is_true(big) else "<",
        affine=affine,
        data_offset=(end if offset == 0 else offset) if local else offset,
        data_name="" if local else data,
        packing="zlib" if packed else "",
        interleaved=channels > 1,
        fourth_axis="component" if channels > 1 else "unknown",
        slope=slope if slope != 0 else 1.0,
        intercept=intercept,
        problem=problem,
    )


def _placed(
    fields: Mapping[str, str], axes: int
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None, tuple[Reason, str] | None]:
    """The affine (RAS+ mm), or why there is none."""
    name = next((n for n in ("ElementSpacing", "ElementSize") if n.lower() in fields), "")
    if not name:
        return None, (Reason.NO_GEOMETRY, "ElementSpacing is absent")
    spacing = np.array(_numbers(fields, name, axes))
    named = {
        what: next((n for n in names if n.lower() in fields), names[0])
        for what, names in (
            ("directions", ("TransformMatrix", "Rotation", "Orientation")),
            ("origin", ("Offset", "Position", "Origin")),
        )
    }
    identity = tuple(np.eye(axes).ravel().tolist())
    directions = np.reshape(_numbers(fields, named["directions"], axes * axes, identity), (axes, axes)).T
    origin = np.array(_numbers(fields, named["origin"], axes, (0.0,) * axes))
    told = fields.get("anatomicalorientation", "")
    if named["directions"].lower() not in fields and told and told.upper() != "RAI" and "?" not in told:
        return None, (Reason.NO_GEOMETRY, "AnatomicalOrientation is not RAI, and TransformMatrix is absent")
    if not (spacing[:3] > 0).all():
        return None, (Reason.BAD_GEOMETRY, f"{name} has values that are no sizes")
    unit_mm = _UNITS_MM.get(fields.get("distanceunits", "").lower())
    if unit_mm is None:
        return None, (Reason.NO_GEOMETRY, "DistanceUnits is none that is known")
    if axes == 4 and (np.any(directions[3, :3]) or np.any(directions[:3, 3])):
        return None, (Reason.BAD_GEOMETRY, "TransformMatrix mixes the fourth axis with those of space")
    affine = np.eye(4)
    affine[:3, :3] = directions[:3, :3] * spacing[:3] * unit_mm
    affine[:3, 3] = origin[:3] * unit_mm
    return LPS_TO_RAS @ affine, None


def _numbers(
    fields: Mapping[str, str], name: str, count: int, default: tuple[float, ...] | None = None
) -> tuple[float, ...]:
    text = fields.get(name.lower())
    if text is None:
        if default is None:
            raise ValueError(f"{name} is absent")
        return default
    try:
        values = tuple(float(value) for value in text.split())
    except ValueError:
        raise ValueError(f"{name} is not of numbers") from None
    if len(values) != count or not all(np.isfinite(values)):
        raise ValueError(f"{name} does not hold {count} finite numbers")
    return values


def _is_true(text: str) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower())
