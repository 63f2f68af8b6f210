"""Every compressed form that encoders write, and every way to divide it into fragments, gives its voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dcm2niix_reference import read_all
from dicom_files import write_stack
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    NuclearMedicineImageStorage,
)

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.policy import SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series

codecs = pytest.importorskip("imagecodecs", reason="no independent encoders")

Encode = Callable[[NDArray[Any]], bytes]
FRAMES, ROWS, COLUMNS = 4, 40, 37  # odd columns give codestreams of odd length now and then


def _volume(dtype: str, top: int) -> NDArray[Any]:
    z, y, x = np.mgrid[:FRAMES, :ROWS, :COLUMNS]
    noise = np.random.default_rng(8).integers(0, 9, z.shape)
    return ((x * 5 + y * 3 + z * 7) * top // 400 + noise).astype(dtype)


def _multiframe(folder: Path, pixel_data: bytes, syntax: UID, volume: NDArray[Any], **header: Any) -> None:
    """A reconstructed nuclear medicine volume: the simplest multi-frame object with a geometry."""
    (path,) = write_stack(folder, volume[:1])
    ds = dcmread(path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = NuclearMedicineImageStorage
    ds.Modality, ds.ImageType = "NM", ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.DetectorInformationSequence = [detector]
    ds.SpacingBetweenSlices, ds.NumberOfFrames = "2", len(volume)
    ds.file_meta.TransferSyntaxUID = syntax
    for name, value in header.items():
        setattr(ds, name, value)
    ds.PixelData = pixel_data
    ds["PixelData"].VR = "OB"
    ds.save_as(path)


def _read(folder: Path) -> NDArray[Any]:
    (series,) = build_series(scan([folder]), policy=SeriesPolicy(components="keep"))
    assert series.verdict == "ingestable", series.detail
    return read_all(open_series(series))


def _ours(volume: NDArray[Any]) -> NDArray[Any]:
    return volume.transpose(2, 1, 0)[..., None]


LOSSLESS: dict[str, tuple[UID, Encode]] = {
    "lossless JPEG, first predictor": (
        JPEGLosslessSV1,
        lambda p: codecs.jpeg8_encode(p, lossless=True, predictor=1, bitspersample=p.dtype.itemsize * 8),
    ),
    "lossless JPEG, sixth predictor": (
        JPEGLossless,
        lambda p: codecs.jpeg8_encode(p, lossless=True, predictor=6, bitspersample=p.dtype.itemsize * 8),
    ),
    "JPEG-LS": (JPEGLSLossless, codecs.jpegls_encode),
    "JPEG 2000": (JPEG2000Lossless, lambda p: codecs.jpeg2k_encode(p, codecformat="j2k", reversible=True)),
    "HTJ2K": (HTJ2K, codecs.htj2k_encode),
    "HTJ2K, RPCL": (HTJ2KLosslessRPCL, codecs.htj2k_encode),
}


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_frames_give_what_went_in(tmp_path: Path, form: str, dtype: str) -> None:
    syntax, encode = LOSSLESS[form]
    volume = _volume(dtype, 240 if dtype == "u1" else 60000)
    header = {"BitsAllocated": volume.itemsize * 8, "BitsStored": volume.itemsize * 8}
    data = encapsulate([bytes(encode(frame)) for frame in volume])
    _multiframe(tmp_path, data, syntax, volume, **header, HighBit=header["BitsStored"] - 1)
    assert np.array_equal(_read(tmp_path), _ours(volume))


LOSSY: dict[str, tuple[UID, Encode, Encode, str]] = {
    "near-lossless JPEG-LS": (
        JPEGLSNearLossless, lambda p: codecs.jpegls_encode(p, level=3), codecs.jpegls_decode, "u2"
    ),
    "JPEG 2000": (
        JPEG2000,
        lambda p: codecs.jpeg2k_encode(p, codecformat="j2k", reversible=False, level=40),
        codecs.jpeg2k_decode,
        "u2",
    ),
    "HTJ2K": (HTJ2K, lambda p: codecs.htj2k_encode(p, reversible=False), codecs.htj2k_decode, "u2"),
    "baseline JPEG": (
        JPEGBaseline8Bit, lambda p: codecs.jpeg8_encode(p, level=80), codecs.jpeg8_decode, "u1"
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", LOSSY)
def test_lossy_frames_give_what_another_decoder_gives(tmp_path: Path, form: str) -> None:
    syntax, encode, decode, dtype = LOSSY[form]
    volume = _volume(dtype, 240 if dtype == "u1" else 60000)
    frames = [bytes(encode(frame)) for frame in volume]
    _multiframe(tmp_path, encapsulate(frames), syntax, volume)
    theirs = np.stack([np.asarray(decode(frame)) for frame in frames])  # type: ignore[arg-type]  # bytes in
    assert not np.array_equal(theirs, volume)
    # the irreversible wavelet is computed in floating point: decoders round by themselves
    tolerance = 1 if form in ("JPEG 2000", "HTJ2K") else 0
    assert np.abs(_read(tmp_path).astype(int) - _ours(theirs).astype(int)).max() <= tolerance


def _item(value: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + len(value).to_bytes(4, "little") + value


def _in_fragments(frames: Sequence[bytes], table: str) -> bytes:
    """Every frame in three fragments (the last maybe of odd length, unpadded), and a table."""
    items, offsets = b"", []
    for frame in frames:
        offsets.append(len(items))
        third = len(frame) // 6 * 2
        items += _item(frame[:third]) + _item(frame[third : 2 * third]) + _item(frame[2 * third :])
    if table == "wrong":
        offsets = [offset + 2 for offset in offsets]
    packed = b"".join(offset.to_bytes(4, "little") for offset in offsets)
    return _item(b"" if table == "empty" else packed) + items


@pytest.mark.parametrize("table", ["right", "empty", "wrong"])
@pytest.mark.parametrize("form", ["JPEG-LS", "JPEG 2000", "lossless JPEG, first predictor"])
def test_several_fragments_to_a_frame_are_told_apart(tmp_path: Path, form: str, table: str) -> None:
    syntax, encode = LOSSLESS[form]
    volume = _volume("u2", 60000)
    frames = [bytes(encode(frame)) for frame in volume]
    frames[1] += b"\0" * (1 - len(frames[1]) % 2)  # one at least has an odd length
    _multiframe(tmp_path, _in_fragments(frames, table), syntax, volume)
    assert np.array_equal(_read(tmp_path), _ours(volume))


def test_an_extended_offset_table_is_no_hindrance(tmp_path: Path) -> None:
    volume = _volume("u2", 60000)
    frames = [bytes(codecs.jpegls_encode(frame)) for frame in volume]
    data, offsets, lengths = encapsulate_extended(frames)
    tables = {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}
    _multiframe(tmp_path, data, JPEGLSLossless, volume, **tables)
    assert np.array_equal(_read(tmp_path), _ours(volume))


def test_fragments_of_nothing_and_a_missing_end_are_no_hindrance(tmp_path: Path) -> None:
    volume = _volume("u2", 60000)
    frames = [bytes(codecs.jpegls_encode(frame)) for frame in volume]
    _multiframe(tmp_path, encapsulate(frames) + _item(b"") * 2, JPEGLSLossless, volume)
    (path,) = tmp_path.iterdir()
    raw = path.read_bytes()
    end = raw.rindex(b"\xfe\xff\xdd\xe0")
    path.write_bytes(raw[:end])
    assert np.array_equal(_read(tmp_path), _ours(volume))


def test_a_frame_too_few_is_a_reason(tmp_path: Path) -> None:
    volume = _volume("u2", 60000)
    frames = [bytes(codecs.jpegls_encode(frame)) for frame in volume[:-1]]
    _multiframe(tmp_path, encapsulate(frames), JPEGLSLossless, volume)
    with pytest.raises(ImageReadError) as caught:
        _read(tmp_path)
    assert caught.value.code == Reason.DECODER_FAILED


@pytest.mark.parametrize(
    ("photometric", "syntax", "encode"),
    [
        ("YBR_FULL_422", JPEGBaseline8Bit, lambda p: codecs.jpeg8_encode(p, level=95, subsampling="422")),
        ("YBR_FULL", JPEGBaseline8Bit, lambda p: codecs.jpeg8_encode(p, level=95, subsampling="444")),
        ("YBR_RCT", JPEG2000Lossless, lambda p: codecs.jpeg2k_encode(p, codecformat="j2k", reversible=True)),
        ("RGB", JPEGLSLossless, codecs.jpegls_encode),
    ],
)
def test_compressed_colours_are_what_another_decoder_gives(
    tmp_path: Path, photometric: str, syntax: UID, encode: Encode
) -> None:
    grey = _volume("u1", 200)
    colours = np.stack([grey, grey[:, ::-1], grey[:, :, ::-1]], axis=-1)
    frames = [bytes(encode(np.ascontiguousarray(frame))) for frame in colours]
    header = {"SamplesPerPixel": 3, "PhotometricInterpretation": photometric, "PlanarConfiguration": 0}
    _multiframe(tmp_path, encapsulate(frames), syntax, grey, **header)
    decode = {JPEGBaseline8Bit: codecs.jpeg8_decode, JPEGLSLossless: codecs.jpegls_decode}
    theirs = np.stack([decode.get(syntax, codecs.jpeg2k_decode)(frame) for frame in frames])
    ours = _read(tmp_path)
    assert ours.shape == (COLUMNS, ROWS, FRAMES, 3)
    # two implementations of the cosine transform and of the colours round differently
    tolerance = 3 if syntax == JPEGBaseline8Bit else 0
    difference = np.abs(ours.astype(int) - theirs.transpose(2, 1, 0, 3).astype(int))
    assert difference.max() <= tolerance
