"""Definitions from a dataset.yaml: names, dependencies, guards; resources keep secrets to themselves."""

from __future__ import annotations

import re
from pathlib import Path

import dagster as dg
import pytest

from radiobject_assets import definitions as wiring
from radiobject_assets.cli.demo import DATASET_YAML
from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.definitions import build_definitions
from radiobject_assets.diagnostics.findings import Kind
from radiobject_assets.diagnostics.kind_registry import every_kind
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.platform.assets import build_assets
from radiobject_assets.platform.assets.partitions import asset_key
from radiobject_assets.platform.checks import build_checks
from radiobject_assets.platform.checks.check_pages import taught
from radiobject_assets.resources import ComputeResource, MemoryBudgetResource, StorageResource
from radiobject_assets.resources.storage_resource import SECRET_OPTIONS


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetSettings:
    (tmp_path / "dataset.yaml").write_text(DATASET_YAML, encoding="utf-8")
    return load_dataset(tmp_path / "dataset.yaml")


def test_every_collection_is_an_asset_of_its_name(dataset: DatasetSettings) -> None:
    graph = build_definitions(dataset).resolve_asset_graph()
    names = {key.to_user_string() for key in graph.get_all_asset_keys()}
    of_all = {"dataset", "profile", "splits", "sheet", "patch_cache", "upkeep"}
    fixed = {"raw_dicom", "series", "subjects"} | of_all
    assert names == {f"demo/{name}" for name in fixed | {"ct", "seg", "t1w"}}


def test_labels_wait_for_their_image(dataset: DatasetSettings) -> None:
    graph = build_definitions(dataset).resolve_asset_graph()
    assert asset_key(dataset, "ct") in graph.get(asset_key(dataset, "seg")).parent_keys


def test_every_asset_says_who_owns_it_what_it_is_and_which_code_made_it(dataset: DatasetSettings) -> None:
    for asset in build_definitions(dataset).resolve_asset_graph().assets_defs:
        for spec in asset.specs:
            assert spec.owners == ["team:imaging"]
            assert spec.kinds
            assert spec.description
            assert spec.group_name in {"landing", "store", "training"}
            assert spec.code_version


@pytest.mark.parametrize("kind", every_kind().values(), ids=every_kind().keys())
def test_a_checks_page_says_of_any_arrival_what_a_finding_says_of_one(kind: Kind) -> None:
    text = taught("It is well.", [kind])
    assert kind.problem in text
    assert kind.why in text
    assert "{" not in text, "a place that was left open"
    assert not re.search(r"\b(\w+ \w+) \1\b", text), "words twice"


def test_integrity_and_leakage_block_and_speed_does_not(dataset: DatasetSettings) -> None:
    graph = build_definitions(dataset).resolve_asset_graph()
    blocking = {key.name for key in graph.asset_check_keys if graph.get(key).blocking}
    others = {key.name for key in graph.asset_check_keys} - blocking
    assert blocking == {"integrity", "no_leakage"}
    assert {"read_performance", "patches_match_volumes"} <= others


def test_every_asset_and_check_lets_the_heart_of_its_run_beat(dataset: DatasetSettings) -> None:
    # a run without a sign of life is ended after `arrivals.silence_s`
    made = [*build_assets(dataset), *build_checks(dataset)]
    silent = [str(one.keys or one.check_keys) for one in made if "dataset" not in one.required_resource_keys]
    assert len(made) > 10
    assert silent == []


def test_both_sensors_start_running(dataset: DatasetSettings) -> None:
    made = build_definitions(dataset)
    for name in ("arrivals_sensor", "follow_up_sensor"):
        assert made.resolve_sensor_def(name).default_status == dg.DefaultSensorStatus.RUNNING


def test_two_builds_share_nothing_and_take_other_resources(dataset: DatasetSettings) -> None:
    memory = MemoryBudgetResource(total_mb=256)
    one = build_definitions(dataset, {"memory": memory, "compute": ComputeResource(workers=1)})
    other = build_definitions(dataset)
    assert one.resources is not None
    assert other.resources is not None
    assert one.resources["memory"].total_mb == 256
    assert other.resources["memory"].total_mb != 256


def test_a_code_server_can_load_all_of_it(dataset: DatasetSettings) -> None:
    # names that clash are told then, and not when the definitions are made
    build_definitions(dataset).get_repository_def().load_all_definitions()


