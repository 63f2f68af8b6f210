"""A stored volume as a NIfTI file: streamed in slabs, stored voxels, slope and intercept in the header."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import nibabel
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from radiobject_assets.errors import StorageError
from radiobject_assets.store.objects.statistics import Slabs
from radiobject_assets.system.durable_files import whole_file

# (components, stored dtype) to the type of a whole voxel and the number of its components.
_JOINED: dict[tuple[Any, str], tuple[np.dtype[Any], int]] = {
    ("rgb", "uint8"): (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), 3),
    ("rgba", "uint8"): (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")]), 4),
    ("complex", "float32"): (np.dtype(np.complex64), 2),
    ("complex", "float64"): (np.dtype(np.complex128), 2),
}
_gzip: Any = igzip.IGzipFile  # a class without types
_FILE_DTYPES = {"bool": np.dtype(np.uint8), "float16": np.dtype(np.float32)}
_TIME_BITS = 0x38
_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
_IN_SECONDS = 8
_MM_AND_SECONDS = 2 | _IN_SECONDS
_SUFFIXES = (".nii.gz", ".nii")
_JOINED_BYTES = 32 << 20


class ExportedVolume(Slabs, Protocol):
    """What is read of a volume, and known of the file that it came from."""

    @property
    def ndim(self) -> int: ...
    @property
    def affine(self) -> NDArray[np.float64]: ...
    @property
    def spacing_mm(self) -> tuple[float, float, float]: ...
    @property
    def nifti_header(self) -> dict[str, Any]: ...
    def read_box(self, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]: ...


def write_nifti(
    volume: ExportedVolume, path: Path, compression: bool = True, repetition_time_s: float | None = None
) -> Path:
    """Write `volume` to `path`; returns the path written.

    Parameters
    ----------
    path
        `.nii.gz` is written compressed. To any other name `compression` appends what is missing of `.nii.gz`;
        without it the file is a plain `.nii`.
    repetition_time_s
        Seconds between the time points of a 4D volume, for the header.

    The voxels are written as stored, with slope and intercept in the header, so that a reader gets the same
    physical values. Booleans become uint8 and half floats float32, which NIfTI has. Components become one
    voxel again: colours of 8 bits RGB24 or RGBA32, complex numbers complex64 or complex128. The affine goes
    into sform and qform; version, codes, a qform that says otherwise than the sform, units, steps of the
    fourth axis and beyond, intent, a fifth axis and (if they were kept) description and extensions are those
    of the source where it was NIfTI. The file appears under its name only when it is whole.
    """
    if not path.name.endswith(_SUFFIXES):
        path = path.with_name(path.name + ".nii")
    if compression and not path.name.endswith(".gz"):
        path = path.with_name(path.name + ".gz")
    header = _header(volume, repetition_time_s)
    try:
        with whole_file(path, sync=False) as staged, staged.open("wb") as raw:
            if path.name.endswith(".gz"):
                with _gzip(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed:
                    _write(packed, header, volume)
            else:
                _write(raw, header, volume)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _header(volume: ExportedVolume, repetition_time_s: float | None) -> Any:
    nib: Any = nibabel  # nibabel has no types for its headers
    source = volume.nifti_header
    # of the second version also where the source was, whose numbers have twice the digits
    second = max(volume.shape) > np.iinfo(np.int16).max or source.get("nifti_version") == 2
    header = nib.Nifti2Header() if second else nib.Nifti1Header()
    joined = _joined_dtype(volume, source)
    shape = volume.shape if joined is None else volume.shape[:3]
    header.set_data_dtype(joined or _FILE_DTYPES.get(volume.stored_dtype.name, volume.stored_dtype))
    header.set_data_shape(shape)
    units = int(source.get("xyzt_units", _MM_AND_SECONDS))
    zooms = list(volume.spacing_mm)
    steps = json.loads(source.get("nifti_steps") or "[]")
    step_s = (source.get("time_step_s") or repetition_time_s) if len(shape) == 4 else None
    if len(shape) == 4:
        # Units that say nothing of time, or frequencies, are no reason to lose a time step that is known.
        units = units if units & _TIME_BITS in _SECONDS or not step_s else (units & 7) | _IN_SECONDS
        zooms.append((step_s or 1.0) / _SECONDS.get(units & _TIME_BITS, 1.0))
    header.set_zooms(zooms)
    header["xyzt_units"] = units
    _set_transforms(header, volume, source)
    header["descrip"] = str(source.get("nifti_description") or "").encode("latin-1", "replace")[:80]
    header["scl_slope"], header["scl_inter"] = volume.slope, volume.intercept
    header["intent_code"] = int(source.get("nifti_intent_code") or 0)
    for number, parameter in enumerate(
        json.loads(source.get("nifti_intent_parameters") or "[]")[:3], start=1
    ):
        header[f"intent_p{number}"] = parameter
    if source.get("nifti_fifth_axis") and len(shape) == 4:
        header.set_data_shape((*shape[:3], 1, shape[3]))
    for axis, step in enumerate(steps[:4], start=4):
        if axis > 4 or not step_s:
            header["pixdim"][axis] = step
    header["vox_offset"] = 544 if second else 352
    header["magic"] = header["magic"] if second else b"n+1"
    return header


def _joined_dtype(volume: ExportedVolume, source: Mapping[str, Any]) -> np.dtype[Any] | None:
    """NIfTI's type of voxels that hold all components, which are a volume's last axis; None without one."""
    dtype, count = _JOINED.get((source.get("components"), volume.stored_dtype.name), (None, 0))
    return dtype if volume.ndim == 4 and volume.shape[3] == count else None


def _set_transforms(header: Any, volume: ExportedVolume, source: Mapping[str, Any]) -> None:
    """The affine as sform and qform, with the codes of the source where it was NIfTI."""
    sform, qform = int(source.get("sform_code", 1)), int(source.get("qform_code", 1))
    if sform <= 0 and qform <= 0 and not np.allclose(header.get_base_affine(), volume.affine):
        sform = 1  # without codes a reader would centre the volume; that is not where it is any more
    if qform > 0 and sform <= 0 and not _is_rigid(volume.affine):
        sform = 1  # a quaternion cannot hold shear
    other = json.loads(source.get("nifti_other_place") or "[]") if sform > 0 and qform > 0 else []
    to_qform = np.vstack([np.reshape(other, (3, 4)), [0, 0, 0, 1]]) if len(other) == 12 else np.eye(4)
    header.set_qform(to_qform @ volume.affine, code=max(qform, 0))
    header.set_sform(volume.affine, code=max(sform, 0))


def _is_rigid(affine: NDArray[np.float64]) -> bool:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-5))


def _extensions(volume: ExportedVolume) -> bytes:
    """The header extensions of the source, as they stand between header and voxels: at least four bytes."""
    block = b""
    for code, content in json.loads(volume.nifti_header.get("nifti_extensions") or "[]"):
        data = base64.b64decode(content)
        data += b"\0" * (-(len(data) + 8) % 16)
        block += struct.pack("=2i", len(data) + 8, code) + data  # the header is in native order, too
    return bytes([bool(block), 0, 0, 0]) + block


def _write(out: BinaryIO | Any, header: Any, volume: ExportedVolume) -> None:
    extensions = _extensions(volume)
    header["vox_offset"] = int(header["vox_offset"]) + len(extensions) - 4
    out.write(header.binaryblock)
    out.write(extensions)
    dtype = header.get_data_dtype()
    if dtype.kind in "cV":
        _write_joined(out, volume)
        return
    for _, _, voxels in volume.iter_slabs(stored=True):
        flat = np.ravel(voxels.astype(dtype, copy=False), order="F")
        out.write(flat.view(np.uint8).data)


def _write_joined(out: BinaryIO | Any, volume: ExportedVolume) -> None:
    x, y, z_size, count = volume.shape
    depth = max(1, _JOINED_BYTES // (x * y * count * volume.stored_dtype.itemsize))
    for z in range(0, z_size, depth):
        thick = min(depth, z_size - z)
        box = volume.read_box((0, 0, z, 0), (x, y, thick, count)).reshape((-1, count), order="F")
        out.write(np.ascontiguousarray(box).view(np.uint8).data)
