"""Orientation of images that are not stored yet: of a nibabel image, of a folder of DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radiobject_assets.errors import ImageReadError, IngestError, ShapeError
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.orientation import Affine, OrientationInfo, is_orientation_valid, reorient

__all__ = [
    "OrientationInfo",
    "detect_dicom_orientation",
    "detect_nifti_orientation",
    "image_series_in",
    "is_orientation_valid",
    "reorient_to_canonical",
]


def detect_nifti_orientation(img: Any) -> OrientationInfo:
    """Orientation of a nibabel NIfTI image: of its sform, else its qform, else `unknown`.

    An identity matrix is `unknown` too, whatever the codes say: writers put it where they know nothing.
    """
    affine = np.asarray(img.affine, dtype=np.float64)
    known = not np.allclose(affine, np.eye(4), atol=1e-6)
    return OrientationInfo.of(affine, transform_of(img.header) if known else "identity")


def transform_of(header: Any) -> Literal["nifti_sform", "nifti_qform", "identity"]:
    """Which transform of a nibabel NIfTI header counts; `identity` where it has none."""
    if int(header["sform_code"]) > 0:
        return "nifti_sform"
    return "nifti_qform" if int(header["qform_code"]) > 0 else "identity"


def detect_dicom_orientation(directory: str | Path) -> OrientationInfo:
    """Orientation of the image series in a folder, from the positions of its slices.

    A folder without DICOM images gives an identity affine of confidence `unknown`.

    Raises
    ------
    FileNotFoundError
        The folder is absent.
    IngestError
        It holds several series (or one that is several volumes), whose orientations may differ.
    ImageReadError
        Its series is no volume; the message has the reason.
    """
    series = image_series_in(directory)
    if series is None or series.affine is None:
        return OrientationInfo.of(np.eye(4), "identity")
    return OrientationInfo.of(series.affine, "dicom_iop")


def image_series_in(directory: str | Path) -> Series | None:
    """The one DICOM image series of a folder; None if there is none. Raises as `detect_dicom_orientation`."""
    directory = Path(directory)
    if not directory.exists():
        raise FileNotFoundError(f"{directory}: no such folder")
    images = [s for s in build_series(scan([directory])) if s.kind == "image" and s.nifti is None]
    if not images:
        return None
    if len(images) > 1:
        raise IngestError(
            f"{directory}: holds {len(images)} image volumes, not one; give the folder of one series"
        )
    (series,) = images
    if series.verdict == "quarantined":
        raise ImageReadError(series.reason or Reason.NOT_AN_IMAGE, series.detail, directory)
    return series


def reorient_to_canonical(
    data: NDArray[Any], affine: ArrayLike, target: Literal["RAS", "LAS", "LPS"] = "RAS"
) -> tuple[NDArray[Any], Affine]:
    """Turn voxels so that their axes point to `target`, without resampling.

    Parameters
    ----------
    data
        (X, Y, Z) or (X, Y, Z, T).
    affine
        4x4, voxel index to RAS+ mm. What is returned is RAS+ too: `target` is about the voxel axes.

    Returns
    -------
    tuple
        A view of the voxels, and the affine that maps its indices to the same places.

    Raises
    ------
    ShapeError
        The data has fewer than three axes, or the affine is not an invertible 4x4 matrix.
    ConfigurationError
        `target` is no orientation.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if data.ndim < 3:
        raise ShapeError(f"the data has shape {data.shape}; expected (X, Y, Z) or (X, Y, Z, T)")
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) == 0:
        raise ShapeError("the affine is not an invertible 4x4 matrix")
    return reorient(data, matrix, target)
