"""What RadiObject's users know of imaging works here, and gives right answers where RadiObject did not."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_files import ramp, write_stack

import radiobject_assets as ra
from radiobject_assets.errors import AlignmentError, ImageReadError, IngestError, ShapeError


def _nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), path)
    return path


def test_images_and_labels_are_paired_by_file_name(tmp_path: Path) -> None:
    for name in ("b_01", "a_01", "c_01"):
        _nifti(tmp_path / "images" / f"{name}.nii.gz")
    for name in ("a_01", "b_01"):
        _nifti(tmp_path / "labels" / f"{name}.nii.gz")
    pairs = ra.discover_nifti_pairs(tmp_path / "images", tmp_path / "labels")
    assert [p.subject_id for p in pairs] == ["a_01", "b_01", "c_01"]
    assert [p.label_path.name if p.label_path else None for p in pairs] == [
        "a_01.nii.gz",
        "b_01.nii.gz",
        None,
    ]
    assert [p.has_label for p in pairs] == [True, True, False]


def test_channels_of_nnunet_share_a_label(tmp_path: Path) -> None:
    for channel in range(2):
        _nifti(tmp_path / "images" / f"case7_{channel:04d}.nii")
    _nifti(tmp_path / "labels" / "case7.nii")
    pairs = ra.discover_nifti_pairs(tmp_path / "images", tmp_path / "labels")
    assert [p.label_path for p in pairs] == [tmp_path / "labels" / "case7.nii"] * 2


def test_a_label_that_fits_two_images_is_refused_instead_of_guessed(tmp_path: Path) -> None:
    for name in ("s1_ct", "s1_mr"):
        _nifti(tmp_path / "images" / f"{name}.nii.gz")
    _nifti(tmp_path / "labels" / "s1_seg.nii.gz")

    def subject(path: Path) -> str:
        return path.name[:2]

    with pytest.raises(AlignmentError, match="'s1' has 2 images and 1 labels"):
        ra.discover_nifti_pairs(tmp_path / "images", tmp_path / "labels", subject_id_fn=subject)
    (tmp_path / "images" / "s1_mr.nii.gz").unlink()
    (pair,) = ra.discover_nifti_pairs(tmp_path / "images", tmp_path / "labels", subject_id_fn=subject)
    assert pair.has_label


def test_folders_without_images_are_said(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="No NIfTI files"):
        ra.discover_nifti_pairs(tmp_path)
    with pytest.raises(FileNotFoundError):
        ra.discover_nifti_pairs(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-01_ses-1_T1w.nii.gz", "T1w"), ("sub-01_task-rest_bold.nii", "bold"), ("x_t2W.nii.gz", "T2w"),
        ("T1_MPRAGE_001.nii.gz", "T1w"), ("T1GD_post.nii.gz", "T1gd"), ("lung_001.nii.gz", "CT"),
        ("PAT1_scan.nii.gz", "unknown"), ("random_001.nii.gz", "unknown"),
    ],
)  # fmt: skip
def test_a_series_type_is_guessed_from_whole_words(name: str, expected: str) -> None:
    assert ra.infer_series_type(Path(name)) == expected


def test_the_description_of_a_header_may_tell_the_series_type() -> None:
    header = nib.Nifti1Header()
    header["descrip"] = b"FLAIR of a phantom"
    assert ra.infer_series_type(Path("scan.nii"), header) == "FLAIR"


def test_metadata_of_a_nifti_file(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 3, 1], [-2, 0, 0, 2], [0, 1.5, 0, 3], [0, 0, 0, 1.0]])
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(2.5, -7)
    nib.save(image, tmp_path / "a.nii.gz")
    found = ra.extract_nifti_metadata(tmp_path / "a.nii.gz")
    assert (found.dimensions, found.voxel_spacing) == ((3, 4, 5), (2.0, 1.5, 3.0))
    assert (found.scl_slope, found.scl_inter) == (2.5, -7.0)
    assert (found.datatype, found.bitpix, found.spatial_units) == (4, 16, "mm")
    assert found.axcodes == "PSR"
    assert np.allclose(json.loads(found.affine_json), affine)
    assert found.to_obs_dict("v", "s", "T1w")["dimensions"] == "(3, 4, 5)"
    (tmp_path / "b.nii.gz").write_bytes(b"no image")
    with pytest.raises(ImageReadError):
        ra.extract_nifti_metadata(tmp_path / "b.nii.gz")


@pytest.mark.parametrize(
    ("sform", "qform", "source"), [(1, 0, "nifti_sform"), (0, 1, "nifti_qform"), (0, 0, "identity")]
)
def test_the_orientation_of_a_nifti_image_says_where_it_is_from(
    tmp_path: Path, sform: int, qform: int, source: str
) -> None:
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.diag([-1.0, -1, 2, 1]))
    image.set_qform(image.affine, 1)
    raw = bytearray(image.to_bytes())
    raw[252:256] = np.array([qform, sform], "<i2").tobytes()  # nibabel itself never writes two zeros
    info = ra.detect_nifti_orientation(nib.Nifti1Image.from_bytes(bytes(raw)))
    assert info.source == source
    assert ra.is_orientation_valid(info) == (source != "identity")
    if source != "identity":
        assert (info.axcodes, info.is_canonical) == (("L", "P", "S"), False)


def test_metadata_of_dicom_comes_from_positions_and_not_from_names_or_thickness(tmp_path: Path) -> None:
    write_stack(
        tmp_path, ramp(4, 5, 6), step=(0, 0, -2.5), pixel_spacing=(0.5, 2.0), order=[2, 0, 3, 1],
        change=lambda ds, k: setattr(ds, "SliceThickness", "9"),
    )  # fmt: skip
    found = ra.extract_dicom_metadata(tmp_path)
    assert found.dimensions == (5, 6, 4)
    assert found.voxel_spacing == pytest.approx((2.0, 0.5, 2.5))
    assert (found.modality, found.axcodes, found.orientation_source) == ("CT", "LPS", "dicom_iop")
    assert np.allclose(np.array(json.loads(found.affine_json))[:3, 3], (0, 0, -7.5))
    info = ra.detect_dicom_orientation(tmp_path)
    assert (info.axcodes, info.source, info.confidence) == (("L", "P", "S"), "dicom_iop", "header")
    assert ra.is_orientation_valid(info)


def test_two_series_in_a_folder_are_not_mixed(tmp_path: Path) -> None:
    write_stack(tmp_path, ramp(), prefix="A")
    write_stack(tmp_path, ramp(), prefix="B", series_uid="1.2.9")
    for function in (ra.extract_dicom_metadata, ra.detect_dicom_orientation):
        with pytest.raises(IngestError, match="2 image volumes"):
            function(tmp_path)


def test_a_folder_without_dicom_has_no_known_orientation(tmp_path: Path) -> None:
    assert ra.detect_dicom_orientation(tmp_path).confidence == "unknown"
    with pytest.raises(IngestError, match="No DICOM files"):
        ra.extract_dicom_metadata(tmp_path)


@pytest.mark.parametrize("target", ["RAS", "LAS", "LPS"])
def test_every_orientation_is_turned_to_the_target_and_keeps_its_places(target: str) -> None:
    world = np.random.default_rng(5).integers(0, 1000, (2, 3, 4, 2))
    image = nib.Nifti1Image(world.astype(np.int16), np.diag([1.0, 2, 3, 1]))
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            turned = image.as_reoriented(np.array(list(zip(axes, flips, strict=True))))
            voxels, affine = ra.reorient_to_canonical(np.asarray(turned.dataobj), turned.affine, target)
            assert "".join(nib.aff2axcodes(affine)) == target
            for index in ((0, 0, 0), (1, 2, 3), (1, 0, 2)):
                there = np.round(np.linalg.inv(affine) @ image.affine @ [*index, 1])[:3].astype(int)
                assert np.array_equal(voxels[tuple(there)], world[index])


def test_what_cannot_be_turned_is_said() -> None:
    with pytest.raises(ShapeError):
        ra.reorient_to_canonical(np.zeros((2, 2)), np.eye(4))
    with pytest.raises(ShapeError):
        ra.reorient_to_canonical(np.zeros((2, 2, 2)), np.zeros((4, 4)))
    assert not ra.is_orientation_valid(
        ra.OrientationInfo(("R", "A", "S"), ((0.0,) * 4,) * 4, True, "header", "nifti_sform")
    )
