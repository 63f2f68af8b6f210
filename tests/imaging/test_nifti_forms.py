"""The rarer NIfTI forms (pairs, colours, fifth axes, extensions, headers that lie), as nibabel reads them."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dcm2niix_reference import physical, read_all
from nibabel.nifti1 import Nifti1Extension

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.policy import OWN_FILES, SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scan import ScanResult, scan
from radiobject_assets.imaging.series import Series, build_series, open_series

KEEP = SeriesPolicy(components="keep")
AFFINE = np.array([[0, 0, 3, 1.5], [-2, 0, 0, 2], [0, 1.25, 0, 3], [0, 0, 0, 1]])
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
RGBA = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])


def _one(path: Path, policy: SeriesPolicy = KEEP) -> Series:
    (series,) = build_series(ScanResult.from_table(scan([path]).to_table()), policy=policy)
    return series


def _voxels(shape: tuple[int, ...], dtype: Any) -> Any:
    random = np.random.default_rng(4)
    if np.dtype(dtype).fields:
        return random.integers(0, 256, (*shape, len(np.dtype(dtype))), dtype=np.uint8).view(dtype)[..., 0]
    if np.dtype(dtype).kind == "c":
        return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(dtype)
    return random.integers(0, 100, shape).astype(dtype)


def _saved(path: Path, voxels: Any, order: str = "<", version: int = 1) -> Any:
    names = {
        (1, True): "Nifti1Image",
        (1, False): "Nifti1Pair",
        (2, True): "Nifti2Image",
        (2, False): "Nifti2Pair",
    }
    kind = getattr(nib, names[version, ".nii" in path.name])
    header = kind.header_class(endianness=order)
    header.set_data_dtype(voxels.dtype)
    nib.save(kind(voxels, AFFINE, header), path)
    return nib.load(path)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".img", ".img.gz"])
def test_both_versions_in_every_container_and_order(
    tmp_path: Path, suffix: str, order: str, version: int
) -> None:
    image = _saved(tmp_path / f"a{suffix}", _voxels((3, 4, 5, 2), np.int16), order, version)
    found = scan([tmp_path])
    assert not found.unreadable
    (series,) = build_series(found)
    source = open_series(series)
    assert np.array_equal(source.affine, image.affine)
    assert np.array_equal(read_all(source), np.asarray(image.dataobj))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128, RGB, RGBA])
def test_components_are_kept_as_the_last_axis(tmp_path: Path, dtype: Any, order: str) -> None:
    image = _saved(tmp_path / "a.nii.gz", _voxels((3, 4, 5), dtype), order)
    series = _one(tmp_path / "a.nii.gz")
    ours, theirs = read_all(open_series(series)), np.asarray(image.dataobj)
    names = theirs.dtype.names
    parts = [theirs[name] for name in names] if names else [theirs.real, theirs.imag]
    assert np.array_equal(ours, np.stack(parts, axis=-1))
    assert series.attributes["components"] == ({3: "rgb", 4: "rgba"}[len(names)] if names else "complex")
    assert _one(tmp_path / "a.nii.gz", SeriesPolicy()).reason is Reason.NIFTI_DATATYPE


@pytest.mark.parametrize(("code", "bits"), [(1536, 128), (2048, 256)])
def test_numbers_of_128_bits_are_refused(tmp_path: Path, code: int, bits: int) -> None:
    _saved(tmp_path / "a.nii", _voxels((3, 4, 5), np.complex128))
    raw = bytearray((tmp_path / "a.nii").read_bytes() * 2)
    raw[70:74] = struct.pack("<2h", code, bits)
    (tmp_path / "a.nii").write_bytes(raw)
    assert _one(tmp_path / "a.nii").reason is Reason.NIFTI_DATATYPE


def test_half_floats_which_the_standard_lacks_are_read(tmp_path: Path) -> None:
    _saved(tmp_path / "a.nii", _voxels((3, 4, 5), np.int16))
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[70:74] = struct.pack("<2h", 16384, 16)
    values = np.linspace(-1, 1, 60).astype("<f2")
    raw[352:472] = values.tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    assert np.array_equal(read_all(open_series(_one(tmp_path / "a.nii")))[..., 0].ravel("F"), values)


def test_values_along_a_fifth_axis_become_the_fourth(tmp_path: Path) -> None:
    image = _saved(tmp_path / "a.nii.gz", _voxels((3, 4, 5, 1, 3), np.float32))
    series = _one(tmp_path / "a.nii.gz")
    assert series.shape == (3, 4, 5, 3)
    assert series.attributes["nifti_fifth_axis"] == 1
    assert np.array_equal(read_all(open_series(series)), np.asarray(image.dataobj)[:, :, :, 0])


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5, 2, 3)])
def test_what_is_neither_3d_nor_4d_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    _saved(tmp_path / "a.nii", _voxels(shape, np.int16))
    assert _one(tmp_path / "a.nii").reason is Reason.NIFTI_NO_SPACE


def test_trailing_axes_of_one_are_dropped(tmp_path: Path) -> None:
    _saved(tmp_path / "a.nii", _voxels((3, 4, 5, 1, 1, 1), np.int16))
    assert _one(tmp_path / "a.nii").shape == (3, 4, 5)


@pytest.mark.parametrize("count", [0, -1, 8, 1000])
def test_an_impossible_number_of_dimensions_is_refused(tmp_path: Path, count: int) -> None:
    _saved(tmp_path / "a.nii", _voxels((3, 4, 5), np.int16))
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[40:42] = struct.pack("<h", count)
    (tmp_path / "a.nii").write_bytes(raw)
    (entry,) = scan([tmp_path]).unreadable
    assert entry.reason is Reason.NIFTI_INVALID


@pytest.mark.parametrize("offset", [353.0, 368.0, 4099.0])
def test_voxels_may_begin_anywhere_after_the_header(tmp_path: Path, offset: float) -> None:
    voxels = _voxels((3, 4, 5), np.int16)
    _saved(tmp_path / "a.nii", voxels)
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[108:112] = struct.pack("<f", offset)
    raw[352:352] = b"\0" * (int(offset) - 352)
    (tmp_path / "a.nii").write_bytes(raw + b"trailing bytes")
    assert np.array_equal(np.asarray(nib.load(tmp_path / "a.nii").dataobj), voxels)
    assert np.array_equal(read_all(open_series(_one(tmp_path / "a.nii")))[..., 0], voxels)


def test_voxels_that_begin_in_the_header_are_refused(tmp_path: Path) -> None:
    _saved(tmp_path / "a.nii", _voxels((3, 4, 5), np.int16))
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[108:112] = struct.pack("<f", 100.0)
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(Exception, match="offset"):
        nib.load(tmp_path / "a.nii")
    (entry,) = scan([tmp_path]).unreadable
    assert entry.reason is Reason.NIFTI_INVALID


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_scaled_numbers_are_physically_what_nibabel_gives(tmp_path: Path, dtype: Any) -> None:
    _saved(tmp_path / "a.nii", _voxels((3, 4, 5), dtype))
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = struct.pack("<2f", 0.1, -7.3)
    (tmp_path / "a.nii").write_bytes(raw)
    source = open_series(_one(tmp_path / "a.nii"))
    assert source.dtype == dtype
    theirs = nib.load(tmp_path / "a.nii").get_fdata(dtype=np.float64)
    assert np.allclose(physical(source)[..., 0], theirs, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_pair_whose_compressed_voxels_are_cut_is_a_reason(tmp_path: Path, share: float) -> None:
    _saved(tmp_path / "a.img.gz", np.random.default_rng(1).integers(0, 30000, (16, 16, 16)).astype(np.int16))
    raw = (tmp_path / "a.img.gz").read_bytes()
    (tmp_path / "a.img.gz").write_bytes(raw[: int(len(raw) * share)])
    (series,) = build_series(scan([tmp_path]))
    if series.verdict == "ingestable":
        with pytest.raises(ImageReadError) as caught:
            read_all(open_series(series))
        assert caught.value.code in (Reason.TRUNCATED, Reason.DECODER_FAILED)
    else:
        assert series.reason is Reason.TRUNCATED


def test_an_intent_is_told(tmp_path: Path) -> None:
    image: Any = nib.Nifti1Image(_voxels((3, 4, 5), np.float32), AFFINE)
    image.header.set_intent("f test", (3, 17))
    nib.save(image, tmp_path / "a.nii")
    attributes = _one(tmp_path / "a.nii").attributes
    assert attributes["nifti_intent_code"] == 4
    assert json.loads(str(attributes["nifti_intent_parameters"]))[:2] == [3, 17]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".img", ".img.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_extensions_come_with_the_attributes_only_where_they_are_kept(
    tmp_path: Path, order: str, suffix: str
) -> None:
    from base64 import b64decode

    image: Any = _saved(tmp_path / f"a{suffix}", _voxels((3, 4, 5), np.int16), order)
    image.header.extensions.append(Nifti1Extension("comment", b"operator ZZSECRET was here"))
    image.header.extensions.append(Nifti1Extension(44, bytes(range(200))))
    nib.save(image, tmp_path / f"b{suffix}")
    (dropped,) = [s for s in build_series(scan([tmp_path])) if s.files[0].name.startswith("b")]
    assert "nifti_extensions" not in open_series(dropped).attributes
    assert "ZZSECRET" not in repr(dropped)
    (kept,) = [s for s in build_series(scan([tmp_path]), policy=OWN_FILES) if s.files[0].name.startswith("b")]
    source = open_series(kept)
    found = [(code, b64decode(data)) for code, data in json.loads(str(source.attributes["nifti_extensions"]))]
    assert [(code, data.rstrip(b"\0")) for code, data in found] == [
        (6, b"operator ZZSECRET was here"),
        (44, bytes(range(200))),
    ]
    assert np.array_equal(read_all(source)[..., 0], _voxels((3, 4, 5), np.int16))
    digest = open_series(dropped)
    read_all(digest)
    assert source.source_digest() == digest.source_digest()


def test_extensions_that_are_too_large_or_damaged_are_left_out(tmp_path: Path) -> None:
    image: Any = nib.Nifti1Image(_voxels((3, 4, 5), np.int16), AFFINE)
    image.header.extensions.append(Nifti1Extension("comment", b"x" * (2 << 20)))
    nib.save(image, tmp_path / "a.nii.gz")
    source = open_series(_one(tmp_path / "a.nii.gz", OWN_FILES))
    assert "nifti_extensions" not in source.attributes
    assert np.array_equal(read_all(source)[..., 0], _voxels((3, 4, 5), np.int16))
    raw = bytearray(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))
    raw[108:112], raw[352:356] = struct.pack("<f", 384), struct.pack("<i", 7)
    (tmp_path / "b.nii").write_bytes(raw)
    assert "nifti_extensions" not in open_series(_one(tmp_path / "b.nii", OWN_FILES)).attributes
