"""Splits, manifests and cards as the assets make them, arrival by arrival."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from radiobject_assets.cli.demo import DATASET_YAML
from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.assets.partitions import asset_key
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.store import RadiObject

SHAPE = (48, 48, 24)


def arrive(home: Path, number: int) -> None:
    make_subject(home / "landing", number, seed=7, shape=SHAPE)


def one_pass(home: Path) -> None:
    definitions = build_definitions(load_dataset(home / "dataset.yaml"))
    with open_instance(home / "dagster") as instance:
        run_pass(definitions, instance)


def latest(home: Path, name: str) -> dict[str, object]:
    settings = load_dataset(home / "dataset.yaml")
    with open_instance(home / "dagster") as instance:
        (record,) = instance.fetch_materializations(asset_key(settings, name), limit=1).records
    made = record.asset_materialization
    assert made is not None
    return {key: value.value for key, value in made.metadata.items()}


def check(home: Path, name: str) -> dg.AssetCheckEvaluation:
    settings = load_dataset(home / "dataset.yaml")
    key = dg.AssetCheckKey(asset_key(settings, "splits"), name)
    with open_instance(home / "dagster") as instance:
        (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None
    evaluation = record.event.dagster_event.event_specific_data
    assert isinstance(evaluation, dg.AssetCheckEvaluation)
    return evaluation


def splits(home: Path) -> dict[str, str]:
    rows = pd.read_parquet(home / "work" / "splits.parquet")
    return dict(zip(rows["obs_subject_id"], rows["split"], strict=True))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "landing").mkdir()
    (tmp_path / "dataset.yaml").write_text(DATASET_YAML, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_splits_outlive_a_lost_work_folder_and_snapshots_tell_what_changed(home: Path) -> None:
    arrive(home, 1)
    arrive(home, 2)
    one_pass(home)
    short = check(home, "splits_are_usable")
    assert not short.passed
    assert "a split without anything to train or test on" in str(short.description)
    assert "split.by_hand" in str(short.description)
    first = latest(home, "dataset")
    before = splits(home)
    stored = RadiObject(str(home / "store")).obs_meta.read().reset_index()
    assert dict(zip(stored["obs_subject_id"], stored["assigned_split"], strict=True)) == before

    (home / "work" / "splits.parquet").unlink()
    for number in (3, 4, 5):
        arrive(home, number)
    one_pass(home)

    after = splits(home)
    assert {name: after[name] for name in before} == before
    assert check(home, "splits_are_usable").passed
    assert check(home, "no_leakage").passed
    second = latest(home, "dataset")
    assert second["changes_since"] == first["snapshot"]
    assert second["subjects_added"] == 3
    assert second["volumes_added"] >= 6
    assert second["content_digest"] != first["content_digest"]
    divided = latest(home, "splits")
    kept = sorted((home / "work" / "manifests").glob("*.jsonl"))
    assert len(kept) == 2
    texts = [file.read_text(encoding="utf-8") for file in (home / "work" / "manifests").iterdir()]
    assert not [text for text in texts if "phantom-00" in text]
    digests = [json.loads(file.read_text(encoding="utf-8").splitlines()[-1])["digest"] for file in kept]
    assert divided["manifest_digest"] in digests
    assert "| Subjects | 5 |" in str(second["card"])
