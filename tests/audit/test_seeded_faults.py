"""An audit names each seeded fault once, under its kind, and nothing else; of clean folders it says nothing.

Each fault is made as people and tools make it; the comment says what it rests on.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from nibabel.nifti1 import Nifti1Extension
from pydicom.uid import generate_uid

from radiobject_assets.audit.folder_audit import FolderAudit, audit_folder
from radiobject_assets.diagnostics.findings import Finding
from tests.audit.cohorts import COHORTS, SHAPE, body, organs, save, write_ct

Fault = Callable[[Path], None]


def findings_of(audit: FolderAudit) -> list[Finding]:
    return [finding for report in audit.reports for finding in report.findings]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, write in COHORTS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        write(folders[name])
    return folders


# -- changes of files --------------------------------------------------------------------------------------


def cut(path: Path, share: float = 0.6) -> None:
    """A transfer that broke off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def resaved(path: Path, change: Callable[[Any, Any], tuple[Any, Any]]) -> None:
    """Opened with nibabel, changed, saved again."""
    image = nib.load(path)
    voxels, affine = change(np.asanyarray(image.dataobj), image.affine)
    save(path, np.ascontiguousarray(voxels), affine)


def edited(folder: Path, **values: Any) -> None:
    """Attributes of a whole series set, as by a tool for DICOM headers."""
    for path in sorted(folder.iterdir()):
        ds = pydicom.dcmread(path)
        for name, value in values.items():
            setattr(ds, name, value)
        ds.save_as(path)


def as_lps(voxels: Any, affine: Any) -> tuple[Any, Any]:
    """The same place, axes turned: what `nibabel.as_closest_canonical` undoes."""
    turn = np.diag([-1.0, -1, 1, 1])
    turn[:2, 3] = np.array(voxels.shape[:2]) - 1
    return voxels[::-1, ::-1], affine @ turn


def shifted(voxels: Any, affine: Any) -> tuple[Any, Any]:
    """Drawn on another scan of the same size, or cropped without its place."""
    moved = affine.copy()
    moved[:3, 3] += (6, 0, 9)
    return voxels, moved


def blurred(voxels: Any, affine: Any) -> tuple[Any, Any]:
    """Resampled with linear interpolation, as most tools do unless told otherwise."""
    values = voxels.astype(np.float32)
    return (values + np.roll(values, 1, axis=0)) / 2, affine


def with_nan(voxels: Any, affine: Any) -> tuple[Any, Any]:
    """0 / 0 in the background of a normalised image."""
    values = voxels.astype(np.float32)
    values[:3, :3] = np.nan
    return values, affine


# -- DICOM dumps -------------------------------------------------------------------------------------------


def a_slice_was_lost(at: Path) -> None:
    (at / "TR-03/S1/I0007").unlink()


def a_transfer_broke_off(at: Path) -> None:
    cut(at / "TR-03/S1/I0015")


def a_disk_was_full(at: Path) -> None:
    (at / "TR-03/S1/IM0099.dcm").touch()


def a_name_was_left(at: Path) -> None:
    edited(at / "TR-03/S1", PatientName="Kowalczyk^Barbara")


def a_birthday_was_left(at: Path) -> None:
    edited(at / "TR-03/S1", PatientBirthDate="19630517")


def a_patient_got_a_second_id(at: Path) -> None:
    # re-export under a new research id: other UIDs, the same pixels
    shutil.copytree(at / "TR-03", at / "TR-20")
    study, series = generate_uid(), generate_uid()
    for path in sorted((at / "TR-20/S1").iterdir()):
        ds = pydicom.dcmread(path)
        ds.PatientID = ds.PatientName = "TR-20"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.save_as(path)


def a_reconstruction_failed(at: Path) -> None:
    shutil.rmtree(at / "TR-03/S1")
    write_ct(at / "TR-03/S1", 3, pixels=np.full(SHAPE[::-1], -1024, np.int16))


