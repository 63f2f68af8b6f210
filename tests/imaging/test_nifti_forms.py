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
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.policy import OWN_FILES, SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.ingest.readers import open_nifti

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


def _header_changed(path: Path, **fields: Any) -> None:
    """Set fields of the NIfTI-1 header of a file to values that nibabel would not write."""
    raw = bytearray(path.read_bytes())
    header = np.frombuffer(raw, nib.nifti1.header_dtype, 1)
    for name, value in fields.items():
        header[name][0] = value
    path.write_bytes(raw)


@pytest.mark.parametrize("zooms", [(-1, 2, 3), (1, -2, -3), (1, 2, 3), (1e-5, 2e-5, 3e-5)])
@pytest.mark.parametrize("qfac", [-1, 0, 1, -0.5])
def test_sizes_of_voxels_have_no_sign_and_no_lower_bound(
    tmp_path: Path, zooms: tuple[float, ...], qfac: float
) -> None:
    _saved(tmp_path / "a.nii", _voxels((3, 4, 5), np.int16))
    _header_changed(
        tmp_path / "a.nii", pixdim=(qfac, *zooms, 1, 1, 1, 1), sform_code=0, qform_code=1, quatern_b=0.3
    )
    series = _one(tmp_path / "a.nii")
    assert series.verdict == "ingestable", series.detail
    assert np.allclose(series.affine, nib.load(tmp_path / "a.nii").affine, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 0.8, "quatern_c": 0.8}, Reason.BAD_GEOMETRY),
        ({"sform_code": 1, "srow_x": 0}, Reason.BAD_GEOMETRY),
        ({"sform_code": 1, "srow_x": (2, 0, 0, 0), "srow_y": (4, 0, 0, 0)}, Reason.BAD_GEOMETRY),
        ({"sform_code": 1, "srow_z": np.nan}, Reason.BAD_GEOMETRY),
        ({"sform_code": 0, "qform_code": 1, "pixdim": 0}, Reason.BAD_GEOMETRY),
        ({"scl_slope": 2, "scl_inter": np.nan}, Reason.NIFTI_INVALID),
        ({"scl_slope": 2, "scl_inter": np.inf}, Reason.NIFTI_INVALID),
        ({"sizeof_hdr": 0}, Reason.NIFTI_INVALID),
        ({"sizeof_hdr": 540}, Reason.NIFTI_INVALID),
    ],
)
def test_headers_that_give_no_sure_place_or_value_are_refused(
    tmp_path: Path, fields: dict[str, Any], reason: Reason
) -> None:
    _saved(tmp_path / "a.nii", _voxels((3, 4, 5), np.int16))
    _header_changed(tmp_path / "a.nii", **fields)
    found = scan([tmp_path])
    told = [item.reason for item in found.unreadable] + [series.reason for series in build_series(found)]
    assert told == [reason]


def test_a_file_that_was_transferred_as_text_is_refused(tmp_path: Path) -> None:
    _saved(tmp_path / "a.nii", _voxels((3, 4, 5), np.int16), version=2)
    raw = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(raw[:8] + b"\n\n\x1a\n" + raw[12:])
    (entry,) = scan([tmp_path]).unreadable
    assert entry.reason is Reason.NIFTI_INVALID
    assert "as text" in entry.detail


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_forerunner_of_nifti_is_named_since_it_does_not_tell_left_from_right(
    tmp_path: Path, order: str
) -> None:
    header = nib.AnalyzeHeader(endianness=order)
    header.set_data_dtype(np.int16)
    nib.save(nib.AnalyzeImage(_voxels((3, 4, 5), np.int16), None, header), tmp_path / "a.img")
    found = {item.path.name: item for item in scan([tmp_path]).unreadable}
    assert found["a.hdr"].reason is Reason.NIFTI_INVALID
    assert "ANALYZE" in found["a.hdr"].detail


def test_colours_are_not_scaled_whatever_the_header_says(tmp_path: Path) -> None:
    _saved(tmp_path / "a.nii", _voxels((3, 4, 5), RGB))
    _header_changed(tmp_path / "a.nii", scl_slope=2, scl_inter=5)
    series = _one(tmp_path / "a.nii")
    assert (series.slope, series.intercept) == (1.0, 0.0)


@pytest.mark.parametrize("first", [0, 1, 100, 348, 400])
def test_gzip_members_may_be_of_any_size(tmp_path: Path, first: int) -> None:
    voxels = _voxels((3, 4, 5), np.int16)
    _saved(tmp_path / "a.nii", voxels)
    raw = (tmp_path / "a.nii").read_bytes()
    rest = b"".join(gzip.compress(raw[at : at + 90]) for at in range(first, len(raw), 90))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(raw[:first]) + rest)
    assert np.array_equal(read_all(open_series(_one(tmp_path / "b.nii.gz")))[..., 0], voxels)


