"""Files that claim or unpack to far more than they are: refused at once, or read in bounded memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.ingest.plan import plan_ingest
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.system.resource_monitor import ResourceMonitor

FILE_BYTES = 100_000
NOISE = np.random.default_rng(3).integers(0, 256, FILE_BYTES, dtype=np.uint8).tobytes()
SIDE = 40_000  # 40,000 x 40,000 pixels of 16 bits: 3.2 GB


def _dicom(
    path: Path, syntax: UID, pixels: bytes, rows: int = SIDE, columns: int = SIDE, number: int = 1
) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = syntax
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "CT", "P1", "1.2.3", "1.2.3.4"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.InstanceNumber = 15, 0, number
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [1, 1]
    ds.PixelData = encapsulate([pixels]) if syntax.is_encapsulated else pixels
    ds["PixelData"].VR = "OB" if syntax.is_encapsulated else "OW"
    ds.save_as(path, enforce_file_format=True)


def _stack(folder: Path, syntax: UID) -> None:
    for number in (1, 2):
        _dicom(folder / f"{number}.dcm", syntax, NOISE, number=number)


def _nifti_header(shape: tuple[int, ...]) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return bytes(header.binaryblock) + b"\0" * 4


def _nifti(folder: Path) -> None:
    (folder / "sub-1_x.nii").write_bytes(_nifti_header((2000, 2000, 400)) + NOISE)


def _nifti_gz(folder: Path) -> None:
    (folder / "sub-1_x.nii.gz").write_bytes(gzip.compress(_nifti_header((2000, 2000, 400)) + NOISE))


def _nifti_pair(folder: Path) -> None:
    header = bytearray(_nifti_header((2000, 2000, 400)))
    header[344:348], header[108:112] = b"ni1\0", b"\0" * 4
    (folder / "sub-1_x.hdr").write_bytes(header)
    (folder / "sub-1_x.img").write_bytes(NOISE)


CLAIMS: dict[str, Callable[[Path], None]] = {
    "explicit": lambda folder: _stack(folder, ExplicitVRLittleEndian),
    "deflated": lambda folder: _stack(folder, DeflatedExplicitVRLittleEndian),
    "rle": lambda folder: _stack(folder, RLELossless),
    "jpeg2000": lambda folder: _stack(folder, JPEG2000Lossless),
    "nii": _nifti,
    "nii.gz": _nifti_gz,
    "hdr": _nifti_pair,
}


@pytest.mark.parametrize("what", CLAIMS)
def test_three_gigabytes_claimed_by_a_small_file_are_refused_before_memory_is_taken(
    tmp_path: Path, what: str
) -> None:
    CLAIMS[what](tmp_path)
    plan_ingest(scan([tmp_path]), DatasetSettings())  # what is imported or kept for good is there now
    with ResourceMonitor(look_s=0.002) as peak:
        (planned,) = plan_ingest(scan([tmp_path]), DatasetSettings()).planned
    assert planned.series.verdict == "quarantined"
    assert planned.series.reason in (Reason.TRUNCATED, Reason.SIZE_MISMATCH)
    assert peak.grown_mb < 32


def _ingest(folder: Path, tmp_path: Path) -> Any:
    with ResourceMonitor(look_s=0.01) as peak:
        report = ingest_sources(
            [folder],
            str(tmp_path / "store"),
            DatasetSettings(),
            budget=MemoryBudget(128),
            compute=Compute(workers=1),
        )
    assert peak.grown_mb < 128 + 400, "the budget, and a worker's interpreter"
    return report


def test_gzip_data_that_goes_on_far_beyond_its_voxels_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    with open(folder / "sub-1_x.nii.gz", "wb") as file:
        file.write(packer.compress(_nifti_header((64, 64, 64)) + bytes(64**3 * 2)))
        for _ in range(1024):
            file.write(packer.compress(bytes(1 << 20)))
        file.write(packer.flush())
    (outcome,) = _ingest(folder, tmp_path).outcomes
    assert (outcome.verdict, outcome.reason) == ("quarantined", str(Reason.NIFTI_INVALID))


def test_a_volume_of_zeros_that_is_honest_about_its_size_is_read_in_bounded_memory(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    with open(folder / "sub-1_x.nii.gz", "wb") as file:
        file.write(packer.compress(_nifti_header((512, 512, 64, 32))))
        for _ in range(1024):
            file.write(packer.compress(bytes(1 << 20)))
        file.write(packer.flush())
    assert (folder / "sub-1_x.nii.gz").stat().st_size < 2 << 20
    (outcome,) = _ingest(folder, tmp_path).outcomes
    assert outcome.status == "written"


def test_a_deflated_data_set_that_inflates_without_end_is_cut_at_what_it_declares(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2):
        path = folder / f"{number}.dcm"
        _dicom(path, DeflatedExplicitVRLittleEndian, bytes(64 * 64 * 2), 64, 64, number)
        raw = path.read_bytes()
        # the meta header begins at 132 with its own length, which counts from 144
        start = 144 + int.from_bytes(raw[140:144], "little")
        inflated = zlib.decompress(raw[start:], -zlib.MAX_WBITS)
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        parts = [packer.compress(inflated)]
        parts += [packer.compress(bytes(1 << 20)) for _ in range(512)]
        path.write_bytes(raw[:start] + b"".join(parts) + packer.flush())
    (outcome,) = _ingest(folder, tmp_path).outcomes
    assert outcome.status == "written"


def test_the_command_reports_a_bomb_and_takes_in_what_lies_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    _nifti_gz(folder)
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.int16), np.eye(4)), folder / "sub-2_x.nii.gz")
    command = [sys.executable, "-m", "radiobject_assets.cli", "ingest", str(folder), "--json"]
    run = subprocess.run(
        [*command, "--store", str(tmp_path / "store")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert {s["verdict"]: s["reason"] for s in json.loads(run.stdout)["series"]} == {
        "quarantined": "truncated",
        "ingestable": None,
    }
