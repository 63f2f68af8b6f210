"""NIfTI files are read as nibabel reads them: shape, place, stored values and scaling."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dcm2niix_reference import physical, read_all
from hypothesis import given, strategies as st

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.nifti.header import is_nifti, read_nifti
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series


def _one(path: Path) -> Series:
    (series,) = build_series(scan([path]))
    return series


def _agrees_with_nibabel(path: Path) -> None:
    series = _one(path)
    assert series.verdict == "ingestable", series.detail
    image: Any = nib.load(path)
    source = open_series(series)
    assert np.array_equal(source.affine, image.affine)
    stored = np.asarray(image.dataobj.get_unscaled())
    ours = read_all(source)
    assert ours.dtype == stored.dtype.newbyteorder("=")
    assert np.array_equal(ours.reshape(stored.shape), stored, equal_nan=ours.dtype.kind == "f")
    assert np.allclose(physical(source).reshape(stored.shape), image.get_fdata(), rtol=1e-6, equal_nan=True)


def test_every_reference_file_is_read_as_nibabel_reads_it(shared_data: Path) -> None:
    read = 0
    for path in sorted((shared_data / "nifti").iterdir()):
        if path.name == "complex.nii.gz":
            continue
        _agrees_with_nibabel(path)
        read += 1
    assert read == 17


def test_complex_voxels_are_refused_with_a_reason(shared_data: Path) -> None:
    assert _one(shared_data / "nifti" / "complex.nii.gz").reason is Reason.NIFTI_DATATYPE


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".img"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "i8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_order_and_container(tmp_path: Path, dtype: str, order: str, suffix: str) -> None:
    data = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2).astype(dtype)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    kind = nib.Nifti1Pair if suffix == ".img" else nib.Nifti1Image
    affine = np.array([[0, 0, 3, 1.5], [-2, 0, 0, 2], [0, 1.25, 0, 3], [0, 0, 0, 1]])
    nib.save(kind(data, affine, header), tmp_path / f"image{suffix}")
    result = scan([tmp_path])
    assert not result.unreadable
    (series,) = build_series(result)
    assert len(series.files) == (2 if suffix == ".img" else 1)
    assert np.allclose(series.affine, affine)
    assert np.array_equal(read_all(open_series(series)), data)


def test_all_48_axis_orders_give_the_same_world_volume(tmp_path: Path) -> None:
    world = np.random.default_rng(5).integers(0, 1000, (4, 5, 6)).astype(np.int16)
    image = nib.Nifti1Image(world, np.diag([1.0, 2.0, 3.0, 1.0]))
    count = 0
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            turned = image.as_reoriented(np.array(list(zip(axes, flips, strict=True))))
            path = tmp_path / f"{count}.nii.gz"
            nib.save(turned, path)
            source = open_series(_one(path))
            voxels = read_all(source)[..., 0]
            for index in ((0, 0, 0), (3, 4, 5), (1, 2, 4)):
                where = np.linalg.inv(source.affine) @ image.affine @ [*index, 1]
                assert voxels[tuple(np.round(where[:3]).astype(int))] == world[index]
            count += 1
    assert count == 48


@given(
    st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    st.lists(st.floats(0.1, 9), min_size=3, max_size=3),
    st.sampled_from([-1.0, 1.0]),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_the_affine_follows_the_rules_of_nibabel(  # type: ignore[no-untyped-def]
    quaternion, zooms, handed, sform_code, qform_code
) -> None:
    vector = np.array(quaternion) / max(1.0, np.linalg.norm(quaternion) * 1.000001)
    header = nib.Nifti1Header()
    header.set_data_shape((3, 4, 5))
    header["pixdim"][:4] = (handed, *zooms)
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = vector
    header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = 4, 5, 6
    header["qform_code"], header["sform_code"] = qform_code, sform_code
    header["srow_x"], header["srow_y"], header["srow_z"] = (0, 2, 0, 7), (3, 0, 0, 8), (0, 0, -4, 9)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    raw = header.binaryblock + b"\0" * 400
    assert is_nifti(raw)
    file = read_nifti(Path("a.nii"), Path("."), raw, len(raw), compressed=False)
    assert np.allclose(file.matrix, header.get_best_affine(), atol=1e-4)


def test_a_slope_of_zero_or_nan_means_no_scaling(tmp_path: Path) -> None:
    for slope in (0.0, float("nan")):
        image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
        nib.save(image, tmp_path / "a.nii")
        raw = bytearray((tmp_path / "a.nii").read_bytes())
        raw[112:120] = np.array([slope, 5.0], "<f4").tobytes()
        (tmp_path / "a.nii").write_bytes(raw)
        series = _one(tmp_path / "a.nii")
        assert (series.slope, series.intercept) == (1.0, 0.0)


def test_a_header_that_claims_more_than_the_file_holds_is_refused_at_once(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4))
    image.to_filename(tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[42:48] = np.array([2000, 2000, 400], "<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    assert _one(tmp_path / "a.nii").reason is Reason.TRUNCATED
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    assert _one(tmp_path / "b.nii.gz").reason is Reason.TRUNCATED


def test_a_gzip_file_that_is_cut_or_damaged_is_a_reason(tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(0, 30000, (32, 32, 32)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii.gz")
    raw = (tmp_path / "a.nii.gz").read_bytes()
    for name, damaged in (("cut", raw[: len(raw) // 2]), ("hurt", raw[:20000] + b"\xff" * 64 + raw[20064:])):
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(damaged)
        with pytest.raises(ImageReadError) as caught:
            read_all(open_series(_one(path)))
        assert caught.value.code in (Reason.TRUNCATED, Reason.DECODER_FAILED)


def test_a_header_without_its_data_file_is_unreadable(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(np.zeros((3, 3, 3), np.int16), np.eye(4)), tmp_path / "a.img")
    (tmp_path / "a.img").unlink()
    result = scan([tmp_path])
    assert [entry.reason for entry in result.unreadable] == [Reason.NIFTI_DATA_MISSING]


def test_several_gzip_members_are_one_stream(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4)), tmp_path / "a.nii")
    raw = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(raw[:600]) + gzip.compress(raw[600:]))
    voxels = read_all(open_series(_one(tmp_path / "b.nii.gz")))
    assert np.array_equal(voxels.ravel(), np.arange(512))


def test_sidecars_of_a_bids_folder_come_with_their_image(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "dwi"
    folder.mkdir(parents=True)
    affine = np.array([[-2.0, 0, 0, 10], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 2), np.int16), affine), folder / "sub-01_dwi.nii.gz")
    (folder / "sub-01_dwi.json").write_text(
        json.dumps({"EchoTime": 0.0817, "Modality": "MR", "PatientName": "ZZSECRET", "FlipAngle": 90})
    )
    (folder / "sub-01_dwi.bval").write_text("0 1000\n")
    (folder / "sub-01_dwi.bvec").write_text("0 1\n0 0\n0 0\n")
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-01\n")
    result = scan([tmp_path])
    assert [entry.path.name for entry in result.unreadable] == ["participants.tsv"]
    (series,) = build_series(ScanResult.from_table(result.to_table()))
    assert (series.n_instances, series.modality, series.key) == (4, "MR", "sub-01/dwi/sub-01_dwi.nii.gz")
    assert series.attributes["echo_time_ms"] == pytest.approx(81.7)
    assert series.attributes["flip_angle_deg"] == 90
    assert json.loads(str(series.attributes["b_values_s_per_mm2"])) == [0, 1000]
    assert json.loads(str(series.attributes["b_vectors_ras"])) == [[0, 0, 0], [-1, 0, 0]]
    assert "ZZSECRET" not in repr(series)
    assert read_all(open_series(series)).shape == (3, 4, 5, 2)


def test_a_sidecar_that_is_damaged_gives_nothing(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "a.json").write_text("{ not json")
    (tmp_path / "a.bval").write_bytes(b"\xff\xfe")
    series = _one(tmp_path)
    assert series.verdict == "ingestable"
    assert series.n_instances == 3
