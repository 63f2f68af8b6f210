"""A stored volume as a NIfTI file: streamed in slabs, stored voxels, slope and intercept in the header."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import nibabel
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from radiobject_assets.errors import StorageError
from radiobject_assets.store.uris import new_token

if TYPE_CHECKING:
    from radiobject_assets.store.volume import Volume

_gzip: Any = igzip.IGzipFile  # a class without types
_FILE_DTYPES = {"bool": np.dtype(np.uint8), "float16": np.dtype(np.float32)}
_TIME_BITS = 0x38
_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
_IN_SECONDS = 8
_MM_AND_SECONDS = 2 | _IN_SECONDS
_SUFFIXES = (".nii.gz", ".nii")


def write_nifti(
    volume: Volume, path: Path, compression: bool = True, repetition_time_s: float | None = None
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
    physical values. Booleans become uint8 and half floats float32, which NIfTI has. The affine goes into
    sform and qform; codes, units, time step and (if it was kept) description are those of the source where it
    was NIfTI. Header extensions are not kept. The file appears under its name only when it is whole.
    """
    if not path.name.endswith(_SUFFIXES):
        path = path.with_name(path.name + ".nii")
    if compression and not path.name.endswith(".gz"):
        path = path.with_name(path.name + ".gz")
    header = _header(volume, repetition_time_s)
    part = path.with_name(f".{path.name}.{new_token()[:8]}.part")
    try:
        with part.open("wb") as raw:
            if path.name.endswith(".gz"):
                with _gzip(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed:
                    _write(packed, header, volume)
            else:
                _write(raw, header, volume)
        os.replace(part, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _header(volume: Volume, repetition_time_s: float | None) -> Any:
    nib: Any = nibabel  # nibabel has no types for its headers
    large = max(volume.shape) > np.iinfo(np.int16).max
    header = nib.Nifti2Header() if large else nib.Nifti1Header()
    header.set_data_shape(volume.shape)
    header.set_data_dtype(_FILE_DTYPES.get(volume.stored_dtype.name, volume.stored_dtype))
    source = volume.nifti_header
    units = int(source.get("xyzt_units", _MM_AND_SECONDS))
    zooms = list(volume.spacing_mm)
    if volume.ndim == 4:
        step_s = source.get("time_step_s") or repetition_time_s
        # Units that say nothing of time, or frequencies, are no reason to lose a time step that is known.
        units = units if units & _TIME_BITS in _SECONDS or not step_s else (units & 7) | _IN_SECONDS
        zooms.append((step_s or 1.0) / _SECONDS.get(units & _TIME_BITS, 1.0))
    header.set_zooms(zooms)
    header["xyzt_units"] = units
    _set_transforms(header, volume, source)
    header["descrip"] = str(source.get("nifti_description") or "").encode("latin-1", "replace")[:79]
    header["scl_slope"], header["scl_inter"] = volume.slope, volume.intercept
    header["vox_offset"] = 544 if large else 352
    header["magic"] = header["magic"] if large else b"n+1"
    return header


def _set_transforms(header: Any, volume: Volume, source: Mapping[str, Any]) -> None:
    """The affine as sform and qform, with the codes of the source where it was NIfTI."""
    sform, qform = int(source.get("sform_code", 1)), int(source.get("qform_code", 1))
    if sform <= 0 and qform <= 0 and not np.allclose(header.get_base_affine(), volume.affine):
        sform = 1  # without codes a reader would centre the volume; that is not where it is any more
    if qform > 0 and sform <= 0 and not _is_rigid(volume.affine):
        sform = 1  # a quaternion cannot hold shear
    header.set_qform(volume.affine, code=max(qform, 0))
    header.set_sform(volume.affine, code=max(sform, 0))


def _is_rigid(affine: NDArray[np.float64]) -> bool:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-5))


def _write(out: BinaryIO | Any, header: Any, volume: Volume) -> None:
    out.write(header.binaryblock)
    out.write(b"\0" * 4)  # no header extensions
    dtype = header.get_data_dtype()
    for _, _, voxels in volume.iter_slabs(stored=True):
        flat = np.ravel(voxels.astype(dtype, copy=False), order="F")
        out.write(flat.view(np.uint8).data)
