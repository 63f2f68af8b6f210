"""Series far larger than the memory budget are ingested within it, watched from outside.

The bound is the budget plus what the interpreter and the imported libraries take before any data: that is
measured here for the same imports. The first time points are noise, which no codec makes smaller; the others
are holes in sparse files, read and written like any voxel.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from radiobject_assets.store import RadiObject
from radiobject_assets.system.memory import tree_resident_bytes

log = logging.getLogger(__name__)
MB = 1024 * 1024
SLICES = 32
ROWS = COLUMNS = 512
VOLUME_MB = SLICES * ROWS * COLUMNS * 2 // MB  # 16
MARKS = 3
NOISY = 4
NOISE = np.random.default_rng(1).integers(-999, 999, VOLUME_MB * MB // 2, dtype=np.int16).tobytes()


def _marked(times: int) -> dict[int, int]:
    """Time point to the value of one of its voxels; all others are zero."""
    return {t: 1000 + t for t in np.linspace(0, times - 1, MARKS).astype(int).tolist()}


def _nifti(folder: Path, times: int) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((COLUMNS, ROWS, SLICES, times))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with open(folder / "sub-01_bold.nii", "wb") as file:
        file.write(header.binaryblock + b"\0" * 4)
        file.truncate(352 + times * VOLUME_MB * MB)
        file.seek(352)
        file.write(NOISE * NOISY)
        for t, value in _marked(times).items():
            file.seek(352 + t * VOLUME_MB * MB)
            file.write(np.int16(value).tobytes())


def _common(ds: Dataset) -> None:
    ds.Modality, ds.PatientID, ds.SeriesInstanceUID, ds.StudyInstanceUID = "MR", "P1", "1.2.3.4", "1.2.3"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1


def _file(sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    _common(ds)
    return ds


def _write_sparse(
    ds: FileDataset, path: Path, pixel_bytes: int, noise: bytes, values: dict[int, int]
) -> None:
    ds.save_as(path, enforce_file_format=True)
    with open(path, "r+b") as file:
        file.seek(0, 2)
        file.write(b"\xe0\x7f\x10\x00OW\0\0" + pixel_bytes.to_bytes(4, "little"))
        start = file.tell()
        file.truncate(start + pixel_bytes)
        file.write(noise)
        for offset, value in values.items():
            file.seek(start + offset)
            file.write(np.int16(value).tobytes())


def _classic(folder: Path, times: int) -> None:
    marks = _marked(times)
    for t in range(times):
        for z in range(SLICES):
            ds = _file(MRImageStorage)
            ds.InstanceNumber = 1 + t * SLICES + z
            ds.TemporalPositionIdentifier = t + 1
            ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, z], [1, 0, 0, 0, 1, 0]
            ds.PixelSpacing = [1, 1]
            values = {0: marks[t]} if t in marks and z == 0 else {}
            size = ROWS * COLUMNS * 2
            noise = NOISE[z * size : (z + 1) * size] if t < NOISY else b""
            _write_sparse(ds, folder / f"{ds.InstanceNumber:06d}", size, noise, values)


def _enhanced(folder: Path, times: int) -> None:
    ds = _file(EnhancedMRImageStorage)
    ds.NumberOfFrames = times * SLICES
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1, 1], 1
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for t in range(times):
        for z in range(SLICES):
            content, position, frame = Dataset(), Dataset(), Dataset()
            content.TemporalPositionIndex, content.DimensionIndexValues = t + 1, [z + 1, t + 1]
            position.ImagePositionPatient = [0, 0, z]
            frame.FrameContentSequence, frame.PlanePositionSequence = [content], [position]
            frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    values = {t * VOLUME_MB * MB: value for t, value in _marked(times).items()}
    _write_sparse(ds, folder / "enhanced.dcm", times * VOLUME_MB * MB, NOISE * NOISY, values)


def _run(arguments: list[str]) -> tuple[str, float]:
    """Standard output of a Python process, and the highest memory of its process tree in MiB."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            try:
                peak[0] = max(peak[0], sum(tree_resident_bytes(process.pid).values()) / MB)
            except psutil.Error:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    done.set()
    watcher.join()
    return out, peak[0]


def _baseline_mb() -> float:
    code = (
        "import psutil, pydicom, radiobject_assets.cli.app, radiobject_assets.ingest.work.volume_task\n"
        "print(psutil.Process().memory_info().rss)"
    )
    return int(_run(["-c", code])[0]) / MB


def _ingest_within(tmp_path: Path, write: Callable[[Path, int], None], times: int, budget_mb: int) -> None:
    landing, store = tmp_path / "landing", tmp_path / "store"
    landing.mkdir()
    write(landing, times)
    command = ["-m", "radiobject_assets.cli", "ingest", str(landing), "--store", str(store), "--json"]
    command += ["--memory-mb", str(budget_mb), "--workers", "2"]
    limit_mb = budget_mb + _baseline_mb()
    for status in ("written", "unchanged"):
        out, peak_mb = _run(command)
        (series,) = json.loads(out)["series"]
        assert (series["verdict"], series["status"]) == ("ingestable", status), series
        assert series["shape"] == [COLUMNS, ROWS, SLICES, times]
        log.info("%s, %s: %.0f of %.0f MB", write.__name__, status, peak_mb, limit_mb)
        assert peak_mb < limit_mb, f"{status}: {peak_mb:.0f} MB, the bound is {limit_mb:.0f} MB"
    radi = RadiObject(str(store))
    collection = radi.collection(radi.collection_names[0])
    volume: Any = collection[str(series["obs_id"])]
    for t, value in _marked(times).items():
        assert value in np.unique(volume[:2, :2, :1, t : t + 1])


@pytest.mark.parametrize("write", [_nifti, _classic, _enhanced])
def test_a_series_of_five_times_the_budget_is_ingested_within_it(
    tmp_path: Path, write: Callable[[Path, int], None]
) -> None:
    _ingest_within(tmp_path, write, times=40, budget_mb=128)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("write", "times"), [(_nifti, 256), (_classic, 256), (_enhanced, 255)])
def test_four_gigabytes_are_ingested_under_a_budget_of_half_a_gigabyte(
    tmp_path: Path, write: Callable[[Path, int], None], times: int
) -> None:
    _ingest_within(tmp_path, write, times, budget_mb=512)