def files_were_sent_twice(at: Path) -> None:
    for path in sorted((at / "TR-03/S1").iterdir()):
        shutil.copy(path, path.with_name(f"{path.name}_copy"))


def a_folder_is_called_after_somebody(at: Path) -> None:
    (at / "TR-03").rename(at / "KOWALCZYK_BARBARA_19630517")


def an_id_was_changed_in_some_slices(at: Path) -> None:
    for path in sorted((at / "TR-03/S1").iterdir())[:4]:
        ds = pydicom.dcmread(path)
        ds.PatientID = ds.PatientName = "TR-77"
        ds.save_as(path)


def a_slice_has_another_place(at: Path) -> None:
    path = at / "TR-03/S1/I0007"
    ds = pydicom.dcmread(path)
    ds.ImagePositionPatient = [0, 0, float(ds.ImagePositionPatient[2]) + 1.4]
    ds.save_as(path)


# -- BIDS --------------------------------------------------------------------------------------------------

_T1, _DSEG = "sub-03/anat/sub-03_T1w.nii.gz", "sub-03/anat/sub-03_dseg.nii.gz"


def labels_were_cropped(at: Path) -> None:
    resaved(at / _DSEG, lambda v, a: (v[2:-2, 1:-1], a))


def labels_were_shifted(at: Path) -> None:
    resaved(at / _DSEG, shifted)


def labels_were_turned(at: Path) -> None:
    resaved(at / _DSEG, as_lps)  # 3D Slicer and ITK write what they were given, other tools turn it


def labels_were_interpolated(at: Path) -> None:
    resaved(at / _DSEG, blurred)


def an_image_has_nan(at: Path) -> None:
    resaved(at / _T1, with_nan)


def an_image_was_copied_to_another_subject(at: Path) -> None:
    shutil.copy(at / _T1, at / "sub-05/anat/sub-05_T1w.nii.gz")


def a_copy_was_saved_as_float(at: Path) -> None:
    # `get_fdata` and save: other bytes, other type, the same image
    image = nib.load(at / _T1)
    save(at / "sub-05/anat/sub-05_T1w.nii.gz", image.get_fdata(dtype=np.float32))


def a_sidecar_has_a_name(at: Path) -> None:
    # dcm2niix without `-ba y`
    told = {"Modality": "MR", "PatientName": "Kowalczyk^Barbara", "PatientID": "sub-03"}
    (at / "sub-03/anat/sub-03_T1w.json").write_text(json.dumps(told))


def a_description_has_a_name(at: Path) -> None:
    save(at / _T1, body(3), descrip="Kowalczyk, Barbara 4711")


def a_gzip_broke_off(at: Path) -> None:
    cut(at / _T1)


# -- nnU-Net -----------------------------------------------------------------------------------------------

_CASE = "trunk_003"


def a_mask_was_painted_with_255(at: Path) -> None:
    labels = organs(3)
    labels[labels == 2] = 255  # saved from a picture
    save(at / f"labelsTr/{_CASE}.nii.gz", labels)


def a_training_case_is_tested_on(at: Path) -> None:
    for channel in ("0000", "0001"):
        shutil.copy(at / f"imagesTr/{_CASE}_{channel}.nii.gz", at / f"imagesTs/trunk_020_{channel}.nii.gz")


def labels_were_forgotten(at: Path) -> None:
    (at / f"labelsTr/{_CASE}.nii.gz").unlink()


def an_image_was_forgotten(at: Path) -> None:
    for channel in ("0000", "0001"):
        (at / f"imagesTr/{_CASE}_{channel}.nii.gz").unlink()


def a_channel_was_forgotten(at: Path) -> None:
    (at / f"imagesTr/{_CASE}_0001.nii.gz").unlink()


