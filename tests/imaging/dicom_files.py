"""Writes DICOM files for tests: honest ones by default, and whatever a test changes about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

Change = Callable[[FileDataset, int], None]


def slice_dataset(
    pixels: NDArray[Any],
    *,
    position: Sequence[float],
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    pixel_spacing: Sequence[float] = (1, 1),
    series_uid: str = "1.2.826.0.1.3680043.10.1.1",
    number: int = 1,
    syntax: UID = ExplicitVRLittleEndian,
    sop_class: UID = CTImageStorage,
) -> FileDataset:
    """A classic instance of one slice; `pixels` is (rows, columns) of an 8, 16 or 32 bit integer type."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    ds = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
    )
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientID = "P1"
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.10.1"
    ds.SeriesInstanceUID = series_uid
    ds.InstanceNumber = number
    ds.ImagePositionPatient = [round(float(v), 9) for v in position]
    ds.ImageOrientationPatient = [round(float(v), 9) for v in orientation]
    ds.PixelSpacing = [round(float(v), 9) for v in pixel_spacing]
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = pixels.dtype.itemsize * 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.RescaleSlope, ds.RescaleIntercept = "1", "0"
    order = "<" if syntax.is_little_endian else ">"
    ds.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    ds["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"
    return ds


def write_stack(
    folder: Path,
    volume: NDArray[Any],
    *,
    origin: Sequence[float] = (0, 0, 0),
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    pixel_spacing: Sequence[float] = (1, 1),
    step: Sequence[float] = (0, 0, 2),
    change: Change | None = None,
    order: Sequence[int] | None = None,
    prefix: str = "I",
    **options: Any,
) -> list[Path]:
    """Write slices of a volume (slice, row, column); `order` is that of file names and instance numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, k in enumerate(order if order is not None else range(len(volume))):
        ds = slice_dataset(
            volume[k],
            position=np.asarray(origin, float) + k * np.asarray(step, float),
            orientation=orientation,
            pixel_spacing=pixel_spacing,
            number=number + 1,
            **options,
        )
        if change is not None:
            change(ds, k)
        path = folder / f"{prefix}{number:04d}"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def ramp(n_slices: int = 4, rows: int = 5, columns: int = 6, dtype: str = "i2") -> NDArray[Any]:
    """A volume (slice, row, column) without two equal voxels."""
    return np.arange(n_slices * rows * columns).reshape(n_slices, rows, columns).astype(dtype)


@dataclass(frozen=True)
class FrameSpec:
    """One frame of an enhanced object: its pixels, where it is, and the macros of its functional groups.

    dimensions
        DimensionIndexValues: stack, place in the stack (InStackPositionNumber), and others.
    echo_time_ms, component, frame_type, b_value, gradient, slope, intercept
        Of the MR echo, MR image frame type, MR diffusion and pixel value transformation macros.
    """

    pixels: NDArray[Any]
    position: Sequence[float]
    dimensions: tuple[int, ...] = ()
    temporal_index: int | None = None
    echo_time_ms: float = 30.0
    component: str = "MAGNITUDE"
    frame_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "NONE")
    b_value: float | None = None
    gradient: Sequence[float] | None = None
    slope: float = 1.0
    intercept: float = 0.0


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def enhanced_dataset(
    frames: Sequence[FrameSpec],
    *,
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    pixel_spacing: Sequence[float] = (1, 1),
    number: int = 1,
    manufacturer: str = "Philips Medical Systems",
    series_uid: str = "1.2.826.0.1.3680043.10.1.2",
) -> FileDataset:
    """An enhanced MR instance (PS3.3 A.36): frames in the given order, 16 bit."""
    ds = slice_dataset(
        frames[0].pixels, position=(0, 0, 0), series_uid=series_uid, number=number,
        sop_class=UID("1.2.840.10008.5.1.4.1.1.4.1"),
    )  # fmt: skip
    for name in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
    ):  # fmt: skip
        delattr(ds, name)
    ds.Modality, ds.Manufacturer, ds.NumberOfFrames = "MR", manufacturer, len(frames)
    ds.ImageType, ds.SeriesNumber = ["ORIGINAL", "PRIMARY", "M", "NONE"], 4
    shared = _item(
        PixelMeasuresSequence=[
            _item(PixelSpacing=list(pixel_spacing), SliceThickness="2", SpacingBetweenSlices="2")
        ],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=[round(float(v), 9) for v in orientation])],
        MRTimingAndRelatedParametersSequence=[_item(RepetitionTime=2000.0, FlipAngle=30.0)],
    )
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [_functional_groups(frame) for frame in frames]
    ds.PixelData = np.stack([frame.pixels for frame in frames]).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def _functional_groups(frame: FrameSpec) -> Dataset:
    content = _item(StackID="1")
    if frame.dimensions:
        content.DimensionIndexValues = list(frame.dimensions)
        content.InStackPositionNumber = frame.dimensions[1]
    if frame.temporal_index is not None:
        content.TemporalPositionIndex = frame.temporal_index
    groups = _item(
        FrameContentSequence=[content],
        PlanePositionSequence=[_item(ImagePositionPatient=[round(float(v), 9) for v in frame.position])],
        MREchoSequence=[_item(EffectiveEchoTime=frame.echo_time_ms)],
        MRImageFrameTypeSequence=[
            _item(FrameType=list(frame.frame_type), ComplexImageComponent=frame.component)
        ],
        PixelValueTransformationSequence=[
            _item(RescaleSlope=str(frame.slope), RescaleIntercept=str(frame.intercept), RescaleType="US")
        ],
    )
    if frame.b_value is not None:
        diffusion = _item(DiffusionBValue=frame.b_value, DiffusionDirectionality="NONE")
        if frame.gradient is not None:
            diffusion.DiffusionDirectionality = "DIRECTIONAL"
            diffusion.DiffusionGradientDirectionSequence = [
                _item(DiffusionGradientOrientation=[float(v) for v in frame.gradient])
            ]
        groups.MRDiffusionSequence = [diffusion]
    return groups
