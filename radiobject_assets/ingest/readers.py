"""Image files as the store asks for them: the readers behind `from_niftis`, `from_dicoms` and `append`.

The store knows no file format. It finds these functions through the entry-point group
`radiobject_assets.image_readers`; another package may add a format in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from radiobject_assets.errors import ImageReadError, IngestError
from radiobject_assets.imaging.metadata import extract_dicom_metadata
from radiobject_assets.imaging.nifti.header import nifti_header_file
from radiobject_assets.imaging.nifti.series_type import UNKNOWN
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.pixels.decoders import shared_decoders
from radiobject_assets.imaging.policy import OWN_FILES
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.imaging.source import ImageSource


def open_nifti(path: str | Path) -> list[ImageSource]:
    """Open one NIfTI file (`.nii`, `.nii.gz`, `.hdr`, `.img`), or an MGH, NRRD or MetaImage, as one image.

    A segmentation whose segments overlap gives an image for each of its layers.

    Raises
    ------
    IngestError
        The path is absent.
    ImageReadError
        The file is no such image, or one that can't be stored.
    """
    path = Path(path)
    if not path.is_file():
        raise IngestError(f"{path}: no such file")
    header = nifti_header_file(path) or path
    found = [series for series in _series_below(header) if not series.series_uid]
    return _open_all(path, found, "NIfTI, MGH, NRRD or MetaImage volume")


def open_dicom(path: str | Path) -> list[ImageSource]:
    """Open the DICOM image series of a folder (or one multi-frame file): one image for each volume in it.

    Raises
    ------
    IngestError
        The path is absent, or nothing in it is an image volume.
    ImageReadError
        A series in it is quarantined; the message has its reason.
    """
    path = Path(path)
    if not path.exists():
        raise IngestError(f"{path}: no such folder")
    series = [item for item in _series_below(path) if item.series_uid and item.kind == "image"]
    return _open_all(path, series, "DICOM image series")


def dicom_series_type(path: str | Path) -> str:
    """The modality of the image series in a folder of DICOM: `CT`, `MR`."""
    return extract_dicom_metadata(path).modality or UNKNOWN


def _series_below(path: Path) -> Sequence[Series]:
    found = scan([path])
    if not found.instances and not found.niftis and len(found.unreadable) == 1:
        item = found.unreadable[0]
        raise ImageReadError(str(item.reason), item.detail, item.path)
    return build_series(found, policy=OWN_FILES)


def _open_all(path: Path, series: Sequence[Series], what: str) -> list[ImageSource]:
    if not series:
        raise IngestError(f"{path}: holds no {what}")
    for item in series:
        if item.verdict == "quarantined":
            raise ImageReadError(str(item.reason), item.detail, item.files[0])
    return [open_series(item, decoders=shared_decoders()) for item in series]
