"""Phantom series as DICOM files: CT Image Storage through pydicom, Segmentation through highdicom.

Only writing, and only what a scanner would write: the attributes that PS3.3 requires of these objects
(types 1 and 2), opaque file names without suffix, and on request the faults that archives really hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from radiobject_assets.phantom.anatomy import Ellipsoid

MANUFACTURER = "Radiobject Phantoms"


@dataclass(frozen=True)
class AcquisitionGrid:
    """Where the voxels of a planar acquisition are, as the Image Plane module says it (LPS+, mm)."""

    shape: tuple[int, int, int]
    """Columns, rows, slices."""
    spacing_mm: tuple[float, float, float]
    """Between columns, between rows, between slices."""
    center_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    row_cosines: tuple[float, float, float] = (1.0, 0.0, 0.0)
    """Direction of increasing column index (first triplet of ImageOrientationPatient)."""
    column_cosines: tuple[float, float, float] = (0.0, 1.0, 0.0)

    def position(self, slice_index: int) -> NDArray[np.float64]:
        """ImagePositionPatient of a slice: the centre of its first voxel, LPS+ mm."""
        row, column = np.asarray(self.row_cosines), np.asarray(self.column_cosines)
        axes = np.stack([row, column, np.cross(row, column)], axis=1) * np.asarray(self.spacing_mm)
        middle = (np.asarray(self.shape) - 1) / 2
        position: NDArray[np.float64] = np.asarray(self.center_mm) + axes @ ([0, 0, slice_index] - middle)
        return position

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4, (column, row, slice) index to RAS+ mm; slices ascend along row x column cosines."""
        row, column = np.asarray(self.row_cosines), np.asarray(self.column_cosines)
        affine = np.eye(4)
        affine[:3, :3] = np.stack([row, column, np.cross(row, column)], axis=1) * np.asarray(self.spacing_mm)
        affine[:3, 3] = self.position(0)
        affine[:2] *= -1.0
        return affine


@dataclass(frozen=True)
class Person:
    """The patient and study attributes of one subject's headers; all invented."""

    patient_id: str
    patient_name: str
    birth_date: str
    sex: str
    age: str
    study_uid: str
    study_date: str
    study_time: str
    accession: str
    frame_of_reference_uid: str
    institution: str


@dataclass(frozen=True, eq=False)
class CtSeries:
    """A CT series to write: voxels, geometry, and how this scanner stores and numbers them."""

    series_uid: str
    number: int
    description: str
    grid: AcquisitionGrid
    stored: NDArray[np.int16] | NDArray[np.uint16]
    """Shape (columns, rows, slices), slices ascending along the normal."""
    intercept: int
    """HU = stored + intercept. int16 is written signed with 16 bits, uint16 unsigned with 12."""
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    implicit_vr: bool = False
    descending: bool = False
    """Instance 1 is the last slice along the normal."""
    interleaved: bool = False
    """Odd slices are numbered before even ones."""
    missing_slices: tuple[int, ...] = ()
    """Slices that never arrived."""
    resent_slices: tuple[int, ...] = ()
    """Slices of which a second, identical file is there."""
    cut_slices: tuple[int, ...] = ()
    """Slices whose file ends in the middle of the pixels, as after a broken transfer."""
    file_names: tuple[str, ...] = field(default=())
    """As many as there are files; in no order."""

    def sop_uid(self, slice_index: int) -> str:
        """SOPInstanceUID of a slice."""
        return str(generate_uid(entropy_srcs=[self.series_uid, "slice", str(slice_index)]))

    @property
    def slices(self) -> tuple[int, ...]:
        """The slices that are there, in the order of their instance numbers."""
        order = list(range(self.stored.shape[2]))
        if self.descending:
            order.reverse()
        if self.interleaved:
            order = order[0::2] + order[1::2]
        return tuple(index for index in order if index not in self.missing_slices)

    @property
    def n_files(self) -> int:
        """Files that `write_ct` makes."""
        return self.grid.shape[2] - len(self.missing_slices) + len(self.resent_slices)


def ct_datasets(series: CtSeries, person: Person) -> list[Dataset]:
    """The instances of a series as datasets, in the order of their instance numbers."""
    shared = _ct_shared(series, person)
    datasets = []
    for number, index in enumerate(series.slices, start=1):
        dataset = Dataset()
        dataset.update(shared)
        dataset.SOPInstanceUID = series.sop_uid(index)
        dataset.InstanceNumber = number
        position = series.grid.position(index)
        dataset.ImagePositionPatient = _ds(position)
        normal = np.cross(series.grid.row_cosines, series.grid.column_cosines)
        dataset.SliceLocation = _ds([float(position @ normal)])[0]
        dataset.PixelData = (
            np.ascontiguousarray(series.stored[:, :, index].T).astype("<u2", copy=False).tobytes()
        )
        syntax = ImplicitVRLittleEndian if series.implicit_vr else ExplicitVRLittleEndian
        dataset["PixelData"].VR = "OW"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        datasets.append(dataset)
    return datasets


