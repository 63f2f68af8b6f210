"""Every transfer syntax gives the voxels that went in; what is damaged or lies about its size is a reason."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dcm2niix_reference import convert, read_all
from dicom_files import FrameSpec, enhanced_dataset, ramp, write_stack
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    NuclearMedicineImageStorage,
    RLELossless,
)

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.pixels.codestream import FrameSize, declared_size
from radiobject_assets.imaging.policy import SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series


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


def _encapsulated(
    paths: list[Path], syntax: UID, encode: Callable[[NDArray[Any]], bytes], **header: Any
) -> None:
    for path in paths:
        ds = dcmread(path)
        pixels = ds.pixel_array
        ds.file_meta.TransferSyntaxUID = syntax
        for name, value in header.items():
            setattr(ds, name, value)
        ds.PixelData = encapsulate([encode(pixels)])
        ds["PixelData"].VR = "OB"
        ds.save_as(path)


def _smooth(dtype: str, top: int) -> NDArray[Any]:
    z, y, x = np.mgrid[:4, :40, :36]
    return ((x * 5 + y * 3 + z * 7) % top).astype(dtype)


def _pillow_jpeg(pixels: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
def test_jpeg_of_8_bits_is_what_another_decoder_gives(tmp_path: Path, syntax: UID) -> None:
    volume = _smooth("u1", 250)
    _encapsulated(write_stack(tmp_path, volume), syntax, _pillow_jpeg)
    theirs = np.stack([np.asarray(Image.open(io.BytesIO(_pillow_jpeg(p)))) for p in volume])
    assert np.array_equal(read_all(open_series(_one(tmp_path)))[..., 0], theirs.transpose(2, 1, 0))


def test_jpeg_of_12_bits_is_what_another_decoder_gives(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    codecs = pytest.importorskip("imagecodecs", reason="no encoder of 12-bit JPEG")
    volume = _smooth("u2", 4000)

    def encode(pixels: NDArray[Any]) -> bytes:
        return bytes(codecs.jpeg8_encode(pixels, level=95, bitspersample=12))

    _encapsulated(write_stack(tmp_path, volume), JPEGExtended12Bit, encode, BitsStored=12, HighBit=11)
    theirs = np.stack([codecs.jpeg8_decode(encode(pixels)) for pixels in volume])
    assert np.array_equal(read_all(open_series(_one(tmp_path)))[..., 0], theirs.transpose(2, 1, 0))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_high_throughput_jpeg_2000_gives_the_voxels_that_went_in(tmp_path: Path, dtype: str) -> None:
    codecs = pytest.importorskip("imagecodecs", reason="no encoder of HTJ2K")
    volume = _noise(dtype)
    _encapsulated(write_stack(tmp_path, volume), HTJ2KLossless, lambda p: bytes(codecs.htj2k_encode(p)))
    assert np.array_equal(read_all(open_series(_one(tmp_path)))[..., 0], volume.transpose(2, 1, 0))


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEGLosslessSV1])
def test_lossless_jpeg_gives_the_voxels_that_went_in(tmp_path: Path, dtype: str, syntax: UID) -> None:
    codecs = pytest.importorskip("imagecodecs", reason="no encoder of lossless JPEG")
    volume = _noise(dtype)

    def encode(pixels: NDArray[Any]) -> bytes:
        if syntax == JPEGLSLossless:
            return bytes(codecs.jpegls_encode(pixels))
        return bytes(codecs.ljpeg_encode(pixels, bitspersample=pixels.dtype.itemsize * 8))

    _encapsulated(write_stack(tmp_path, volume), syntax, encode)
    assert np.array_equal(read_all(open_series(_one(tmp_path)))[..., 0], volume.transpose(2, 1, 0))


def test_colours_in_rle_are_kept_where_the_policy_keeps_them(tmp_path: Path) -> None:
    colours = np.random.default_rng(4).integers(0, 255, (4, 5, 6, 3), dtype=np.uint8)

    def change(ds: FileDataset, k: int) -> None:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.PixelData = colours[k].tobytes()

    _compress(write_stack(tmp_path, ramp(4, 5, 6, "u1"), change=change), RLELossless)
    (series,) = build_series(scan([tmp_path]), policy=SeriesPolicy(components="keep"))
    assert np.array_equal(read_all(open_series(series)), colours.transpose(2, 1, 0, 3))


def test_a_time_series_of_colours_is_a_volume_for_each_time(tmp_path: Path) -> None:
    folder = tmp_path / "colours"
    colours = np.random.default_rng(4).integers(0, 255, (2, 4, 5, 6, 3), dtype=np.uint8)
    for time in range(2):

        def change(ds: FileDataset, k: int, time: int = time) -> None:
            ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
            ds.InstanceNumber, ds.PixelData = 4 * time + k + 1, colours[time, k].tobytes()
            ds.Modality, ds.Manufacturer = "MR", "SIEMENS"

        write_stack(folder, ramp(4, 5, 6, "u1"), change=change, prefix=f"{time}", sop_class=MRImageStorage)
    assert {s.reason for s in build_series(scan([folder]))} == {Reason.COLOUR}
    found = build_series(scan([folder]), policy=SeriesPolicy(components="keep"))
    assert [(s.component, s.shape, s.n_instances) for s in found] == [
        ("t1", (6, 5, 4, 3), 4),
        ("t2", (6, 5, 4, 3), 4),
    ]
    (reference,) = convert(folder)
    theirs = np.asarray(nib.load(reference).dataobj)[:, ::-1]  # dcm2niix flips rows
    for time, series in enumerate(found):
        voxels = read_all(open_series(series))
        assert np.array_equal(voxels, colours[time].transpose(2, 1, 0, 3))
        assert np.array_equal(voxels[..., 0], theirs[..., time]["R"])


def test_a_kept_time_series_of_colours_in_one_file_counts_the_file_once(tmp_path: Path) -> None:
    colours = np.random.default_rng(4).integers(0, 255, (6, 5, 6, 3), dtype=np.uint8)
    frames = [
        FrameSpec(np.zeros((5, 6), "u1"), (0, 0, k), (1, k + 1, t + 1), t + 1)
        for t in range(2)
        for k in range(3)
    ]
    ds = enhanced_dataset(frames)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelData = 8, 8, 7, colours.tobytes()
    ds.save_as(tmp_path / "one")
    found = build_series(scan([tmp_path]), policy=SeriesPolicy(components="keep"))
    assert [(s.component, s.n_instances) for s in found] == [("t1", 1), ("t2", 0)]
    second = read_all(open_series(found[1]))
    assert np.array_equal(second, colours[3:].transpose(2, 1, 0, 3))


def test_damaged_rle_never_reaches_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(3)
    volume = np.repeat(_noise("u2")[:, :, :6], 6, axis=2)
    _compress(write_stack(tmp_path, volume), RLELossless)
    for path in sorted(tmp_path.iterdir()):
        raw = bytearray(path.read_bytes())
        start = raw.find(b"\xe0\x7f\x10\x00") + 100
        for at in random.integers(start, len(raw) - 8, 40):
            raw[at] = random.integers(256)
        path.write_bytes(raw)
    with contextlib.suppress(ImageReadError):
        read_all(open_series(_one(tmp_path)))
    assert capfd.readouterr().err == ""
