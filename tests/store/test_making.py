"""Stores and collections made in the ways that RadiObject offers: empty, from named files, from volumes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from radiobject_assets.errors import AlignmentError, ShapeError, StorageError
from radiobject_assets.store import RadiObject, VolumeCollection
from tests.store.conftest import AFFINE, voxels

Files = list[tuple[Path, str]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """T1w and FLAIR images of two subjects."""
    found = []
    for seed, name in enumerate(["s1_T1w", "s1_FLAIR", "s2_T1w", "s2_FLAIR"]):
        path = tmp_path / f"{name}.nii"
        nib.save(nib.Nifti1Image(voxels(seed), AFFINE), path)
        found.append((path, name[:2]))
    return found


def other_shape(tmp_path: Path) -> tuple[Path, str]:
    nib.save(nib.Nifti1Image(voxels(9, (4, 4, 4)), AFFINE), tmp_path / "s3_T1w.nii")
    return tmp_path / "s3_T1w.nii", "s3"


def test_files_go_into_a_collection_for_each_series_type(files: Files, tmp_path: Path) -> None:
    radi = RadiObject.from_niftis(tmp_path / "store", niftis=files)
    assert radi.collection_names == ("FLAIR", "T1w")
    assert radi.T1w.obs_ids == ["s1_T1w", "s2_T1w"]
    assert np.array_equal(radi.FLAIR["s2_FLAIR"].to_numpy(), voxels(3))
    one = RadiObject.from_niftis(tmp_path / "one", image_dir=tmp_path, collection_name="all")
    assert (one.collection_names, len(one.collection("all"))) == (("all",), 4)


def test_appended_files_find_their_collection(files: Files, tmp_path: Path) -> None:
    radi = RadiObject.from_niftis(tmp_path / "store", niftis=files[:2])
    radi.append(niftis=files[2:], obs_meta=pd.DataFrame({"obs_subject_id": ["s2"], "age": [7]}))
    assert radi.FLAIR.obs_ids == ["s1_FLAIR", "s2_FLAIR"]
    assert radi.obs_meta.read()["age"].isna().tolist() == [True, False]
    radi.append(niftis=[other_shape(tmp_path)])
    assert radi.T1w.shape is None
    assert radi.obs_subject_ids == ["s1", "s2", "s3"]


def test_metadata_that_lacks_a_new_subject_changes_nothing(files: Files, tmp_path: Path) -> None:
    radi = RadiObject.from_niftis(tmp_path / "store", niftis=files[:2])
    with pytest.raises(AlignmentError, match="missing entries for 1 new subject"):
        radi.append(niftis=files[2:], obs_meta=pd.DataFrame({"obs_subject_id": ["s1"], "age": [7]}))
    again = RadiObject(tmp_path / "store")
    assert (again.obs_subject_ids, again.obs_meta.columns, len(again.T1w)) == (["s1"], [], 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Must specify"),
        ({"niftis": []}, "No NIfTI files found"),
        ({"niftis": [("a", "b")], "image_dir": "c"}, "Cannot specify both"),
        ({"images": {"ct": "x"}, "niftis": [("a", "b")]}, "Cannot use 'images' with legacy"),
        ({"images": {}}, "images dict cannot be empty"),
    ],
)
def test_files_are_named_in_one_way(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RadiObject.from_niftis(tmp_path / "store", **arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert not (tmp_path / "store").exists()


def test_images_of_another_shape_are_refused_unless_allowed(files: Files, tmp_path: Path) -> None:
    collection = VolumeCollection.from_niftis(tmp_path / "T1w", files[::2])
    with pytest.raises(ShapeError, match="Dimension mismatch"):
        collection.append(niftis=[other_shape(tmp_path)])
    assert len(VolumeCollection(tmp_path / "T1w")) == 2
    collection.append(niftis=[other_shape(tmp_path)], validate_dimensions=False)
    assert (len(collection), collection.shape, collection.is_uniform) == (3, None, False)
    volumes = [(volume.obs_id or "", volume) for volume in collection]
    with pytest.raises(ShapeError, match="Dimension mismatch"):
        VolumeCollection.from_volumes(tmp_path / "copy", volumes)
    mixed = VolumeCollection.from_volumes(tmp_path / "copy", volumes, validate_dimensions=False)
    assert mixed.obs_ids == collection.obs_ids


def test_time_points_are_no_part_of_a_collections_shape(tmp_path: Path) -> None:
    series = []
    for times in (2, 3):
        path = tmp_path / f"s{times}_bold.nii"
        nib.save(nib.Nifti1Image(voxels(times, (5, 4, 3, times)), AFFINE), path)
        series.append((path, f"s{times}"))
    collection = VolumeCollection.from_niftis(tmp_path / "bold", series)
    assert collection.shape == (5, 4, 3)
    assert [volume.shape for volume in collection] == [(5, 4, 3, 2), (5, 4, 3, 3)]
    assert not collection.is_uniform


def test_empty_stores_and_collections_have_their_columns_and_shape(files: Files, tmp_path: Path) -> None:
    radi = RadiObject.create(tmp_path / "store", {"age": "int32", "sex": "U8"})
    assert (len(radi), radi.n_collections, radi.obs_meta.columns) == (0, 0, ["age", "sex"])
    made = VolumeCollection.create(tmp_path / "ct", (7, 6, 5), {"grade": "int64"}, name="ct")
    assert (len(made), made.shape, made.name) == (0, (7, 6, 5), "ct")
    assert "grade" in made.obs.columns
    with pytest.raises(ShapeError, match="Dimension mismatch"):
        made.append(niftis=[other_shape(tmp_path)])
    made.append(niftis=files[:1])
    assert made.shape == (7, 6, 5)
    for again in (RadiObject.create, VolumeCollection.create):
        with pytest.raises(StorageError, match="already exists"):
            again(tmp_path / "store")
