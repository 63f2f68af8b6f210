"""A delivery of four phantom patients, taken in with a dataset.yaml, as its own tests change it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from delivery import DATASET, Delivery, take_in

from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.store import RadiObject, create_snapshot, upsert_subjects


@pytest.fixture(scope="session")
def _delivered(tmp_path_factory: pytest.TempPathFactory) -> Delivery:
    home = tmp_path_factory.mktemp("curation")
    folder = home / "delivery"
    make_cohort(folder, subjects=4, seed=7, shape=(48, 48, 24))
    dataset = home / "dataset.yaml"
    dataset.write_text(DATASET, encoding="utf-8")
    uri = str(home / "store")
    take_in(folder, uri, load_dataset(dataset))
    ids = RadiObject(uri).obs_subject_ids
    splits = [["train", "validation", "test"][i % 3] for i in range(len(ids))]
    upsert_subjects(uri, pd.DataFrame({"obs_subject_id": ids, "assigned_split": splits}))
    create_snapshot(uri, "first")
    return Delivery(folder, dataset, uri)


@pytest.fixture
def delivered(_delivered: Delivery, tmp_path: Path) -> Delivery:
    """A copy of the store and its files, for one test to change as it likes."""
    shutil.copytree(_delivered.folder, tmp_path / "delivery")
    shutil.copytree(_delivered.uri, tmp_path / "store")
    dataset = tmp_path / "dataset.yaml"
    shutil.copy(_delivered.dataset, dataset)
    return Delivery(tmp_path / "delivery", dataset, str(tmp_path / "store"))
