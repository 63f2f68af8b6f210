"""FreeSurfer's MGH and MGZ volumes: their headers, read with nibabel.

The affine is the scanner's (RAS), as nibabel and `mri_info --vox2ras` give it. What stands after the voxels
(command lines, names of users) is not read. Source: FreeSurfer's FsFastFunctionalAnalysis/MghFormat.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.nifti.header import NiftiFile
from radiobject_assets.imaging.nifti.volume_file import VolumeFileHeader, volume_file
from radiobject_assets.imaging.reasons import Reason

_HEADER_BYTES = 284
_TYPES = {0: "u1", 1: "i4", 3: "f4", 4: "i2", 10: "u2"}


def is_mgh(prefix: bytes) -> bool:
    """True if the (inflated) bytes start an MGH volume: version 1, four sizes, a type, a flag."""
    if len(prefix) < _HEADER_BYTES:
        return False
    version, *sizes, kind, _ = struct.unpack_from(">7i", prefix)
    placed = struct.unpack_from(">h", prefix, 28)[0]
    return version == 1 and min(sizes) >= 1 and 0 <= kind <= 20 and placed in (0, 1)


def read_mgh(path: Path, root: Path, prefix: bytes, size: int, *, compressed: bool) -> NiftiFile:
    """Read the header in `prefix`, the first (inflated) bytes of the file.

    Raises
    ------
    ImageReadError
        With NOT_AN_IMAGE where it holds values of the points of a surface.
    """
    from nibabel.freesurfer.mghformat import MGHHeader  # 0.1 s, which a scan without such files does without

    columns, rows, slices, frames, kind, _ = struct.unpack_from(">6i", prefix, 4)
    shape = (columns, rows, slices) if frames == 1 else (columns, rows, slices, frames)
    if rows == 1 and slices == 1:
        said = f"holds values of the {columns} points of a surface (MGH), no volume"
        raise ImageReadError(Reason.NOT_AN_IMAGE, said, path)
    problem: tuple[Reason, str] | None = None
    affine = None
    make: Any = MGHHeader
    header = make(prefix[:_HEADER_BYTES].ljust(make.template_dtype.itemsize, b"\0"), check=False)
    if kind not in _TYPES:
        problem = Reason.VOLUME_HEADER, f"MGH data type {kind} is not stored"
    elif struct.unpack_from(">h", prefix, 28)[0] == 0:
        problem = Reason.NO_GEOMETRY, "the header says that its place is not known (goodRASFlag is 0)"
    else:
        affine = np.asarray(header.get_affine(), dtype=np.float64)
    found = VolumeFileHeader(
        shape=shape,
        type_name=_TYPES.get(kind, "u1"),
        order=">",
        affine=affine,
        data_offset=_HEADER_BYTES,
        fourth_axis="unknown",
        problem=problem,
    )
    return volume_file(found, "mgh", path, root, prefix, size, compressed=compressed)
