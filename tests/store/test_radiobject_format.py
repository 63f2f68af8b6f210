"""Stores of the RadiObject package open with the right volume for each id, and are copied into ours.

Most tests make such a store with TileDB alone, array for array as RadiObject 0.1.1 lays it out, so that they
need no package; the last ones let the package write, where it is installed.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    RadiObject,
    Volume,
    VolumeCollection,
    ensure_collection,
    import_radiobject,
)
from tests.store.conftest import AFFINE, voxels
from tests.store.radiobject_layout import Truth, write_array, write_old_store

READ_ONLY = "import-radiobject"


@pytest.fixture
def old_store(tmp_path: Path) -> Truth:
    return write_old_store(str(tmp_path / "old"))


def test_each_id_gives_the_volume_whose_array_carries_it(old_store: Truth) -> None:
    uri, truth = old_store
    radi = RadiObject(uri)
    assert radi.is_radiobjects
    assert radi.collection_names == ("pet", "t1")
    assert radi.obs_subject_ids == ["a0", "m1", "m2"]
    assert radi.t1.obs_ids == ["a0_t1", "m1_t1", "m2_t1"]
    for i, obs_id in enumerate(radi.t1.obs_ids):
        assert np.array_equal(radi.t1.loc[obs_id].to_numpy(), truth[obs_id])
        assert np.array_equal(radi.t1.iloc[i][1:4, ..., -1], truth[obs_id][1:4, ..., -1])
        assert np.array_equal(radi.get_volume(obs_id).axial(2), truth[obs_id][:, :, 2])
    assert np.array_equal(radi.pet[0][..., 1], voxels(4, (5, 4, 3, 2), "float32")[..., 1])
    radi.validate()


def test_rows_views_and_queries_work_as_on_our_stores(old_store: Truth) -> None:
    uri, truth = old_store
    radi = RadiObject(uri)
    women = radi.filter("sex == 'F' and age > 40")
    assert women.obs_subject_ids == women.t1.obs_subject_ids == ["a0", "m2"]
    assert [len(women.pet), len(radi.iloc[[False, True, False]].pet)] == [0, 1]
    assert radi.t1.filter("grade >= 1 and size_x == 7").obs_ids == ["a0_t1", "m1_t1"]
    assert radi.loc[["m2", "a0"]].t1.obs_ids == ["a0_t1", "m2_t1"]
    row = radi.t1.get_obs_row_by_obs_id("m2_t1").iloc[0]
    assert (row["series_type"], row["grade"], row["dtype"], row["ndim"]) == ("t1", 0, "int16", 3)
    assert radi.obs_meta.read(value_filter="age == 60")["obs_subject_id"].tolist() == ["m1"]
    stack = radi.t1.lazy().map(lambda array: array * 2).to_numpy_stack()
    assert np.array_equal(stack, np.stack([truth[i] for i in radi.t1.obs_ids]) * 2)
    again = pickle.loads(pickle.dumps(women))
    assert np.array_equal(again.t1[-1].to_numpy(), truth["m2_t1"])
    assert "3 volumes" in radi.describe()


def test_affines_are_read_and_where_there_is_none_it_is_said(old_store: Truth) -> None:
    t1 = RadiObject(old_store[0]).t1
    assert np.allclose(t1["m2_t1"].affine, AFFINE)
    assert np.array_equal(t1["m1_t1"].affine, np.eye(4))
    assert t1["m1_t1"].orientation_info.source == "identity"
    assert t1.to_obs().set_index("obs_id")["orientation_source"].to_dict()["m1_t1"] == "identity"


def test_a_collection_and_an_array_open_alone(old_store: Truth, tmp_path: Path) -> None:
    uri, truth = old_store
    collection = VolumeCollection(f"{uri}/collections/t1")
    assert (collection.name, len(collection)) == ("t1", 3)
    assert np.array_equal(collection["a0_t1"].to_numpy(), truth["a0_t1"])
    volume = Volume(f"{uri}/collections/t1/volumes/0")
    assert (volume.obs_id, volume.shape, str(volume.tile_orientation)) == ("m2_t1", (7, 6, 5), "axial")
    back = nib.load(volume.to_nifti(tmp_path / "out.nii.gz"))
    assert np.array_equal(np.asarray(back.dataobj), truth["m2_t1"])
    assert np.allclose(back.affine, AFFINE)


def test_nothing_can_be_written_into_it(old_store: Truth) -> None:
    uri, _ = old_store
    before = {path: path.stat().st_mtime_ns for path in Path(uri).rglob("*") if path.is_file()}
    radi = RadiObject(uri)
    attempts = [
        lambda: radi.append({"t1": [("x.nii.gz", "s1")]}),
        lambda: radi.t1.append(niftis=[("x.nii.gz", "s1")]),
        lambda: radi.t1.delete(["m1_t1"]),
        lambda: radi.rename_collection("t1", "t2"),
        lambda: radi.add_collection("t3", radi.t1),
        lambda: radi.delete_subjects(["m1"]),
        lambda: radi.obs_meta.update(pd.DataFrame({"obs_subject_id": ["m1"], "age": [1]})),
        lambda: radi.t1.obs.add_column("site", str),
        lambda: radi.t1.lazy().map(lambda array: array).write(name="t4"),
        lambda: radi.t1[0].set_obs_id("other"),
        lambda: ensure_collection(uri, "t5"),
    ]
    for attempt in attempts:
        with pytest.raises(StorageError, match=READ_ONLY):
            attempt()
    with pytest.raises(StorageError, match="without snapshots"):
        RadiObject(uri, timestamp="v1")
    assert {path: path.stat().st_mtime_ns for path in Path(uri).rglob("*") if path.is_file()} == before


def test_digests_that_nobody_recorded_are_not_compared(old_store: Truth) -> None:
    t1 = RadiObject(old_store[0]).t1
    for verify in (t1.verify, t1[0].verify):
        with pytest.raises(StorageError, match="digest"):
            verify()


def test_a_view_of_it_is_written_as_a_store_of_ours(old_store: Truth, tmp_path: Path) -> None:
    uri, truth = old_store
    copy = RadiObject(uri).loc[["m2"]].write(tmp_path / "copy")
    assert not copy.is_radiobjects
    assert (copy.obs_subject_ids, copy.t1.obs_ids) == (["m2"], ["m2_t1"])
    assert np.array_equal(copy.t1[0].to_numpy(), truth["m2_t1"])
    assert copy.t1.verify() == []


def test_rows_without_array_and_arrays_without_row_are_left_out_and_reported(
    old_store: Truth, tmp_path: Path
) -> None:
    uri, truth = old_store
    folder = f"{uri}/collections/t1"
    tiledb.remove(f"{folder}/volumes/1")  # m1
    write_array(f"{folder}/volumes/3", voxels(9), "nobody_t1", None)
    t1 = RadiObject(uri).t1
    assert t1.obs_ids == ["a0_t1", "m2_t1"]
    assert np.array_equal(t1["m2_t1"].to_numpy(), truth["m2_t1"])
    with pytest.raises(StorageError, match="no array carries"):
        t1.validate()
    report = import_radiobject(uri, tmp_path / "new")
    assert report.without_array["t1"] == ["m1_t1"]
    assert report.without_row == {"pet": 0, "t1": 1}
    assert report.volumes == {"pet": 1, "t1": 2}


def test_an_id_that_two_arrays_carry_is_an_error(old_store: Truth) -> None:
    write_array(f"{old_store[0]}/collections/t1/volumes/3", voxels(9), "m1_t1", None)
    with pytest.raises(StorageError, match="carried by several arrays"):
        RadiObject(old_store[0]).t1.obs_ids  # noqa: B018  # reading is what fails


def test_the_import_copies_by_id_and_reports_what_radiobject_would_mix_up(
    old_store: Truth, tmp_path: Path
) -> None:
    uri, truth = old_store
    report = import_radiobject(uri, tmp_path / "new")
    radi = RadiObject(tmp_path / "new")
    radi.validate()
    assert not radi.is_radiobjects
    for obs_id, array in truth.items():
        assert np.array_equal(radi.t1[obs_id].to_numpy(), array)
    assert np.allclose(radi.t1["m2_t1"].affine, AFFINE)
    assert radi.obs_meta.read()["age"].tolist() == [50, 60, 70]
    assert report.mixed_up["t1"] == ["a0_t1", "m2_t1"]
    assert report.volumes == {"pet": 1, "t1": 3}


def test_other_folders_are_refused(store: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="already"):
        import_radiobject(store, tmp_path / "new")
    with pytest.raises(StorageError, match="no store at"):
        RadiObject(tmp_path)
    tiledb.Group.create(str(tmp_path / "group"))
    with pytest.raises(StorageError, match="not a radiobject-assets store"):
        RadiObject(tmp_path / "group")
    tiledb.from_numpy(str(tmp_path / "array"), np.zeros((2, 2, 2)))
    with pytest.raises(StorageError, match="not a radiobject-assets volume"):
        Volume(tmp_path / "array")


# -- what the package itself writes -------------------------------------------------------------------


@pytest.fixture
def package() -> Any:
    return pytest.importorskip("radiobject", reason="the RadiObject package is not installed")


def test_a_store_of_the_package_opens_by_id_after_an_append_that_sorts_before(
    package: Any, tmp_path: Path
) -> None:
    arrays = {name: voxels(seed).astype(np.float32) for name, seed in (("m2", 2), ("m1", 1), ("a0", 3))}
    for name, array in arrays.items():
        nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / f"{name}_T1w.nii.gz")
    niftis = [(tmp_path / f"{name}_T1w.nii.gz", name) for name in arrays]
    uri = str(tmp_path / "old")
    package.RadiObject.from_niftis(uri=uri, niftis=niftis[:2], reorient=False)
    package.RadiObject(uri).collection("T1w").append(niftis=niftis[2:], reorient=False)
    theirs, ours = package.RadiObject(uri).collection("T1w"), RadiObject(uri).collection("T1w")
    assert ours.obs_ids == ["a0_T1w", "m1_T1w", "m2_T1w"]
    wrong = set()
    for name, array in arrays.items():
        assert np.array_equal(ours[f"{name}_T1w"].to_numpy(), array)
        assert np.allclose(ours[f"{name}_T1w"].affine, AFFINE, atol=1e-6)
        if not np.array_equal(theirs.loc[f"{name}_T1w"].to_numpy(), array):
            wrong.add(f"{name}_T1w")
    assert wrong
    assert set(import_radiobject(uri, tmp_path / "new").mixed_up["T1w"]) == wrong


def test_the_layout_made_here_is_that_of_the_package(package: Any, old_store: Truth) -> None:
    theirs = package.RadiObject(old_store[0])
    assert list(theirs.obs_subject_ids) == RadiObject(old_store[0]).obs_subject_ids
    assert set(theirs.collection_names) == {"pet", "t1"}
    volume = theirs.collection("t1").iloc[0]
    assert (volume.obs_id, volume.shape) == ("m2_t1", (7, 6, 5))
    assert "".join(volume.orientation_info.axcodes) == "PRS"