@pytest.mark.parametrize("beyond", [-1, 0, 1, 2, 3])
def test_a_gzip_member_may_begin_at_the_end_of_what_is_read_at_once(tmp_path: Path, beyond: int) -> None:
    voxels = np.random.default_rng(2).integers(0, 256, (128, 128, 80)).astype(np.uint8)
    _saved(tmp_path / "a.nii", voxels)
    raw = (tmp_path / "a.nii").read_bytes()
    at = next(n for n in range(1 << 20, 0, -1) if len(gzip.compress(raw[:n], 0)) <= (1 << 20) - 30)
    first = bytearray(gzip.compress(raw[:at], 0))
    first[3] |= 16  # a comment makes it as long as it shall be
    first[10:10] = b"c" * ((1 << 20) + beyond - len(first) - 1) + b"\0"
    assert len(first) == (1 << 20) + beyond
    (tmp_path / "b.nii.gz").write_bytes(bytes(first) + gzip.compress(raw[at:]))
    assert np.array_equal(read_all(open_series(_one(tmp_path / "b.nii.gz")))[..., 0], voxels)


@pytest.mark.parametrize(("end", "reason"), [(-4, Reason.TRUNCATED), (-8, Reason.TRUNCATED)])
def test_a_small_gzip_file_without_its_checksum_is_a_reason(tmp_path: Path, end: int, reason: Reason) -> None:
    _saved(tmp_path / "a.nii.gz", _voxels((3, 4, 5), np.int16))
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(whole[:end])
    with pytest.raises(ImageReadError) as caught:
        read_all(open_series(_one(tmp_path / "a.nii.gz")))
    assert caught.value.code == reason
    (tmp_path / "a.nii.gz").write_bytes(whole[:-8] + b"\1\2\3\4" + whole[-4:])
    with pytest.raises(ImageReadError) as caught:
        read_all(open_series(_one(tmp_path / "a.nii.gz")))
    assert caught.value.code == Reason.DECODER_FAILED


@pytest.mark.parametrize("header", ["a.hdr", "A.HDR", "a.Hdr", "a.hdr.gz", "A.HDR.GZ", "sub.01.hdr", "a"])
@pytest.mark.parametrize("data", [".img", ".IMG", ".Img", ".img.gz", ".IMG.GZ"])
def test_the_halves_of_a_pair_find_each_other_however_they_are_spelled(
    tmp_path: Path, header: str, data: str
) -> None:
    voxels = _voxels((3, 4, 5), np.int16)
    _saved(tmp_path / "in.img", voxels)
    halves = [(tmp_path / f"in{suffix}").read_bytes() for suffix in (".hdr", ".img")]
    stem = header.lower().removesuffix(".gz").removesuffix(".hdr")
    stem = stem.upper() if header.isupper() else stem
    (tmp_path / "pair").mkdir()
    for name, content in zip((header, stem + data), halves, strict=True):
        content = gzip.compress(content) if name.lower().endswith(".gz") else content
        (tmp_path / "pair" / name).write_bytes(content)
    series = _one(tmp_path / "pair")
    assert len(series.files) == 2
    assert np.array_equal(read_all(open_series(series))[..., 0], voxels)
    if "." in header:
        (source,) = open_nifti(tmp_path / "pair" / (stem + data))
        assert np.array_equal(read_all(source)[..., 0], voxels)


@pytest.mark.parametrize(
    ("unit", "side", "millimetres"),
    [
        ("micron", 400.0, 0.4),
        ("meter", 0.002, 2.0),
        ("micron", 1.5, 1.5),  # the unit is wrong: no scanner has voxels of 1.5 micrometres
        ("meter", 1.5, 1.5),
        ("mm", 40.0, 40.0),
        ("unknown", 0.002, 0.002),
    ],
)
def test_a_unit_of_length_counts_where_the_size_of_voxels_speaks_for_it(
    tmp_path: Path, unit: str, side: float, millimetres: float
) -> None:
    image = nib.Nifti1Image(_voxels((4, 5, 6), "i2"), np.diag([side, side, side, 1.0]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii.gz")
    series = _one(tmp_path / "a.nii.gz")
    assert series.affine is not None
    assert np.allclose(np.diag(series.affine)[:3], millimetres)
    if millimetres != side:
        assert series.attributes["xyzt_units"] == 2


def test_a_unit_of_length_that_leaves_the_size_open_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_voxels((4, 5, 6), "i2"), np.diag([20.0, 20.0, 20.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii.gz")
    series = _one(tmp_path / "a.nii.gz")
    assert series.reason is Reason.NIFTI_INVALID
    assert "20x20x20" in series.detail


def test_b_values_of_another_number_than_the_points_are_nobodys(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(_voxels((4, 5, 6, 4), "i2"), AFFINE), tmp_path / "sub-1_dwi.nii.gz")
    (tmp_path / "sub-1_dwi.bval").write_text("0 1000 1000\n")
    (tmp_path / "sub-1_dwi.bvec").write_text("0 1 0\n0 0 1\n0 0 0\n")
    (series,) = build_series(scan([tmp_path]))
    assert not {"b_values_s_per_mm2", "b_vectors_ras"} & series.attributes.keys()
