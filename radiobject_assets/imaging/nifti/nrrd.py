"""NRRD headers (`.nrrd`, `.nhdr`, `.seg.nrrd`): their fields, parsed by pynrrd, as a volume's header.

Only the fields and, of the key/value pairs, those of segments and of diffusion are looked at: the others
are anybody's text and may name the patient. Source: teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.elements import Read
from radiobject_assets.imaging.geometry import LPS_TO_RAS
from radiobject_assets.imaging.nifti.header import NiftiFile
from radiobject_assets.imaging.nifti.nrrd_segments import is_segmentation, segments_of
from radiobject_assets.imaging.nifti.volume_file import Packing, VolumeFileHeader, volume_file
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.source import AttributeValue

_MAX_HEADER_BYTES = 8 << 20
_MAGIC = re.compile(rb"NRRD\d{4}\r?\n")
_BLANK = re.compile(rb"\n\r?\n")
_TYPES = {
    "i1": "signed char|int8|int8_t", "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t", "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float", "f8": "double",
}  # fmt: skip
_TYPE_OF = {name: code for code, names in _TYPES.items() for name in names.split("|")}
_PACKING: dict[str, Packing] = {"raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_TO_RAS = {
    "right-anterior-superior": np.eye(4), "ras": np.eye(4),
    "left-anterior-superior": np.diag([-1.0, 1.0, 1.0, 1.0]), "las": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "left-posterior-superior": LPS_TO_RAS, "lps": LPS_TO_RAS,
}  # fmt: skip
_UNITS_MM = {
    "": 1.0, "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "millimetre": 1.0, "um": 1e-3, "µm": 1e-3,
    "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3, "cm": 10.0, "m": 1000.0,
}  # fmt: skip
_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "us": 1e-6}
_COLOURS = {
    "rgb-color": "rgb",
    "3-color": "rgb",
    "rgba-color": "rgba",
    "4-color": "rgba",
    "complex": "complex",
}
_VECTORS = re.compile(
    r"(covariant-|2-|3-|4-)?(vector|gradient|normal)|.*matrix|quaternion|hsv-color|xyz-color"
)


class _Refused(Exception):
    """Why a volume with a sound header can't be taken in."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.problem = reason, detail


def is_nrrd(prefix: bytes) -> bool:
    """True if the bytes start an NRRD header."""
    return _MAGIC.match(prefix) is not None


def read_nrrd(path: Path, root: Path, read: Read, prefix: bytes, size: int) -> NiftiFile:
    """Read the header of an NRRD file.

    Raises
    ------
    ImageReadError
        With VOLUME_HEADER where it is damaged or lacks what the format asks for.
    """
    start = prefix
    end = _BLANK.search(start)
    if end is None and size > len(prefix):
        start = read(0, min(size, _MAX_HEADER_BYTES))
        end = _BLANK.search(start)
    if end is None and size > len(start):
        raise ImageReadError(Reason.VOLUME_HEADER, "is an NRRD file whose header does not end", path)
    text = start if end is None else start[: end.start() + 1]
    try:
        fields, pairs = _parsed(text)
        found = _header(fields, pairs, len(start) if end is None else end.end())
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, ArithmeticError) as error:
        raise ImageReadError(
            Reason.VOLUME_HEADER, f"is an NRRD file whose header cannot be read ({_harmless(error)})", path
        ) from error
    return volume_file(found, "nrrd", path, root, start, size)


def _harmless(error: Exception) -> str:
    return str(error) if isinstance(error, _Said) else type(error).__name__


class _Said(ValueError):
    """A mistake in a header, in words of ours."""


