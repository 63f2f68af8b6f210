"""One small series of each rare form that is read, for tests that damage files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from dicom_files import ramp, write_stack
from nibabel.nifti1 import Nifti1Extension
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless, RLELossless
from structure_sets import write_rtstruct

_AXES = np.array([[0, 0, 3, 1.5], [-2, 0, 0, 2], [0, 1.25, 0, 3], [0, 0, 0, 1]])


def write_rare_forms(folder: Path) -> list[tuple[Path, ...]]:
    """The files of each form, in folders of their own below `folder`."""
    for name, write in _DICOM.items():
        write(folder / name)
    _write_nifti(folder)
    return [
        tuple(sorted(path for path in form.iterdir() if path.is_file()))[:4]
        for form in sorted(folder.iterdir())
    ]


def _modality_lut(folder: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [256, 0, 16], "HU"
        table.add_new(0x00283006, "US", [int(v) for v in np.arange(256) ** 2 // 2])
        ds.ModalityLUTSequence = [table]

    write_stack(folder, ramp(dtype="u2"), change=change)


def _palette(folder: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds.PhotometricInterpretation = "PALETTE COLOR"
        for number, name in enumerate(("Red", "Green", "Blue")):
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
            entries = np.roll(np.arange(256), number).astype("u1").tobytes()
            setattr(ds, f"{name}PaletteColorLookupTableData", entries)

    write_stack(folder, ramp(dtype="u1"), change=change)


def _subsampled(folder: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_FULL_422", 0
        ds.PixelData = bytes(range(60))

    write_stack(folder, ramp(dtype="u1"), change=change)


def _packed(folder: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds.BitsAllocated = ds.BitsStored = 12
        ds.HighBit = 11
        ds.PixelData = bytes(range(46))

    write_stack(folder, ramp(dtype="u2"), change=change)


def _swapped(folder: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds["PixelData"].VR = "OW"

    write_stack(folder, ramp(dtype="u1"), change=change, syntax=ExplicitVRBigEndian)


def _fragments(folder: Path) -> None:
    for path in write_stack(folder, ramp(4, 40, 40, "u2")):
        ds = dcmread(path)
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
        ds.PixelData = encapsulate([frame], fragments_per_frame=3, has_bot=False)
        ds.save_as(path)


def _palette_in_rle(folder: Path) -> None:
    _palette(folder)
    for path in folder.iterdir():
        ds = dcmread(path)
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.save_as(path)


def _coarse_contours(folder: Path) -> None:
    write_stack(folder, ramp(3, 12, 10), step=(0, 0, 1))
    square = np.array([(2, 2), (8, 2), (8, 8), (2, 8)], float)
    rings = [np.column_stack([square, np.full(4, z)]) for z in (0.0, 2.0)]
    write_rtstruct(folder, {"A": rings, "B": rings}).rename(folder / "A_structures")


def _tracer(folder: Path) -> None:
    def change(ds: FileDataset, k: int) -> None:
        ds.Modality, ds.Units, ds.DecayCorrection, ds.CorrectedImage = "PT", "BQML", "START", ["DECY", "ATTN"]
        ds.SeriesTime = ds.AcquisitionTime = "101500"
        item = Dataset()
        item.RadiopharmaceuticalStartTime, item.RadionuclideTotalDose = "091500", "350000000"
        item.RadionuclideHalfLife = "6586.2"
        ds.RadiopharmaceuticalInformationSequence, ds.PatientWeight = [item], "70"
        ds.RescaleSlope = str(k + 1)

    write_stack(folder, ramp(dtype="u2"), change=change)


_DICOM: dict[str, Callable[[Path], None]] = {
    "modality_lut": _modality_lut,
    "palette": _palette,
    "palette_rle": _palette_in_rle,
    "subsampled": _subsampled,
    "packed": _packed,
    "swapped": _swapped,
    "fragments": _fragments,
    "contours": _coarse_contours,
    "tracer": _tracer,
}


def _write_nifti(folder: Path) -> None:
    voxels: dict[str, Any] = {
        "extended": np.arange(60, dtype=np.int16).reshape(3, 4, 5),
        "complex": np.arange(60, dtype=np.complex64).reshape(3, 4, 5),
        "fifth": np.arange(180, dtype=np.float32).reshape(3, 4, 5, 1, 3),
    }
    for name, values in voxels.items():
        (folder / name).mkdir()
        image: Any = nib.Nifti1Image(values, _AXES)
        image.header.extensions.append(Nifti1Extension("comment", bytes(range(1, 200))))
        nib.save(image, folder / name / "image.nii.gz")
    (folder / "second_version").mkdir()
    nib.save(nib.Nifti2Image(voxels["extended"], _AXES), folder / "second_version" / "image.nii")
