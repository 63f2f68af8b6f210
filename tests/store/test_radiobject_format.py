"""Stores of the RadiObject package open with the right volume for each id, and are copied into ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject
from radiobject_assets.store.radiobject_format import SourceStore, import_radiobject
from tests.store.conftest import AFFINE, voxels

radiobject: Any = pytest.importorskip("radiobject", reason="the RadiObject package is not installed")


Truth = tuple[str, dict[str, np.ndarray]]


@pytest.fixture
def old_store(tmp_path: Path) -> Truth:
    """A store that RadiObject itself wrote, with an append that sorts before what was there."""
    arrays = {"m1": voxels(1).astype(np.float32), "m2": voxels(2).astype(np.float32)}
    for name, array in {**arrays, "a0": voxels(3).astype(np.float32)}.items():
        nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / f"{name}.nii.gz")
    uri = str(tmp_path / "old")
    made = radiobject.VolumeCollection.from_niftis(
        uri=str(tmp_path / "vc"), niftis=[(tmp_path / f"{n}.nii.gz", n) for n in arrays], reorient=False
    )
    radiobject.RadiObject.from_collections(uri=uri, collections={"t1": made})
    stored = radiobject.RadiObject(uri).collection("t1")
    stored.append(niftis=[(tmp_path / "a0.nii.gz", "a0")], reorient=False)
    ids = dict(zip(stored.obs_subject_ids, stored.obs_ids, strict=True))
    truth = {ids[n]: a for n, a in {**arrays, "a0": voxels(3).astype(np.float32)}.items()}
    return uri, truth


def test_each_id_gives_the_voxels_that_were_written_under_it(
    old_store: tuple[str, dict[str, np.ndarray]],
) -> None:
    uri, truth = old_store
    collection = SourceStore(uri).collections["t1"]
    for obs_id, array in truth.items():
        assert np.array_equal(collection[obs_id].to_numpy(), array)


def test_the_import_copies_by_id_and_reports_what_radiobject_would_mix_up(
    old_store: Truth, tmp_path: Path
) -> None:
    uri, truth = old_store
    report = import_radiobject(uri, tmp_path / "new")
    radi = RadiObject(tmp_path / "new")
    radi.validate()
    for obs_id, array in truth.items():
        assert np.array_equal(radi.t1[obs_id].to_numpy(), array)
    theirs = radiobject.RadiObject(uri).collection("t1")
    wrong = {i for i, array in truth.items() if not np.array_equal(theirs.loc[i].to_numpy(), array)}
    assert wrong
    assert set(report.mixed_up["t1"]) == wrong
    assert report.volumes == {"t1": 3}


def test_other_folders_are_refused(store: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="already"):
        SourceStore(store)
    with pytest.raises(StorageError, match="not a store of the RadiObject package"):
        SourceStore(tmp_path)
    with pytest.raises(StorageError, match="no store at"):
        RadiObject(tmp_path)
