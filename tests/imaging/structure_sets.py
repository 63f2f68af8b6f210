"""Writes RTSTRUCT files for tests: honest ones by default, and whatever a test changes about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

Rings = Mapping[str, Sequence[NDArray[np.float64]]]


def write_rtstruct(
    folder: Path, contours: Rings, change: Callable[[FileDataset], None] | None = None
) -> Path:
    """A structure set on the images of a folder: regions by name, each with rings (n, 3) in LPS mm."""
    images = [dcmread(path) for path in sorted(folder.iterdir()) if path.is_file()]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.PatientID = "RTSTRUCT", "P1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = images[0].StudyInstanceUID, generate_uid()
    ds.ReferencedFrameOfReferenceSequence = [frame_of_reference(images)]
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, (name, rings) in enumerate(contours.items(), start=1):
        roi, region = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        region.ReferencedROINumber = number
        region.ContourSequence = [_contour(ring) for ring in rings]
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(region)
    if change is not None:
        change(ds)
    path = folder / "structures"
    ds.save_as(path, enforce_file_format=True)
    return path


def frame_of_reference(images: Sequence[Dataset], uid: str = "") -> Dataset:
    """The item that says which images a structure set is drawn on."""
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    series.ContourImageSequence = []
    for image in images:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        series.ContourImageSequence.append(item)
    study.RTReferencedSeriesSequence = [series]
    frame.RTReferencedStudySequence = [study]
    if uid:
        frame.FrameOfReferenceUID = uid
    return frame


def _contour(ring: NDArray[np.float64]) -> Dataset:
    contour = Dataset()
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(ring)
    contour.ContourData = [round(float(v), 6) for v in ring.ravel()]
    return contour
