"""Every transfer syntax gives the voxels that went in; what is damaged or lies about its size is a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dcm2niix_reference import read_all
from dicom_files import ramp, write_stack
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    NuclearMedicineImageStorage,
    RLELossless,
)

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.codestream import FrameSize, declared_size
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scan import scan
from radiobject_assets.imaging.series import Series, build_series, open_series


def _one(folder: Path) -> Series:
    (series,) = build_series(scan([folder]))
    return series


def _compress(paths: list[Path], syntax: object) -> None:
    for path in paths:
        ds = dcmread(path)
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(path)


def _noise(dtype: str) -> NDArray[np.int16]:
    info = np.iinfo(dtype)
    return np.random.default_rng(2).integers(info.min, info.max, (4, 40, 36), dtype=dtype)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_voxels_are_those_that_went_in(tmp_path: Path, dtype: str, syntax: object) -> None:
    volume = _noise(dtype)
    _compress(write_stack(tmp_path, volume), syntax)
    series = _one(tmp_path)
    assert series.native_codec
    assert np.array_equal(read_all(open_series(series))[..., 0], volume.transpose(2, 1, 0))


def test_deflated_data_sets_are_read(tmp_path: Path) -> None:
    volume = _noise("i2")
    write_stack(tmp_path, volume, syntax=DeflatedExplicitVRLittleEndian)
    assert np.array_equal(read_all(open_series(_one(tmp_path)))[..., 0], volume.transpose(2, 1, 0))


def test_a_frame_in_many_fragments_is_put_together(tmp_path: Path) -> None:
    volume = _noise("u2")
    paths = write_stack(tmp_path, volume)
    _compress(paths, JPEG2000Lossless)
    for path in paths:
        ds = dcmread(path)
        from pydicom.encaps import generate_frames

        (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
        ds.PixelData = encapsulate([frame], fragments_per_frame=5)
        ds.save_as(path)
    assert np.array_equal(read_all(open_series(_one(tmp_path)))[..., 0], volume.transpose(2, 1, 0))


def test_a_codestream_of_another_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, _noise("u2"))
    _compress(paths, JPEG2000Lossless)
    for path in paths:
        raw = bytearray(path.read_bytes())
        at = raw.find(b"\xff\x4f\xff\x51")
        raw[at + 8 : at + 16] = (60000).to_bytes(4, "big") * 2
        path.write_bytes(raw)
    with pytest.raises(ImageReadError, match="60000x60000") as caught:
        read_all(open_series(_one(tmp_path)))
    assert caught.value.code == Reason.SIZE_MISMATCH


def test_damaged_compressed_data_is_a_reason(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, _noise("u2"))
    _compress(paths, RLELossless)
    raw = paths[2].read_bytes()
    at = raw.find(b"\xfe\xff\x00\xe0", raw.find(b"\xe0\x7f\x10\x00") + 20)
    paths[2].write_bytes(raw[: at + 8] + b"\xff" * (len(raw) - at - 16) + raw[-8:])
    with pytest.raises(ImageReadError) as caught:
        read_all(open_series(_one(tmp_path)))
    assert caught.value.code == Reason.DECODER_FAILED


def test_a_small_file_may_not_claim_gigabytes(tmp_path: Path) -> None:
    paths = write_stack(tmp_path, _noise("u2"))
    _compress(paths, RLELossless)
    for path in paths:
        ds = dcmread(path)
        ds.Rows = ds.Columns = 60000
        ds.save_as(path)
    assert _one(tmp_path).reason is Reason.SIZE_MISMATCH


def test_codestreams_tell_their_size(shared_data: Path) -> None:
    for folder in ("mr_comp_j2k", "mr_comp_jpegll", "mr_comp_jpegls"):
        path = next((shared_data / "series" / folder).iterdir())
        data = path.read_bytes()
        start = max(data.rfind(b"\xff\x4f\xff\x51"), data.rfind(b"\xff\xd8\xff"))
        assert declared_size(data[start:]) == FrameSize(256, 256, 1), folder
    assert declared_size(b"") is None
    assert declared_size(b"\xff\xd8\xff") is None


def test_a_reconstructed_nuclear_medicine_volume_is_placed_by_its_detector(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    volume = ramp(5, 6, 7, "u2")
    (path,) = write_stack(tmp_path, volume[:1])
    ds = dcmread(path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = NuclearMedicineImageStorage
    ds.Modality, ds.ImageType = "NM", ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = [10, 20, 30], [1, 0, 0, 0, 1, 0]
    ds.DetectorInformationSequence = [detector]
    del ds.ImagePositionPatient, ds.ImageOrientationPatient
    ds.SpacingBetweenSlices, ds.NumberOfFrames = "-4", 5
    ds.PixelData = volume.tobytes()
    ds.save_as(path)
    series = _one(tmp_path)
    assert series.shape == (7, 6, 5), series.detail
    assert series.affine is not None
    assert np.allclose(series.affine[:3, 3], (-10, -20, 30 - 16))
    assert np.array_equal(read_all(open_series(series))[..., 0], volume[::-1].transpose(2, 1, 0))


def test_frames_without_places_are_quarantined(tmp_path: Path) -> None:
    (path,) = write_stack(tmp_path, ramp(1))
    ds = dcmread(path)
    ds.NumberOfFrames = 3
    ds.PixelData = ds.PixelData * 3
    ds.save_as(path)
    assert _one(tmp_path).reason is Reason.NO_GEOMETRY