def a_channel_was_not_registered(at: Path) -> None:
    resaved(at / f"imagesTr/{_CASE}_0001.nii.gz", lambda v, a: (v[:, :, ::2], a @ np.diag([1, 1, 2, 1])))


def axes_were_reversed(at: Path) -> None:
    # an array of SimpleITK (z, y, x) saved with nibabel
    resaved(at / f"labelsTr/{_CASE}.nii.gz", lambda v, a: (v.transpose(2, 1, 0), a))


def labels_lost_their_place(at: Path) -> None:
    resaved(at / f"labelsTr/{_CASE}.nii.gz", lambda v, a: (v, np.eye(4)))


def labels_are_those_of_another_case(at: Path) -> None:
    shutil.copy(at / "labelsTr/trunk_005.nii.gz", at / f"labelsTr/{_CASE}.nii.gz")


def nobody_drew(at: Path) -> None:
    save(at / f"labelsTr/{_CASE}.nii.gz", np.zeros(SHAPE, np.uint8))


# -- TotalSegmentator --------------------------------------------------------------------------------------


def of_case(at: Path, change: Callable[[Any, Any], tuple[Any, Any]]) -> None:
    for path in sorted((at / "s0003").rglob("*.nii.gz")):
        resaved(path, change)


def a_mask_was_cropped(at: Path) -> None:
    resaved(at / "s0003/segmentations/liver.nii.gz", lambda v, a: (v[:, :, :-3], a))


def a_mask_was_shifted(at: Path) -> None:
    resaved(at / "s0003/segmentations/liver.nii.gz", shifted)


def a_case_was_mirrored(at: Path) -> None:
    # the array was flipped for display, and saved with the old affine
    of_case(at, lambda v, a: (v[::-1], a))


def lps_was_taken_for_ras(at: Path) -> None:
    # ITK's direction and origin written into an affine as they are
    of_case(at, lambda v, a: (v, np.diag([-1, -1, 1, 1]) @ a))


def axes_of_a_case_were_swapped(at: Path) -> None:
    of_case(at, lambda v, a: (v.transpose(1, 0, 2), a))


def a_case_has_other_axes(at: Path) -> None:
    of_case(at, as_lps)


def a_ct_is_empty(at: Path) -> None:
    save(at / "s0003/ct.nii.gz", np.zeros(SHAPE, np.int16))


def a_mask_has_another_number(at: Path) -> None:
    resaved(at / "s0003/segmentations/heart.nii.gz", lambda v, a: (v * 51, a))


def a_ct_is_in_two_cases(at: Path) -> None:
    shutil.copy(at / "s0003/ct.nii.gz", at / "s0005/ct.nii.gz")


def a_mask_has_no_bytes(at: Path) -> None:
    (at / "s0003/segmentations/heart.nii.gz").write_bytes(b"")


# -- Decathlon ---------------------------------------------------------------------------------------------


def a_case_is_in_both_parts(at: Path) -> None:
    voxels = np.stack([body(30), body(30, contrast=2)], axis=3)  # another visit under the same id
    save(at / "imagesTs/TRUNK_003.nii.gz", voxels)


def a_test_case_is_a_copy(at: Path) -> None:
    shutil.copy(at / "imagesTr/TRUNK_003.nii.gz", at / "imagesTs/TRUNK_021.nii.gz")


def a_value_was_not_declared(at: Path) -> None:
    labels = organs(3)
    labels[:2, :2] = 4
    save(at / "labelsTr/TRUNK_003.nii.gz", labels)


def the_database_field_has_a_name(at: Path) -> None:
    voxels = np.asanyarray(nib.load(at / "imagesTr/TRUNK_003.nii.gz").dataobj)
    save(at / "imagesTr/TRUNK_003.nii.gz", voxels, db_name="Kowalczyk^Barbara")  # old converters