def _parsed(text: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """Fields, as pynrrd understands them, and key/value pairs."""
    import nrrd

    lines, pairs = [], {}
    for number, line in enumerate(re.split(r"\r?\n", text.decode("utf-8", "replace"))):
        if line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        if colon and value.startswith("="):
            pairs[key.strip()] = value[1:].strip()
        elif number == 0:
            lines.append(line)
        elif colon and value.startswith(" "):
            lines.append(f"{key.lower()}:{value}")  # names of fields are so in files of any writer but one
        elif line.strip():
            raise _Said("a line is neither a field nor a key and its value")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dict(nrrd.read_header(lines)), pairs
        except nrrd.NRRDError as error:
            raise _Said("it has a field that NRRD does not allow") from error


def _header(fields: Mapping[str, Any], pairs: Mapping[str, str], end: int) -> VolumeFileHeader:
    for name in ("type", "dimension", "sizes", "encoding"):
        if name not in fields:
            raise _Said(f"{name} is absent")
    sizes = tuple(int(n) for n in fields["sizes"])
    if len(sizes) != fields["dimension"] or not sizes or min(sizes) < 1:
        raise _Said("sizes does not fit dimension")
    type_name = _TYPE_OF.get(fields["type"].lower(), "")
    wide = bool(type_name) and np.dtype(type_name).itemsize > 1
    order = {"big": ">", "little": "<"}.get(str(fields.get("endian", "")).lower(), "")
    if wide and not order:
        raise _Said("endian is absent")
    data = str(fields.get("data file", fields.get("datafile", "")))
    skip = int(fields.get("byte skip", fields.get("byteskip", 0)))
    packing = _PACKING.get(fields["encoding"].lower())
    if skip < -1 or (skip < 0 and packing != ""):
        raise _Said(f"byte skip is {skip}")
    base = VolumeFileHeader(
        shape=sizes,
        type_name=type_name or "u1",
        order=order or "<",
        affine=None,
        data_offset=skip if data else (end if skip >= 0 else -1),
        data_name=data,
        packing=packing or "",
    )
    try:
        if not type_name:
            raise _Refused(Reason.VOLUME_HEADER, "an NRRD type that is not stored")
        if packing is None:
            raise _Refused(Reason.FOREIGN_FORMAT, "an NRRD file whose voxels are text: save it raw or gzip")
        if int(fields.get("line skip", fields.get("lineskip", 0))) or (skip > 0 and (packing or not data)):
            raise _Refused(Reason.FOREIGN_FORMAT, "an NRRD file with lines or bytes to skip: save it again")
        if data.upper().startswith("LIST") or "%" in data:
            raise _Refused(Reason.FOREIGN_FORMAT, "an NRRD file whose voxels lie in several files: join them")
        return _shaped(base, fields, pairs)
    except _Refused as refused:
        return replace(base, problem=refused.problem)


def _shaped(base: VolumeFileHeader, fields: Mapping[str, Any], pairs: Mapping[str, str]) -> VolumeFileHeader:
    sizes = base.shape
    vectors, origin, to_ras = _space(fields, len(sizes))
    spatial = [axis for axis in range(len(sizes)) if np.isfinite(vectors[axis, :3]).all()]
    timed = vectors.shape[1] == 4
    if timed:  # the fourth coordinate of the space is time
        moving = [a for a in spatial if vectors[a, 3] != 0 and not vectors[a, :3].any()]
        spatial = [a for a in spatial if a not in moving]
        if any(vectors[a, 3] != 0 for a in spatial):
            raise _Refused(Reason.BAD_GEOMETRY, "an axis of space that moves in time")
    others = [axis for axis in range(len(sizes)) if axis not in spatial and sizes[axis] > 1]
    if len(spatial) != 3 or len(others) > 1 or (others and spatial[0] < others[0] < spatial[-1]):
        said = "x".join(map(str, sizes))
        raise _Refused(Reason.VOLUME_AXES, f"its axes are {said}, {len(spatial)} of them in space")
    affine = np.eye(4)
    affine[:3, :3] = vectors[spatial, :3].T
    affine[:3, 3] = origin[:3]
    header = replace(base, shape=tuple(sizes[a] for a in spatial), affine=to_ras @ affine)
    if is_segmentation(pairs):
        header = replace(header, segmentation=True, segments=segments_of(pairs))
    if not others:
        return header
    axis = others[0]
    header = replace(header, shape=(*header.shape, sizes[axis]), interleaved=axis < spatial[0])
    kinds = fields.get("kinds") or ["???"] * len(sizes)
    if len(kinds) != len(sizes):
        raise _Said("kinds does not fit dimension")
    return _fourth(header, kinds[axis].lower(), axis, fields, pairs, vectors if timed else None)


def _space(
    fields: Mapping[str, Any], axes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Vectors of the axes in mm (NaN for those that are none of space), origin, and the way to RAS+."""
    space = str(fields.get("space", "")).lower().removesuffix("-time")
    if len(space) == 4 and space.endswith("t"):
        space = space[:3]
    if space not in _TO_RAS:
        raise _Refused(
            Reason.NO_GEOMETRY,
            "its header does not say how its space lies in the patient: `space` is absent, or another one "
            "than LPS, RAS and LAS",
        )
    if fields.get("space directions") is None or fields.get("space origin") is None:
        raise _Refused(Reason.NO_GEOMETRY, "`space directions` or `space origin` is absent")
    vectors = np.array(fields["space directions"], dtype=np.float64)
    origin = np.array(fields["space origin"], dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != axes or vectors.shape[1] not in (3, 4):
        raise _Said("space directions does not fit dimension")
    if origin.shape != (vectors.shape[1],):
        raise _Said("space origin does not fit the space")
    if not np.isfinite(origin[:3]).all():
        raise _Refused(Reason.NO_GEOMETRY, "`space origin` is not of numbers")
    units = [str(unit).strip().lower() for unit in fields.get("space units", ["mm"] * 3)][:3]
    if len(units) != 3 or any(unit not in _UNITS_MM for unit in units):
        raise _Refused(Reason.NO_GEOMETRY, "`space units` are none that are known")
    factors = np.array([_UNITS_MM[unit] for unit in units])
    vectors[:, :3] *= factors
    origin[:3] *= factors
    return vectors, origin, _TO_RAS[space]


def _fourth(
    header: VolumeFileHeader,
    kind: str,
    axis: int,
    fields: Mapping[str, Any],
    pairs: Mapping[str, str],
    vectors: NDArray[np.float64] | None,
) -> VolumeFileHeader:
    """The header with what its fourth axis is."""
    if kind in _COLOURS:
        return replace(header, components=_COLOURS[kind], fourth_axis="component")
    if _VECTORS.fullmatch(kind):
        return replace(header, fourth_axis="component")
    count = header.shape[3]
    if pairs.get("modality", "").upper() == "DWMRI":
        diffusion = _diffusion(pairs, count, fields.get("measurement frame"), str(fields["space"]).lower())
        if diffusion is not None:
            values, attributes = diffusion
            return replace(header, fourth_axis="b_value", fourth_axis_values=values, attributes=attributes)
    if kind == "time" or vectors is not None:
        step = _time_step_s(axis, fields, vectors)
        values = [round(step * number, 9) for number in range(count)] if step else []
        return replace(header, fourth_axis="time", time_step_s=step, fourth_axis_values=values)
    return replace(header, fourth_axis="unknown")


def _time_step_s(axis: int, fields: Mapping[str, Any], vectors: NDArray[np.float64] | None) -> float | None:
    if vectors is not None and np.isfinite(vectors[axis, 3]):
        step, unit = abs(float(vectors[axis, 3])), (*fields.get("space units", ()), "", "", "", "")[3]
    else:
        step = float((*fields.get("spacings", ()), *[float("nan")] * 16)[axis])
        unit = str((*fields.get("units", ()), *[""] * 16)[axis])
    factor = _SECONDS.get(str(unit).strip().lower())
    return step * factor if factor is not None and np.isfinite(step) and step > 0 else None


def _diffusion(
    pairs: Mapping[str, str], count: int, frame: Any, space: str
) -> tuple[Sequence[float], dict[str, AttributeValue]] | None:
    """b-values, and what obs has of them; None where the header does not have one gradient for each image.

    A gradient's length says its share of the nominal b-value: b times its square over the longest one's.
    """
    if any(key.startswith("DWMRI_NEX") for key in pairs):
        return None
    try:
        nominal = float(pairs["DWMRI_b-value"])
        gradients = np.array(
            [[float(v) for v in pairs[f"DWMRI_gradient_{number:04}"].split()] for number in range(count)]
        )
    except (KeyError, ValueError):
        return None
    if gradients.shape != (count, 3) or not np.isfinite(gradients).all() or not np.isfinite(nominal):
        return None
    lengths = np.linalg.norm(gradients, axis=1)
    longest = float(lengths.max())
    if longest == 0 or nominal < 0:
        return None
    values = (nominal * (lengths / longest) ** 2).round(6).tolist()
    turn = np.eye(3) if frame is None else np.array(frame, dtype=np.float64).T
    if turn.shape != (3, 3) or not np.isfinite(turn).all():
        return None
    world = gradients @ turn.T @ _TO_RAS[space.removesuffix("-time")][:3, :3].T
    norms = np.linalg.norm(world, axis=1, keepdims=True)
    unit = np.divide(world, norms, out=np.zeros_like(world), where=norms > 0)
    return values, {
        "b_values_s_per_mm2": json.dumps(values),
        "b_vectors_ras": json.dumps((unit + 0.0).round(9).tolist()),
    }
