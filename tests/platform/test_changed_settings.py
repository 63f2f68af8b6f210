"""dataset.yaml changes, or archives and loose files come: the platform follows, by the real sensors."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.headless import open_instance, run_pass
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


def test_another_division_by_hand_makes_the_splits_stale(tmp_path: Path) -> None:
    def code_version() -> str | None:
        definitions = build_definitions(dataset(tmp_path, split={"by_hand": "hand.tsv"}))
        return definitions.resolve_asset_graph().get(dg.AssetKey("splits")).code_version

    found = [code_version()]
    for split in ("train", "test"):
        (tmp_path / "hand.tsv").write_text(f"subject\tsplit\none\t{split}\n")
        found.append(code_version())
    assert len(set(found)) == 3
    assert code_version() == found[-1]


def versions(instance: dg.DagsterInstance, name: str) -> list[str]:
    found = instance.fetch_materializations(dg.AssetKey(name), limit=10).records
    return [(r.asset_materialization.tags or {})["dagster/data_version"] for r in found]  # type: ignore[union-attr]  # a materialization has it


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