def an_extension_has_a_header(at: Path) -> None:
    # code 2 of nifti1.h: DICOM attributes embedded in the file
    image = nib.load(at / "imagesTr/TRUNK_003.nii.gz")
    held = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine)
    name = b"\x10\x00\x10\x00PN\x12\x00Kowalczyk^Barbara "
    held.header.extensions.append(Nifti1Extension(2, name))
    nib.save(held, at / "imagesTr/TRUNK_003.nii.gz")


def files_are_called_after_somebody(at: Path) -> None:
    for part in ("imagesTr", "labelsTr"):
        (at / part / "TRUNK_003.nii.gz").rename(at / part / "Kowalczyk_Barbara_MRN0047112.nii.gz")


def labels_have_halves(at: Path) -> None:
    resaved(at / "labelsTr/TRUNK_003.nii.gz", blurred)


def an_affine_has_nan(at: Path) -> None:
    path = at / "imagesTr/TRUNK_003.nii.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[280:296] = np.full(4, np.nan, "<f4").tobytes()  # srow_x, after a registration that failed
    path.write_bytes(gzip.compress(bytes(data), 1))


def a_gzip_was_damaged(at: Path) -> None:
    path = at / "imagesTr/TRUNK_003.nii.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(bytes(data))


def an_image_is_constant(at: Path) -> None:
    save(at / "imagesTr/TRUNK_003.nii.gz", np.full((*SHAPE, 2), 7, np.int16))