def write_ct(directory: Path, series: CtSeries, person: Person) -> list[Dataset]:
    """Write a series into `directory` (made if needed) and return its datasets by instance number.

    The files get the names in `file_names` of the series: as many as its `n_files`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    datasets = ct_datasets(series, person)
    names = iter(series.file_names)
    for index, dataset in zip(series.slices, datasets, strict=True):
        path = directory / next(names)
        dataset.save_as(path, enforce_file_format=True)
        if index in series.cut_slices:
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size - len(dataset.PixelData) // 2)
        if index in series.resent_slices:
            (directory / next(names)).write_bytes(path.read_bytes())
    return datasets


def seg_dataset(
    labels: NDArray[np.uint8],
    lesions: Sequence[Ellipsoid],
    source: CtSeries,
    source_datasets: Sequence[Dataset],
    person: Person,
    series_uid: str,
    number: int,
) -> Dataset:
    """A BINARY Segmentation (PS3.3 A.51) with one segment per lesion; frames without lesion are left out.

    `labels` is on the CT's grid, shape (columns, rows, slices), with the segment number in each voxel.
    """
    by_slice = labels[:, :, list(source.slices)].transpose(2, 1, 0)  # frames x rows x columns
    algorithm = hd.AlgorithmIdentificationSequence(
        name="phantom truth", version="1", family=codes.cid7162.ArtificialIntelligence
    )
    organs = {"liver": codes.SCT.Liver, "right lung": codes.SCT.Lung, "left lung": codes.SCT.Lung}
    segments = [
        hd.seg.SegmentDescription(
            segment_number=segment,
            segment_label=lesion.name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=Code("52988006", "SCT", "Lesion"),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            anatomic_regions=[organs[lesion.name.removesuffix(" lesion")]],
            tracking_uid=generate_uid(entropy_srcs=[series_uid, "lesion", str(segment)]),
            tracking_id=f"lesion {segment}",
        )
        for segment, lesion in enumerate(lesions, start=1)
    ]
    dataset = hd.seg.Segmentation(
        source_images=source_datasets,
        pixel_array=by_slice,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=series_uid,
        series_number=number,
        sop_instance_uid=generate_uid(entropy_srcs=[series_uid, "instance"]),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="Ellipsoid",
        software_versions="1",
        device_serial_number="1",
        content_label="LESIONS",
        series_description="Lesions",
        omit_empty_frames=True,
    )
    # highdicom stamps the clock and random UIDs; a cohort of the same seed has the same bytes.
    for moment in ("Content", "Series", "InstanceCreation"):
        setattr(dataset, f"{moment}Date", person.study_date)
        setattr(dataset, f"{moment}Time", person.study_time)
    for equipment in dataset.ContributingEquipmentSequence:
        if "ContributionDateTime" in equipment:
            equipment["ContributionDateTime"].value = person.study_date + person.study_time
    organization = generate_uid(entropy_srcs=[series_uid, "dimensions"])
    for item in [*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence]:
        item.DimensionOrganizationUID = organization
    return dataset


def _ct_shared(series: CtSeries, person: Person) -> Dataset:
    """What all instances of a series have in common."""
    signed = series.stored.dtype == np.int16
    columns, rows, _ = series.stored.shape
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = CTImageStorage
    dataset.ImageType = list(series.image_type)
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = person.study_date
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = person.study_time
    dataset.AccessionNumber = person.accession
    dataset.Modality = "CT"
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = "Ellipsoid"
    dataset.InstitutionName = person.institution
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "CT thorax and abdomen"
    dataset.SeriesDescription = series.description
    dataset.PatientName = person.patient_name
    dataset.PatientID = person.patient_id
    dataset.PatientBirthDate = person.birth_date
    dataset.PatientSex = person.sex
    dataset.PatientAge = person.age
    dataset.BodyPartExamined = "CHEST"
    dataset.KVP = "120"
    dataset.XRayTubeCurrent = 220
    dataset.ExposureTime = 500
    dataset.ConvolutionKernel = "B30f"
    dataset.PatientPosition = "HFS"
    dataset.SliceThickness = _ds([series.grid.spacing_mm[2]])[0]
    dataset.StudyInstanceUID = person.study_uid
    dataset.SeriesInstanceUID = series.series_uid
    dataset.StudyID = "1"
    dataset.SeriesNumber = series.number
    dataset.AcquisitionNumber = 1
    dataset.FrameOfReferenceUID = person.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.ImageOrientationPatient = _ds([*series.grid.row_cosines, *series.grid.column_cosines])
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = rows
    dataset.Columns = columns
    # PixelSpacing is (between rows, between columns): the second index first.
    dataset.PixelSpacing = _ds([series.grid.spacing_mm[1], series.grid.spacing_mm[0]])
    dataset.BitsAllocated = 16
    dataset.BitsStored = 16 if signed else 12
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(signed)
    dataset.WindowCenter = "40"
    dataset.WindowWidth = "400"
    dataset.RescaleIntercept = str(series.intercept)
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
    return dataset


def _ds(values: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """Decimal strings of at most 16 characters (PS3.5 6.2)."""
    return [format_number_as_ds(float(value) + 0.0) for value in values]