def test_without_a_patches_section_there_is_no_patch_cache(tmp_path: Path) -> None:
    made = build_definitions(DatasetSettings(folder=tmp_path))
    names = {key.to_user_string() for key in made.resolve_asset_graph().get_all_asset_keys()}
    assert "patch_cache" not in names
    assert "volumes" in names


def test_without_a_dataset_the_code_location_loads_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(wiring.DATASET_VARIABLE, raising=False)
    assert wiring.find_dataset_file() is None
    (spec,) = wiring.load_definitions().resolve_all_asset_specs()
    assert wiring.DATASET_VARIABLE in (spec.description or "")


def test_a_dataset_that_the_environment_names_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wiring.DATASET_VARIABLE, str(tmp_path / "absent.yaml"))
    with pytest.raises(ConfigurationError, match="no such file"):
        wiring.load_definitions()


def test_credentials_are_refused_without_being_repeated() -> None:
    memory = MemoryBudgetResource()
    with pytest.raises(ConfigurationError, match="environment") as caught:
        StorageResource(memory=memory, aws_secret_access_key="hush-hush")
    assert "hush-hush" not in str(caught.value)


def test_a_resource_shows_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHUSH")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    storage = StorageResource(memory=MemoryBudgetResource(), endpoint_url="http://127.0.0.1:9")
    shown = repr(storage) + str(storage.config) + str(storage.model_dump())
    assert "hush" not in shown.lower()


def test_tiledb_gets_the_s3_options_of_the_resource() -> None:
    storage = StorageResource(
        memory=MemoryBudgetResource(total_mb=512),
        endpoint_url="http://127.0.0.1:9001",
        region_name="eu-central-1",
        max_attempts=7,
        verify=False,
        profile_name="clinic",
    )
    tiledb_options = storage.ctx.config().dict()
    assert tiledb_options["vfs.s3.endpoint_override"] == "127.0.0.1:9001"
    assert tiledb_options["vfs.s3.scheme"] == "http"
    assert tiledb_options["vfs.s3.region"] == "eu-central-1"
    assert tiledb_options["vfs.s3.use_virtual_addressing"] == "false"
    assert tiledb_options["vfs.s3.connect_max_tries"] == "7"
    assert tiledb_options["vfs.s3.verify_ssl"] == "false"
    assert tiledb_options["vfs.s3.config_source"] == "config_files"


def test_the_context_keeps_to_tiledbs_part_of_the_budget() -> None:
    storage = StorageResource(memory=MemoryBudgetResource(total_mb=512))
    assert storage.ctx.config().dict()["sm.mem.total_budget"] == str(128 * 2**20)


def test_the_options_of_dagster_aws_are_taken_over_whole_and_its_secrets_are_not() -> None:
    from dagster_aws.s3 import S3Resource

    memory = MemoryBudgetResource(total_mb=512)
    given = {"region_name": "eu-west-1", "endpoint_url": "http://127.0.0.1:9", "max_attempts": 2}
    storage = StorageResource.like(S3Resource(**given, use_unsigned_session=True), memory, deadline_s=5)
    assert storage.config.s3.region == "eu-west-1"
    assert storage.config.s3.endpoint == "http://127.0.0.1:9"
    assert storage.config.s3.max_tries == 2
    assert not storage.config.s3.include_credentials
    assert set(S3Resource.model_fields) <= {*StorageResource.model_fields, *SECRET_OPTIONS}
    with pytest.raises(ConfigurationError, match="taken from the environment"):
        StorageResource.like(S3Resource(aws_secret_access_key="hush"), memory)


@pytest.mark.parametrize("text", ["two", "-1", "12", "1.5", "2 GB"])
def test_a_memory_budget_that_is_no_number_is_told_in_one_line(
    dataset: DatasetSettings, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("RADIOBJECT_MEMORY_MB", text)
    with pytest.raises(ConfigurationError, match=r"RADIOBJECT_MEMORY_MB is .* whole number") as caught:
        build_definitions(dataset)
    assert "\n" not in str(caught.value)


def test_a_variable_without_a_value_counts_as_absent(
    dataset: DatasetSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RADIOBJECT_MEMORY_MB", "RADIOBJECT_WORKERS", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.setenv(name, "")
    resources = build_definitions(dataset).resources or {}
    assert resources["memory"].total_mb == 2048
    assert resources["storage"].endpoint_url is None