FAULTS: list[tuple[str, Fault, str, str]] = [
    ("dicom", a_slice_was_lost, "refused_missing_slice", "TR-03/S1"),
    ("dicom", a_transfer_broke_off, "refused_truncated", "TR-03/S1"),
    ("dicom", a_disk_was_full, "refused_empty_file", "TR-03/S1/IM0099.dcm"),
    ("dicom", a_name_was_left, "header_identifiers", "TR-03/S1"),
    ("dicom", a_birthday_was_left, "header_identifiers", "TR-03/S1"),
    ("dicom", a_patient_got_a_second_id, "image_of_two_subjects", "TR-20/S1"),
    ("dicom", a_reconstruction_failed, "image_constant", "TR-03/S1"),
    ("dicom", files_were_sent_twice, "files_twice", "TR-03/S1"),
    ("dicom", a_folder_is_called_after_somebody, "name_identifiers", "KOWALCZYK_BARBARA_19630517"),
    ("dicom", an_id_was_changed_in_some_slices, "refused_mixed_identity", "TR-03/S1"),
    ("dicom", a_slice_has_another_place, "refused_variable_spacing", "TR-03/S1"),
    ("bids", labels_were_cropped, "labels_shape", _DSEG),
    ("bids", labels_were_shifted, "labels_place", _DSEG),
    ("bids", labels_were_turned, "labels_turned", _DSEG),
    ("bids", labels_were_interpolated, "refused_labels_not_whole", _DSEG),
    ("bids", an_image_has_nan, "image_not_finite", _T1),
    ("bids", an_image_was_copied_to_another_subject, "image_of_two_subjects", _T1),
    ("bids", a_copy_was_saved_as_float, "image_of_two_subjects", _T1),
    ("bids", a_sidecar_has_a_name, "text_identifiers", "sub-03/anat/sub-03_T1w.json"),
    ("bids", a_description_has_a_name, "text_identifiers", _T1),
    ("bids", a_gzip_broke_off, "refused_truncated", _T1),
    ("nnunet", a_mask_was_painted_with_255, "label_values_differ", f"labelsTr/{_CASE}"),
    ("nnunet", a_training_case_is_tested_on, "image_in_two_splits", "imagesTs/trunk_020_0000"),
    ("nnunet", labels_were_forgotten, "image_without_labels", f"imagesTr/{_CASE}"),
    ("nnunet", an_image_was_forgotten, "labels_without_image", f"labelsTr/{_CASE}"),
    ("nnunet", a_channel_was_forgotten, "channel_missing", f"imagesTr/{_CASE}"),
    ("nnunet", a_channel_was_not_registered, "channels_apart", f"imagesTr/{_CASE}_0001"),
    ("nnunet", axes_were_reversed, "labels_shape", f"labelsTr/{_CASE}"),
    ("nnunet", labels_lost_their_place, "labels_place", f"labelsTr/{_CASE}"),
    ("nnunet", labels_are_those_of_another_case, "labels_of_two_subjects", f"labelsTr/{_CASE}"),
    ("nnunet", nobody_drew, "labels_all_background", f"labelsTr/{_CASE}"),
    ("totalsegmentator", a_mask_was_cropped, "labels_shape", "s0003/segmentations/liver"),
    ("totalsegmentator", a_mask_was_shifted, "labels_place", "s0003/segmentations/liver"),
    ("totalsegmentator", a_case_was_mirrored, "content_turned", "s0003/ct"),
    ("totalsegmentator", lps_was_taken_for_ras, "content_turned", "s0003/ct"),
    ("totalsegmentator", axes_of_a_case_were_swapped, "content_turned", "s0003/ct"),
    ("totalsegmentator", a_case_has_other_axes, "orientation_differs", "s0003/ct"),
    ("totalsegmentator", a_ct_is_empty, "image_constant", "s0003/ct"),
    ("totalsegmentator", a_mask_has_another_number, "label_values_differ", "s0003/segmentations/heart"),
    ("totalsegmentator", a_ct_is_in_two_cases, "image_of_two_subjects", "s0005/ct"),
    ("totalsegmentator", a_mask_has_no_bytes, "refused_empty_file", "s0003/segmentations/heart"),
    ("decathlon", a_case_is_in_both_parts, "folder_subject_in_two_splits", "imagesTs/TRUNK_003"),
    ("decathlon", a_test_case_is_a_copy, "image_in_two_splits", "imagesTs/TRUNK_021"),
    ("decathlon", a_value_was_not_declared, "label_values_differ", "labelsTr/TRUNK_003"),
    ("decathlon", the_database_field_has_a_name, "text_identifiers", "imagesTr/TRUNK_003"),
    ("decathlon", an_extension_has_a_header, "text_identifiers", "imagesTr/TRUNK_003"),
    ("decathlon", files_are_called_after_somebody, "name_identifiers", "Kowalczyk_Barbara"),
    ("decathlon", labels_have_halves, "refused_labels_not_whole", "labelsTr/TRUNK_003"),
    ("decathlon", an_affine_has_nan, "refused_bad_geometry", "imagesTr/TRUNK_003"),
    ("decathlon", a_gzip_was_damaged, "refused_decoder_failed", "imagesTr/TRUNK_003"),
    ("decathlon", an_image_is_constant, "image_constant", "imagesTr/TRUNK_003"),
]


@pytest.mark.parametrize("name", COHORTS)
def test_a_clean_folder_has_no_findings(name: str, clean: dict[str, Path]) -> None:
    audit = audit_folder(clean[name])
    assert [(one.kind.code, one.where, one.evidence) for one in findings_of(audit)] == []
    assert audit.view.layout == (None if name == "dicom" else name)
    assert audit.contents.subjects == (9 if name in ("nnunet", "decathlon") else 7)


@pytest.mark.parametrize(("name", "fault", "kind", "place"), FAULTS, ids=[f[1].__name__ for f in FAULTS])
def test_each_fault_is_named_once_and_nothing_else(
    name: str, fault: Fault, kind: str, place: str, clean: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(clean[name], tmp_path / "data")
    fault(tmp_path / "data")
    found = findings_of(audit_folder(tmp_path / "data"))
    assert [one.kind.code for one in found] == [kind], [(o.kind.code, o.where, o.evidence) for o in found]
    assert place in found[0].where
    assert "owalczyk" not in found[0].about + found[0].evidence
    assert "1963" not in found[0].about + found[0].evidence
