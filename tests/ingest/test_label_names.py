"""What a name says of labels, in the layouts that have no names of their own."""

from __future__ import annotations

import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest.dataset_release import subject_in_file_name
from radiobject_assets.ingest.naming.label_names import named_labels

LABELS = """PETCT_01/2003/SEG.nii.gz Patient_01/GT.nii.gz patient001/patient001_frame01_gt.nii.gz
case_01/case_01_OAR_Brain.seg.nrrd p1/tumor_seg_final.nii.gz p1/lesionmask.nii.gz p1/Segmentation.nii.gz
a1_SEG.nii.gz b2-Label.nii.gz lung_mask/a1.nii.gz label0001.nii.gz segmentation-3.nii labels/p_7.nii.gz
p1/tumorSeg.nii.gz p1/CTMask.nrrd p1/roi_2.mha p1/aparc+aseg.mgz p1/LabelMap.nii p1/GT/liver.nii.gz"""
IMAGES = """segrap_0000/image.nii.gz segdata/a.nii.gz SegRap2023/a.nii.gz labelled/a.nii.gz p1/SUV.nii.gz
right.nii.gz brain_masked.nii.gz volume-1.nii case_01_IMG_CT.nrrd labels/p1/t1.nii.gz unlabeled_3.nii.gz"""


@pytest.mark.parametrize("name", LABELS.split())
def test_a_word_for_labels_makes_labels(name: str) -> None:
    assert named_labels(name)


@pytest.mark.parametrize("name", IMAGES.split())
def test_letters_of_such_a_word_alone_do_not(name: str) -> None:
    assert not named_labels(name)


@pytest.mark.parametrize(
    ("labels", "image"),
    [
        ("a1_SEG.nii.gz", "a1.nii.gz"),
        ("b2-Label.nii.gz", "b2.nii.gz"),
        ("c_3.seg.nrrd", "c_3.nrrd"),
        ("Mask_d4.nii", "Image_d4.nii"),
        ("case5Mask.mha", "case5.mha"),
        ("p_frame01_gt.nii.gz", "p_frame01.nii.gz"),
    ],
)
def test_flat_labels_have_the_subject_of_their_image(labels: str, image: str) -> None:
    flat = DatasetSettings(layout="flat").subjects
    assert subject_in_file_name(labels, flat) == subject_in_file_name(image, flat) != ""
