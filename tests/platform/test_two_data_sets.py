"""Two data sets share one Dagster instance, and nothing of one is taken for the other's."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.assets.partitions import arrival_partitions, asset_key
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.store import RadiObject


def dataset(folder: Path, name: str) -> DatasetSettings:
    return DatasetSettings.model_validate(
        {
            "folder": folder,
            "name": name,
            "collections": {"ct": {"match": {"modality": "CT"}}},
            "arrivals": {"quiet_period_s": 0, "trusted_names": "[a-z]+"},
        }
    )


def test_two_data_sets_share_an_instance_although_their_arrivals_are_alike(tmp_path: Path) -> None:
    liver, lung = dataset(tmp_path / "one", "liver-ct"), dataset(tmp_path / "two", "lung")
    make_subject(liver.folder / "landing", 1, arrival="drop", shape=(48, 48, 24))
    shutil.copytree(liver.folder / "landing", lung.folder / "landing")  # the same names, sizes and times
    with open_instance(tmp_path / "dagster") as instance:
        for settings in (liver, lung):
            done = run_pass(build_definitions(settings), instance)
            assert done.failed == ()
            assert [run.what for run in done.arrivals] == ["drop"]
            assert RadiObject(settings.store_uri).collection("ct").obs_ids
            name = arrival_partitions(settings).name
            assert name is not None
            assert instance.get_dynamic_partitions(name) == ["drop"]
        made = {key.to_user_string() for key in instance.get_asset_keys()}
    assert {"liver-ct/ct", "lung/ct", "liver-ct/dataset", "lung/splits"} <= made
    assert not any("/" not in key for key in made)
    assert asset_key(lung, "ct") == dg.AssetKey(["lung", "ct"])
