"""A delivery under another name, through the real sensor and runs: nothing is doubled, nothing is decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
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
