"""One CT series in the forms in which series arrive, for `python -m benchmarks.ingest --source`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

CLASSIC, ENHANCED, NIFTI = "classic", "enhanced", "nifti"
_SYNTAXES: dict[str, UID] = {"rle": RLELossless, "jpeg2000": JPEG2000Lossless, "jpegls": JPEGLSLossless}
SOURCES = (CLASSIC, ENHANCED, *_SYNTAXES, NIFTI)


def make_source(dicom: Path, kind: str, folder: Path) -> Path:
    """The folder that a tool reads: the classic series itself, or another form of it, written to `folder`.

    NIfTI is made by the caller, who knows dcm2niix.
    """
    if kind == ENHANCED:
        folder.mkdir()
        _write_enhanced(dicom, folder / "enhanced.dcm")
        return folder
    if kind in _SYNTAXES:
        folder.mkdir()
        for path in sorted(path for path in dicom.rglob("*") if path.is_file()):
            _compress(path, folder / path.name, _SYNTAXES[kind])
        return folder
    return dicom


def _compress(source: Path, target: Path, syntax: UID) -> None:
    ds = dcmread(source)
    if syntax != JPEGLSLossless:
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(target)
        return
    import imagecodecs  # pydicom's own encoder of JPEG-LS is another package

    frame = imagecodecs.jpegls_encode(ds.pixel_array.view(np.uint16))
    ds.PixelData = encapsulate([bytes(frame)])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(target)


def _write_enhanced(dicom: Path, target: Path) -> None:
    slices = [dcmread(path) for path in sorted(dicom.rglob("*")) if path.is_file()]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    first = slices[0]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = EnhancedCTImageStorage, meta.MediaStorageSOPInstanceUID
    for keyword in (
        "Modality", "PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "StudyDate",
        "StudyTime", "SeriesNumber", "SeriesDescription", "Manufacturer", "Rows", "Columns",
        "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation", "BitsStored", "HighBit",
        "PixelRepresentation", "FrameOfReferenceUID",
    ):  # fmt: skip
        if keyword in first:
            setattr(ds, keyword, getattr(first, keyword))
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.InstanceNumber, ds.NumberOfFrames = 1, len(slices)
    measures = _item(PixelSpacing=first.PixelSpacing, SliceThickness=first.get("SliceThickness", 1))
    rescale = _item(
        RescaleSlope=first.RescaleSlope, RescaleIntercept=first.RescaleIntercept, RescaleType="HU"
    )
    shared = _item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=first.ImageOrientationPatient)],
        PixelValueTransformationSequence=[rescale],
    )
    ds.SharedFunctionalGroupsSequence = [shared]
    dimensions = _item(DimensionIndexPointer=0x00209057, FunctionalGroupPointer=0x00209111)
    ds.DimensionIndexSequence = [dimensions]
    ds.PerFrameFunctionalGroupsSequence = [
        _item(
            FrameContentSequence=[
                _item(DimensionIndexValues=[n + 1], InStackPositionNumber=n + 1, StackID="1")
            ],
            PlanePositionSequence=[_item(ImagePositionPatient=each.ImagePositionPatient)],
        )
        for n, each in enumerate(slices)
    ]
    ds.PixelData = b"".join(each.PixelData for each in slices)
    ds["PixelData"].VR = "OW"
    ds.save_as(target, enforce_file_format=True)


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
