"""Subjects that look wrong in Dagster: told without a name, mended by dataset.yaml; layouts as assets."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.dataset.layouts import LAYOUTS
from radiobject_assets.definitions import build_definitions
from radiobject_assets.platform.assets.partitions import ALL_VOLUMES, collection_names
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.store import RadiObject


def dataset(home: Path, **more: object) -> DatasetSettings:
    return DatasetSettings.model_validate(
        {
            "folder": home,
            "collections": {"mr": {"match": {"files": "imagesTr/*"}}},
            "arrivals": {"quiet_period_s": 0, "trusted_names": "[a-z]+"},
            **more,
        }
    )


@pytest.mark.slow
def test_a_warning_without_names_and_a_pattern_that_moves_each_case_to_its_subject(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        path = tmp_path / "landing" / "drop" / "imagesTr" / f"mueller_{number:03}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.full((5, 4, 3), number, np.int16), np.eye(4)), path)
    with open_instance(tmp_path / "dagster") as instance:
        assert run_pass(build_definitions(dataset(tmp_path)), instance).failed == ()
        (record,) = instance.fetch_materializations(dg.AssetKey("series"), limit=1).records
        assert record.asset_materialization is not None
        metadata = record.asset_materialization.metadata
        told = str(metadata["subjects_that_look_wrong"].value)
        assert metadata["doubtful_subjects"].value == 3
        assert LAYOUTS["decathlon"].file_name in told
        assert "mueller" not in told

        mended = dataset(tmp_path, subjects={"file_name": LAYOUTS["decathlon"].file_name})
        assert run_pass(build_definitions(mended), instance).failed == ()
        (record,) = instance.fetch_materializations(dg.AssetKey("series"), limit=1).records
        assert record.asset_materialization is not None
        assert "subjects_that_look_wrong" not in record.asset_materialization.metadata
    obs = RadiObject(str(tmp_path / "store")).collection("mr").obs.read()
    assert sorted(obs["obs_subject_id"]) == ["mueller_001", "mueller_002", "mueller_003"]


def test_a_layout_has_an_asset_for_each_collection_and_bids_one_for_all() -> None:
    for name in LAYOUTS:
        config = DatasetSettings.model_validate({"layout": name})
        assert build_definitions(config).resolve_asset_graph().get(dg.AssetKey("series"))
        expected = (ALL_VOLUMES,) if name == "bids" else tuple(config.collections)
        assert collection_names(config) == expected
