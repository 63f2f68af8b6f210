"""A delivery under another name, through the real sensor and runs: nothing is doubled, nothing is decoded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.definitions import build_definitions
from radiobject_assets.platform.headless import Pass, open_instance, run_pass
from radiobject_assets.store import RadiObject


def one_pass(home: Path) -> Pass:
    dataset = DatasetSettings.model_validate(
        {
            "folder": home,
            "landing": ["landing", "other"],
            "collections": {"nii": {"match": {"files": "*_T1w.nii.gz"}}},
            "arrivals": {"quiet_period_s": 0, "trusted_names": "[a-z]+"},
        }
    )
    with open_instance(home / "dagster") as instance:
        done = run_pass(build_definitions(dataset), instance)
    assert done.failed == ()
    return done


def rows(home: Path) -> pd.DataFrame:
    return RadiObject(str(home / "store")).collection("nii").to_obs().reset_index()


def test_a_delivery_that_moves_to_another_name_and_zone_keeps_its_volumes(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for number in range(3):
        folder = tmp_path / "landing" / "march" / f"sub-{number}"
        folder.mkdir(parents=True)
        voxels = np.random.default_rng(number).integers(0, 999, (6, 7, 8)).astype("i2")
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / f"sub-{number}_T1w.nii.gz"))
    assert [run.what for run in one_pass(tmp_path).arrivals] == ["march"]
    before = rows(tmp_path)
    (tmp_path / "landing" / "march").rename(tmp_path / "other" / "april")
    assert [run.what for run in one_pass(tmp_path).arrivals] == ["april"]
    after = rows(tmp_path)
    assert list(after["volume"]) == list(before["volume"])
    assert list(after["obs_id"]) == list(before["obs_id"])
    assert set(after["arrival"]) == {"april"}


def put(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 999, (6, 7, 8)).astype("i2")
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / "sub-0_T1w.nii.gz"))


@pytest.mark.slow
@pytest.mark.parametrize("keeps_folder", [False, True])
def test_a_name_that_is_used_again_takes_nothing_from_the_delivery_that_had_it(
    tmp_path: Path, keeps_folder: bool
) -> None:
    (tmp_path / "other").mkdir()
    landing = tmp_path / "landing"
    put(landing / "incoming", 1)
    one_pass(tmp_path)
    before = rows(tmp_path)
    if keeps_folder:
        (landing / "april").mkdir()
        (landing / "incoming" / "sub-0_T1w.nii.gz").rename(landing / "april" / "sub-0_T1w.nii.gz")
    else:
        (landing / "incoming").rename(landing / "april")
    one_pass(tmp_path)
    assert list(rows(tmp_path)["arrival"]) == ["april"]
    put(landing / "incoming", 2)
    one_pass(tmp_path)
    after = rows(tmp_path).set_index("arrival")
    assert sorted(after.index) == ["april", "incoming"]
    assert after.loc["april", "volume"] == before.loc[0, "volume"]
    assert after.loc["incoming", "voxel_digest"] != after.loc["april", "voxel_digest"]
    assert one_pass(tmp_path).runs == ()


@pytest.mark.slow
def test_a_copy_keeps_its_volume_when_the_delivery_that_it_was_copied_from_is_replaced(
    tmp_path: Path,
) -> None:
    (tmp_path / "other").mkdir()
    landing = tmp_path / "landing"
    put(landing / "incoming", 1)
    one_pass(tmp_path)
    before = rows(tmp_path)
    shutil.copytree(landing / "incoming", landing / "april")
    one_pass(tmp_path)
    assert list(rows(tmp_path)["volume"]) == list(before["volume"])  # a copy is no second volume
    shutil.rmtree(landing / "incoming")
    put(landing / "incoming", 2)
    one_pass(tmp_path)
    after = rows(tmp_path).set_index("arrival")
    assert sorted(after.index) == ["april", "incoming"]
    assert after.loc["april", "volume"] == before.loc[0, "volume"]
    assert after.loc["april", "voxel_digest"] == before.loc[0, "voxel_digest"]
    assert after.loc["incoming", "voxel_digest"] != after.loc["april", "voxel_digest"]
    assert one_pass(tmp_path).runs == ()
