"""Two data sets share one Dagster instance, and nothing of one is taken for the other's."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.definitions import build_definitions
from radiobject_assets.errors import ConfigurationError
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
            "sources": {"pacs": {"url": "https://pacs.example.org/dicom-web"}},
        }
    )


def test_two_data_sets_share_a_code_location(tmp_path: Path) -> None:
    settings = [dataset(tmp_path / "one", "liver-ct"), dataset(tmp_path / "two", "lung")]
    for number, one in enumerate(settings, start=1):
        make_subject(one.folder / "landing", number, arrival="drop", shape=(48, 48, 24))
    definitions = dg.Definitions.merge(*(build_definitions(one, beside_others=True) for one in settings))
    with open_instance(tmp_path / "dagster") as instance:
        done = run_pass(definitions, instance)
        assert done.failed == ()
        assert [run.what for run in done.arrivals] == ["drop", "drop"]
        for number, one in enumerate(settings, start=1):
            store = RadiObject(one.store_uri)
            assert list(store.obs_meta.read()["obs_subject_id"]) == [f"phantom-{number:03d}"]
            assert instance.get_latest_materialization_event(asset_key(one, "splits")) is not None
            assert (one.folder / "work" / "splits.parquet").is_file()
        assert not run_pass(definitions, instance).runs  # neither takes the other's runs for its own
        standing = definitions.resolve_job_def("lung__standing_checks").execute_in_process(instance=instance)
        assert {one.asset_key.path[0] for one in standing.get_asset_check_evaluations()} == {"lung"}
        assert done.standing_due == ("liver_ct__standing_checks", "lung__standing_checks")
        assert run_pass(definitions, instance).standing_due == ("liver_ct__standing_checks",)
    repository = definitions.get_repository_def()
    names = {
        *(one.name for one in repository.sensor_defs), *(one.name for one in repository.schedule_defs),
        *(one for one in repository.job_names if not one.startswith("__ASSET_JOB")),
        *repository.get_top_level_resources(),
    }  # fmt: skip
    assert names
    # what takes a resource by its plain name would take another data set's
    assert {name for name in names if not name.startswith(("liver_ct__", "lung__"))} == set()


def test_a_data_set_without_a_name_keeps_plain_names_and_can_not_be_beside_others(tmp_path: Path) -> None:
    settings = DatasetSettings(folder=tmp_path)
    repository = build_definitions(settings).get_repository_def()
    assert {"dataset", "storage"} <= set(repository.get_top_level_resources())
    with pytest.raises(ConfigurationError, match="needs a `name`"):
        build_definitions(settings, beside_others=True)


@pytest.mark.slow
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
