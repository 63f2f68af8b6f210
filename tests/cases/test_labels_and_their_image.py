"""Labels find their image by place, and are whole numbers on its voxels."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from case_run import Run, Stored, action, differences, take_in

from radiobject_assets.store import RadiObject
from radiobject_assets.training import VolumeCollectionDataset

Find = Callable[[str], Path]


def labels_of(run: Run) -> list[Stored]:
    """The label volumes; each names an image of the store and lies on its voxels."""
    images = {volume.obs["obs_id"]: volume for volume in run.stored if volume.obs["kind"] == "image"}
    labels = [volume for volume in run.stored if volume.obs["kind"] == "labels"]
    for volume in labels:
        image = images[volume.obs["labels_of"]]
        assert volume.image.shape[:3] == image.image.shape[:3]
        corner = np.array([*image.image.shape[:3], 1])
        off = np.linalg.inv(image.image.affine) @ volume.image.affine @ corner - corner
        assert np.abs(off).max() < 0.1, "voxel i of the labels is not voxel i of the image"
        assert np.issubdtype(np.asarray(volume.image.dataobj).dtype, np.integer)
    return labels


def test_a_segmentation_of_two_series_on_one_grid_is_taken_in(case_folder: Find, tmp_path: Path) -> None:
    case = case_folder("l03_seg_of_two_series")
    run = take_in([case / "input"], tmp_path)
    labels = labels_of(run)
    assert len(labels) in (1, 2)  # once, or once for each image
    assert len({volume.obs["labels_of"] for volume in labels}) == len(labels)
    for volume in labels:
        assert not differences(volume.image, nib.load(case / "expected.nii.gz"))
    assert not run.refused
    assert run.exit_code == 0


def test_contours_beyond_the_image_are_clipped_and_the_region_stays(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("l04_rtstruct_beyond_the_image")
    run = take_in([case / "input"], tmp_path)
    by_name: dict[str, Stored] = {}
    for volume in labels_of(run):
        (segment,) = json.loads(volume.obs["segments"])
        by_name[segment["label"]] = volume
    assert sorted(by_name) == ["body", "cord", "liver"]
    for name, volume in by_name.items():
        assert not differences(volume.image, nib.load(case / f"expected_{name}.nii.gz")), name
    assert not run.refused
    told = {
        name: any(
            re.search("beyond|outside|clip|cut", f"{key} {value}", re.IGNORECASE)
            for key, value in volume.obs.items()
        )
        for name, volume in by_name.items()
    }
    assert told["cord"], "obs does not say that the drawn cord reaches further than the image"
    assert not told["liver"]


def test_contours_that_name_a_frame_of_reference_alone_find_the_one_image_of_it(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("l05_rtstruct_frame_of_reference_only")
    run = take_in([case / "input"], tmp_path)
    (volume,) = labels_of(run)
    assert not differences(volume.image, nib.load(case / "expected.nii.gz"))
    said = " ".join(f"{key} {value}" for key, value in volume.obs.items())
    assert re.search("frame.?of.?reference", said, re.IGNORECASE), "obs does not say how the image was found"
    assert run.exit_code == 0


def test_labels_whose_rows_are_stored_the_other_way_are_turned_to_their_image(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("l08_nifti_label_flipped_storage")
    run = take_in([case / "input"], tmp_path, case / "dataset.yaml")
    (volume,) = labels_of(run)
    assert not differences(volume.image, nib.load(case / "expected.nii.gz"))
    assert run.exit_code == 0


def test_scaled_labels_are_the_whole_numbers_that_they_stand_for(case_folder: Find, tmp_path: Path) -> None:
    case = case_folder("l10_nifti_label_scaled")
    run = take_in([case / "input"], tmp_path, case / "dataset.yaml")
    (volume,) = labels_of(run)
    assert not differences(volume.image, nib.load(case / "expected.nii.gz"))
    collection = RadiObject(str(run.store)).collection("seg")
    (obs_id,) = list(collection.obs_ids)
    assert np.unique(collection[obs_id].to_numpy()).tolist() == [0, 1, 2, 4, 14]
    batch = VolumeCollectionDataset(collection)[0]["image"]
    assert np.unique(batch.numpy()).tolist() == [0, 1, 2, 4, 14]


def test_labels_that_are_no_whole_numbers_are_refused_at_the_door(case_folder: Find, tmp_path: Path) -> None:
    case = case_folder("l12_nifti_label_not_whole")
    run = take_in([case / "input"], tmp_path, case / "dataset.yaml")
    assert [volume.collection for volume in run.stored] == ["ct"]
    (refused,) = run.refused
    assert re.search("whole|integer", refused["detail"])
    assert "0.63" in refused["detail"], "the text does not show a value"
    assert run.exit_code == 1


def test_an_exported_image_that_was_segmented_elsewhere_comes_home(case_folder: Find, tmp_path: Path) -> None:
    case = case_folder("l19_loop_oblique_mr")
    take_in([case / "input"], tmp_path, case / "dataset.yaml")
    run = take_in([case / "labels"], tmp_path, case / "dataset.yaml")
    assert run.exit_code == 0, run.refused
    (volume,) = labels_of(run)
    file = nib.load(case / "labels" / "P01_seg.nii.gz")
    assert not differences(volume.image, file)
    assert np.count_nonzero(volume.voxels) == np.count_nonzero(np.asarray(file.dataobj)) > 0


def test_a_dose_beside_its_ct_is_a_volume_in_gray_on_its_own_grid(case_folder: Find, tmp_path: Path) -> None:
    import pydicom

    case = case_folder("d03_rtdose_with_ct")
    run = take_in([case / "input"], tmp_path)
    (ct,) = [volume for volume in run.stored if volume.obs["modality"] == "CT"]
    slices = [pydicom.dcmread(path) for path in (case / "input" / "ct").iterdir()]
    slices.sort(key=lambda ds: ds.ImagePositionPatient[2])
    stack = np.stack(
        [ds.pixel_array.T.astype(int) * int(ds.RescaleSlope) + int(ds.RescaleIntercept) for ds in slices], 2
    )
    assert not differences(ct.image, nib.Nifti1Image(stack.astype(np.int32), _affine(slices[0], 3.0)))
    (dose,) = [volume for volume in run.stored if volume.obs["modality"] == "RTDOSE"]
    ds = pydicom.dcmread(case / "input" / "dose.dcm")
    right = ds.pixel_array.transpose(2, 1, 0) * float(ds.DoseGridScaling)
    assert not differences(dose.image, nib.Nifti1Image(right, _affine(ds, 3.0)), rounding=1e-6)
    assert any(str(value).lower() == "gy" for value in dose.obs.values()), "no column says gray"
    assert run.exit_code == 0


def _affine(ds: object, step: float) -> np.ndarray:
    spacing, position = ds.PixelSpacing, ds.ImagePositionPatient  # type: ignore[attr-defined]
    affine = np.diag([-float(spacing[1]), -float(spacing[0]), step, 1.0])
    affine[:3, 3] = [-float(position[0]), -float(position[1]), float(position[2])]
    return affine


def test_a_whole_slide_image_and_its_segmentation_ask_nobody_to_do_anything(
    case_folder: Find, tmp_path: Path
) -> None:
    case = case_folder("d04_whole_slide")
    run = take_in([case / "input"], tmp_path)
    assert not run.stored
    assert len(run.refused) == 2
    for refused in run.refused:
        told = f"{action(refused)} {refused['detail']}"
        assert action(refused).startswith("Nothing"), told
        assert not re.search("not here|[Ii]ngest the image", told), "the image that it names is here"


def test_what_nobody_can_do_anything_about_leaves_the_exit_code_of_what_was_taken_in(
    case_folder: Find, tmp_path: Path
) -> None:
    slides = case_folder("d04_whole_slide") / "input"
    image = case_folder("s06_pixel_spacing_last_digit") / "input"
    run = take_in([slides, image], tmp_path)
    assert run.stored
    assert run.exit_code == 0
