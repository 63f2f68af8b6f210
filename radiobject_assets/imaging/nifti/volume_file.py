"""Volumes of other formats than NIfTI as the same value: what their readers have in common.

MGH, NRRD and MetaImage say in their own words what NIfTI says: shape, type, place, and where the voxels are.
Their readers put that into a `NiftiFile`, so that everything after the scan treats them alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.nifti.header import NiftiFile, header_digest_of
from radiobject_assets.imaging.nifti.place import is_place
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.source import AttributeValue

Packing = Literal["", "gzip", "zlib", "bzip2"]
_MOST_TO_ONE = {"": 1, "gzip": 1032, "zlib": 1032, "bzip2": 50_000}
_MAX_VOXELS = 1 << 40
# Writers end a file with a line break, or fill up a block.
_MAX_PADDING_BYTES = 512
FORMATS = {"nifti": "NIfTI", "mgh": "MGH", "nrrd": "NRRD", "metaimage": "MetaImage"}
"""Formats that are read, as people call them."""


@dataclass(frozen=True)
class VolumeFileHeader:
    """What the header of a volume says.

    shape
        (X, Y, Z) or (X, Y, Z, n).
    type_name, order
        numpy type code without byte order; `<` or `>`.
    affine
        (4, 4) voxel index to RAS+ mm; None where the header does not say it.
    data_offset
        Of the first byte of the voxels in the file that holds them; -1 where they end that file.
    data_name
        Name of the file that holds the voxels, as the header says it; "" where it is the header's own.
    packing
        How the voxels are compressed, header excluded.
    interleaved
        True if the values of the fourth axis lie together.
    components
        What the fourth axis is where its values make one: `rgb`, `rgba`, `complex`; else "".
    fourth_axis, fourth_axis_values
        What the fourth axis is (time, b_value, component, unknown), and its values.
    problem
        Reason and detail why it cannot be taken in.
    """

    shape: tuple[int, ...]
    type_name: str
    order: str
    affine: NDArray[np.float64] | None
    data_offset: int
    data_name: str = ""
    packing: Packing = ""
    interleaved: bool = False
    components: str = ""
    fourth_axis: str = ""
    fourth_axis_values: Sequence[float] = ()
    time_step_s: float | None = None
    slope: float = 1.0
    intercept: float = 0.0
    problem: tuple[Reason, str] | None = None
    segmentation: bool = False
    segments: tuple[tuple[int, int, str, str, str], ...] = ()
    attributes: dict[str, AttributeValue] = field(default_factory=dict)


def volume_file(
    header: VolumeFileHeader,
    kind: str,
    path: Path,
    root: Path,
    prefix: bytes,
    size: int,
    *,
    compressed: bool = False,
) -> NiftiFile:
    """The value of a volume in a file of its own, judged as far as its header goes.

    Parameters
    ----------
    kind
        Key of `FORMATS`.
    prefix
        First bytes of the file, inflated where it is compressed as a whole.
    size
        Of the file, in bytes.
    """
    attributes = dict(header.attributes)
    if header.fourth_axis and len(header.shape) == 4:
        attributes["fourth_axis"] = header.fourth_axis
        if header.fourth_axis_values:
            attributes["fourth_axis_values"] = json.dumps(list(header.fourth_axis_values))
    placed = header.affine if header.affine is not None else np.zeros((4, 4))
    own = not header.data_name
    file = NiftiFile(
        path=path,
        files=(path,),
        name=path_text(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name),
        size_bytes=size,
        version=0,
        single_file=own,
        compressed=compressed,
        shape=header.shape,
        type_name=header.type_name,
        order=header.order,
        data_offset=header.data_offset,
        slope=header.slope,
        intercept=header.intercept,
        affine=tuple(placed[:3].ravel().tolist()),
        sform_code=0,
        qform_code=0,
        description="",
        time_step_s=header.time_step_s,
        format=kind,
        packing=header.packing,
        interleaved=header.interleaved,
        colours=header.components,
        data_name=header.data_name,
        segmentation=header.segmentation,
        segments=header.segments,
        attributes=attributes,
    )
    file = _judged(file, header, size if own else None)
    head = prefix[: file.data_offset] if own and file.data_offset >= 0 else prefix
    return replace(file, header_digest=header_digest_of(head))


def _judged(file: NiftiFile, header: VolumeFileHeader, size: int | None) -> NiftiFile:
    said = "x".join(map(str, file.shape))
    problem: tuple[Reason, str] | None = None
    if len(file.shape) not in (3, 4) or any(n < 1 for n in file.shape):
        problem = Reason.VOLUME_AXES, f"its dimensions are {said}"
    elif math.prod(file.shape) > _MAX_VOXELS:
        problem = Reason.TOO_LARGE, f"its dimensions are {said}"
    elif header.problem is not None:
        problem = header.problem
    elif not is_place(file.matrix):
        problem = Reason.BAD_GEOMETRY, "its axes are singular or not finite"
    elif header.components:
        problem = Reason.COLOUR, f"{header.components} voxels, not single values"
    if problem is not None:
        file = replace(file, problem=f"{problem[0]} {problem[1]}")
    return file if size is None else sized(file, size)


def sized(file: NiftiFile, size: int) -> NiftiFile:
    """The volume, refused where `size` bytes cannot be those of the file that holds its voxels."""
    if file.problem and not file.problem.startswith(Reason.COLOUR):
        return file
    needed = math.prod(file.shape) * np.dtype(file.type_name).itemsize
    said = "x".join(map(str, file.shape)) + f" voxels of {np.dtype(file.type_name).itemsize} bytes"
    if file.data_offset < 0:  # the voxels are what the file ends with
        file = replace(file, data_offset=size - needed if not file.packing else 0)
    if file.data_offset < 0:
        return replace(file, problem=f"{Reason.TRUNCATED} {size} bytes cannot hold {said}")
    whole = size * _MOST_TO_ONE["gzip"] if file.compressed else size
    there = (whole - file.data_offset) * _MOST_TO_ONE[file.packing]
    if there < needed:
        return replace(file, problem=f"{Reason.TRUNCATED} {size} bytes cannot hold {said}")
    slice_bytes = needed // max(1, file.shape[2])
    exact = not file.packing and not file.compressed and file.format != "mgh"
    if exact and there - needed >= min(_MAX_PADDING_BYTES, slice_bytes):
        return replace(file, problem=f"{Reason.VOLUME_HEADER} {said} are declared, {there} bytes are there")
    return file


def data_path(file: NiftiFile) -> Path | None:
    """Where the file that a header names lies: in its folder or below; None if it leads elsewhere."""
    name = PurePosixPath(file.data_name.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in file.data_name or not name.parts:
        return None
    return file.path.parent / name


def with_volume_data(file: NiftiFile, data: Path, size: int | None) -> NiftiFile:
    """The volume of a header with the file that holds its voxels.

    Parameters
    ----------
    size
        Of that file in bytes; None where it is not known (members of archives are cut off on reading).
    """
    pair = replace(file, files=(file.path, data), data_file=data)
    if size is None:
        unknown = f"{Reason.VOLUME_HEADER} where its voxels begin depends on the size of an archived file"
        return replace(pair, problem=unknown) if pair.data_offset < 0 and not pair.problem else pair
    return sized(pair, size)
