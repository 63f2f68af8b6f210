"""dataset.yaml changes, or archives and loose files come: the platform follows, by the real sensors."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.automation.sensors import FOLLOW_UP_SENSOR
from radiobject_assets.platform.headless import evaluate_sensor, open_instance, run_pass
from radiobject_assets.store import RadiObject

SHAPE = (48, 48, 24)


def dataset(home: Path, ct: str = "ct", **more: object) -> DatasetSettings:
    return DatasetSettings.model_validate(
        {
            "folder": home,
            "collections": {
                ct: {"match": {"modality": "CT"}},
                "seg": {"match": {"modality": "SEG"}, "kind": "labels", "labels_of": ct},
            },
            "arrivals": {"quiet_period_s": 0, "trusted_names": "[a-z]+"},
            **more,
        }
    )


def rows(home: Path, name: str) -> list[dict[str, object]]:
    return RadiObject(str(home / "store")).collection(name).to_obs().reset_index().to_dict("records")


class DividedByHand:
    """A data set with a table by hand, whose definitions were loaded once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        make_subject(home / "landing", 1, arrival="drop", shape=SHAPE)
        settings = dataset(home, split={"by_hand": "hand.tsv"})
        self.definitions = build_definitions(settings)

    def write(self, split: str) -> None:
        text = f"subject\tsplit\nphantom-001\t{split}\n"
        (self.home / "hand.tsv").write_text(text, encoding="utf-8")

    def one_pass(self) -> dict[str, bool]:
        with open_instance(self.home / "dagster") as instance:
            return {run.what: run.succeeded for run in run_pass(self.definitions, instance).runs}

    def asked_for(self) -> list[str]:
        with open_instance(self.home / "dagster") as instance:
            found = evaluate_sensor(self.definitions, instance, FOLLOW_UP_SENSOR)
        return [key.to_user_string() for one in found.run_requests or [] for key in one.asset_selection]

    def split(self) -> str:
        return str(pd.read_parquet(self.home / "work" / "splits.parquet")["split"].item())


def test_a_division_by_hand_is_read_where_it_is_used_and_not_when_the_code_is_loaded(tmp_path: Path) -> None:
    home = DividedByHand(tmp_path)
    home.write("test")
    assert home.one_pass()["splits"]
    assert home.split() == "test"
    assert home.asked_for() == []
    home.write("train")
    assert home.asked_for() == ["splits"]


@pytest.mark.slow
def test_a_mistake_in_a_division_by_hand_is_tried_once_until_it_is_mended(tmp_path: Path) -> None:
    home = DividedByHand(tmp_path)
    home.write("no-such-split")
    assert not home.one_pass()["splits"]
    assert home.one_pass() == {}
    home.write("test")
    assert home.one_pass()["splits"]
    assert home.split() == "test"
    home.write("no-such-split")
    assert home.one_pass() == {"splits": False}
    assert home.one_pass() == {}
    home.write("train")
    assert home.one_pass()["splits"]
    assert home.split() == "train"


def versions(instance: dg.DagsterInstance, name: str) -> list[str]:
    found = instance.fetch_materializations(dg.AssetKey(name), limit=10).records
    return [(r.asset_materialization.tags or {})["dagster/data_version"] for r in found]  # type: ignore[union-attr]  # a materialization has it


@pytest.mark.slow
def test_a_changed_dataset_yaml_reaches_what_is_stored(tmp_path: Path) -> None:
    make_subject(tmp_path / "made", 1, arrival="drop", shape=SHAPE)
    (tmp_path / "landing").mkdir()
    # an archive in the landing zone itself, and a file that belongs to nothing
    shutil.make_archive(str(tmp_path / "landing" / "drop"), "zip", tmp_path / "made" / "drop")
    (tmp_path / "landing" / "Doe_Jane.dcm").write_bytes(b"stray")
    first = dataset(tmp_path)
    moved = dataset(tmp_path, "thin", attributes=["SeriesDescription"])
    with open_instance(tmp_path / "dagster") as instance:
        done = run_pass(build_definitions(first), instance)
        assert done.failed == ()
        assert len(done.arrivals) == 1
        tokens = {row["volume"] for row in rows(tmp_path, "ct")}
        assert len(tokens) == 2
        (told,) = instance.fetch_observations(dg.AssetKey("raw_dicom"), limit=5).records
        assert told.event_log_entry.asset_observation is not None
        assert told.event_log_entry.asset_observation.metadata["loose_files"].value == 1

        done = run_pass(build_definitions(moved), instance)
        assert done.failed == ()
        assert len(done.arrivals) == 1
        assert run_pass(build_definitions(moved), instance).runs == ()
        assert len(set(versions(instance, "seg"))) == 2
    # `ct` is no asset any more: what it holds stays, and is told of
    assert {row["volume"] for row in rows(tmp_path, "ct")} == tokens
    assert all(row["series_description"] for row in rows(tmp_path, "thin"))
    (labels,) = rows(tmp_path, "seg")
    assert labels["labels_of_collection"] == "thin"
