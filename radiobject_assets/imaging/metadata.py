"""Headers of images as records: what `obs` may want to know of a NIfTI file or a folder of DICOM."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from radiobject_assets.errors import ImageReadError, IngestError
from radiobject_assets.imaging.image_orientation import image_series_in, transform_of
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.orientation import affine_axcodes, affine_to_json, spacing_mm

_SPATIAL_UNITS = {1: "m", 2: "mm", 3: "um"}


class _Metadata(BaseModel):
    model_config = ConfigDict(frozen=True)

    voxel_spacing: tuple[float, float, float]
    """Along the columns, rows and slices, in the unit of the affine (millimetres for DICOM)."""
    dimensions: tuple[int, ...]

    def _row(self, **more: str) -> dict[str, Any]:
        values = self.model_dump()
        return {
            **values,
            "voxel_spacing": str(values["voxel_spacing"]),
            "dimensions": str(values["dimensions"]),
            **more,
        }


class NiftiMetadata(_Metadata):
    """The header of a NIfTI image; `dimensions` are (x, y, z), or (x, y, z, t)."""

    datatype: int
    bitpix: int
    scl_slope: float
    scl_inter: float
    """Slope and intercept that physical values follow from; 1 and 0 where the header says none."""
    xyzt_units: int
    spatial_units: str
    """`mm`, `um`, `m` or `unknown`."""
    qform_code: int
    sform_code: int
    axcodes: str
    affine_json: str
    """4x4, voxel index to RAS+ mm."""
    orientation_source: Literal["nifti_sform", "nifti_qform", "identity"]
    source_path: str

    @property
    def spatial_dimensions(self) -> tuple[int, ...]:
        """(x, y, z)."""
        return self.dimensions[:3]

    @property
    def is_4d(self) -> bool:
        """Whether the image has time points."""
        return len(self.dimensions) == 4

    def to_obs_dict(self, obs_id: str, obs_subject_id: str, series_type: str) -> dict[str, Any]:
        """A row for obs; spacing and dimensions as text, as RadiObject writes them."""
        return self._row(obs_id=obs_id, obs_subject_id=obs_subject_id, series_type=series_type)


class DicomMetadata(_Metadata):
    """The header of one DICOM image series; `dimensions` are (rows, columns, slices)."""

    modality: str
    series_description: str
    kvp: float | None = None
    exposure: float | None = None
    """mAs"""
    repetition_time: float | None = None
    echo_time: float | None = None
    """Both in milliseconds."""
    magnetic_field_strength: float | None = None
    """Tesla."""
    axcodes: str
    affine_json: str
    """4x4, voxel index (column, row, slice) to RAS+ mm, from the positions of the slices."""
    orientation_source: Literal["dicom_iop", "identity"]
    source_path: str

    def to_obs_dict(self, obs_id: str, obs_subject_id: str) -> dict[str, Any]:
        """A row for obs; spacing and dimensions as text, as RadiObject writes them."""
        return self._row(obs_id=obs_id, obs_subject_id=obs_subject_id)


def extract_nifti_metadata(nifti_path: str | Path) -> NiftiMetadata:
    """Read the header of a NIfTI file.

    Raises
    ------
    FileNotFoundError
        The file is absent.
    ImageReadError
        It is no NIfTI file.
    """
    import nibabel

    path = Path(nifti_path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    nib: Any = nibabel
    try:
        image = nib.load(path)
        header = image.header
        codes = int(header["qform_code"]), int(header["sform_code"])
    except (
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
        KeyError,
        ValueError,
    ) as error:
        raise ImageReadError(Reason.NIFTI_INVALID, "cannot be read as NIfTI", path) from error
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not math.isfinite(slope) or slope == 0:
        # nibabel takes the scaling out of the header that it shows and keeps it with the voxels
        slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    affine = np.asarray(image.affine, dtype=np.float64)
    sizes = tuple(int(n) for n in image.shape)
    units = int(header["xyzt_units"])
    return NiftiMetadata(
        voxel_spacing=spacing_mm(affine),
        dimensions=sizes if len(sizes) == 4 else (*sizes, 1, 1, 1)[:3],
        datatype=int(header["datatype"]),
        bitpix=int(header["bitpix"]),
        scl_slope=slope,
        scl_inter=intercept if math.isfinite(intercept) else 0.0,
        xyzt_units=units,
        spatial_units=spatial_units(units),
        qform_code=codes[0],
        sform_code=codes[1],
        axcodes=affine_axcodes(affine),
        affine_json=affine_to_json(affine),
        orientation_source=transform_of(header),
        source_path=str(path.absolute()),
    )


def spatial_units(xyzt_units: int) -> str:
    """Unit of space of a NIfTI header: the lowest three bits of xyzt_units."""
    return _SPATIAL_UNITS.get(xyzt_units & 7, "unknown")


def extract_dicom_metadata(dicom_dir: str | Path) -> DicomMetadata:
    """Read the headers of the one image series in a folder; geometry comes from the slices' positions.

    Raises
    ------
    FileNotFoundError
        The folder is absent.
    IngestError
        It holds no DICOM image, or several series.
    ImageReadError
        Its series is no volume; the message has the reason.
    """
    path = Path(dicom_dir)
    series = image_series_in(path)
    if series is None or series.affine is None or series.shape is None:
        raise IngestError(f"{path}: No DICOM files of an image series")
    columns, rows, slices = series.shape[:3]

    def number(name: str) -> float | None:
        value = series.attributes.get(name)
        return float(value) if isinstance(value, int | float) else None

    return DicomMetadata(
        voxel_spacing=spacing_mm(series.affine),
        dimensions=(rows, columns, slices),
        modality=series.modality,
        series_description=series.description,
        kvp=number("tube_voltage_kv"),
        exposure=number("exposure_mas"),
        repetition_time=number("repetition_time_ms"),
        echo_time=number("echo_time_ms"),
        magnetic_field_strength=number("magnetic_field_strength_t"),
        axcodes=affine_axcodes(series.affine),
        affine_json=affine_to_json(series.affine),
        orientation_source="dicom_iop",
        source_path=str(path.absolute()),
    )
