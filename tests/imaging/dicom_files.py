"""Writes DICOM files for tests: honest ones by default, and whatever a test changes about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
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
