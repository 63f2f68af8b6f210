"""What an object shows stays what it is: a view names the same patients whatever is written afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radiobject_assets.errors import ViewError
from radiobject_assets.store import (
    RadiObject,
    VolumeCollection,
    commit_volumes,
    stage_volume,
    upsert_subjects,
)
from tests.store.conftest import put, voxels

ROOT = Path(__file__).parents[2]


@pytest.fixture
def two(store: str) -> str:
    for number, subject in enumerate(("s1", "s3")):
        put(store, "ct", subject, number, grade=number)
    return store


def test_a_view_of_subjects_shows_the_same_ones_after_its_root_was_refreshed(two: str) -> None:
    radi = RadiObject(two)
    view, volumes = radi.iloc[[1]], radi.ct.iloc[[1]]
    put(two, "ct", "s2", 9)
    radi.refresh()
    assert radi.obs_subject_ids == ["s1", "s2", "s3"]
    for shown in (view.ct, volumes):
        assert shown.obs_ids == ["s3_ct"]
        assert np.array_equal(shown[0].to_numpy(stored=True), voxels(1))
    assert view.obs_subject_ids == view.obs_meta.read()["obs_subject_id"].tolist() == ["s3"]


def test_a_view_of_volumes_shows_the_same_ones_after_its_root_was_refreshed(two: str) -> None:
    collection = VolumeCollection(f"{two}/collections/ct")
    view, query = collection.filter("grade == 1"), collection.lazy().tail(1)
    put(two, "ct", "s4", 9, grade=1)
    collection.refresh()
    assert collection.obs_ids == ["s1_ct", "s3_ct", "s4_ct"]
    assert view.obs_ids == query.to_obs()["obs_id"].tolist() == ["s3_ct"]


def test_a_view_of_values_is_that_of_a_filter_and_reads_no_other_row(two: str) -> None:
    collection = VolumeCollection(f"{two}/collections/ct")
    put(two, "ct", "s4", 9, grade=1)
    collection.refresh()
    for column, values in (("obs_id", ["s3_ct", "s1_ct", "none"]), ("kind", ["image"]), ("kind", [])):
        view, filtered = collection.with_values(column, values), collection.filter(f"{column} in {values!r}")
        pd.testing.assert_frame_equal(view.to_obs(), filtered.to_obs())
        assert [one.obs_id for one in view] == filtered.obs_ids
        assert len(view.with_values("obs_id", ["s3_ct"])) == int(bool(values))
    view = collection.with_values("obs_id", ["s3_ct"])
    put(two, "ct", "s3", 5, grade=3)
    assert view.to_obs()["grade"].tolist() == [1]
    assert np.array_equal(view.loc["s3_ct"].to_numpy(stored=True), voxels(1))
    with pytest.raises(ViewError):
        view.refresh()


def test_a_collection_does_not_mix_two_states_when_its_store_is_refreshed(two: str) -> None:
    radi = RadiObject(two)
    collection = radi.ct
    assert collection.shape == voxels(0).shape  # sizes are read, the names of arrays are not
    uri = f"{two}/collections/ct"
    commit_volumes(uri, [stage_volume(uri, obs_id="s1_ct", obs_subject_id="s1", voxels=voxels(7, (3, 2, 2)))])
    radi.refresh()
    assert np.array_equal(collection["s1_ct"].to_numpy(stored=True), voxels(0))
    assert collection.obs["grade"]["grade"].tolist() == [0, 1]
    assert radi.ct["s1_ct"].shape == (3, 2, 2)


def test_an_object_sees_what_was_written_through_its_tables_and_collections(two: str) -> None:
    radi = RadiObject(two)
    radi.obs_meta.update(pd.DataFrame({"obs_subject_id": ["s1", "s3"], "age": [50, 60]}))
    assert radi.filter("age > 55").obs_subject_ids == ["s3"]
    radi.ct.obs.update(pd.DataFrame({"obs_subject_id": ["s1"], "obs_id": ["s1_ct"], "note": ["fine"]}))
    assert radi.ct.filter("note == 'fine'").obs_ids == ["s1_ct"]
    radi.ct.delete(["s1_ct"])
    assert radi.ct.obs_ids == radi.all_obs_ids == ["s3_ct"]


def test_a_choice_of_all_collections_is_a_view_too(two: str) -> None:
    view = RadiObject(two).select_collections(["ct"])
    assert view.is_view
    for change in (view.refresh, lambda: view.rename_collection("ct", "mr")):
        with pytest.raises(ViewError):
            change()
    upsert_subjects(two, pd.DataFrame({"obs_subject_id": ["s5"]}))
    assert view.obs_subject_ids == ["s1", "s3"]


def test_a_collection_becomes_a_data_set_through_the_entry_point(two: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    groups = {group: "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in offered.items()}
    lines = [f"[{group}]\n{names}" for group, names in groups.items()]
    installed = tmp_path / "radiobject_assets-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: radiobject-assets\nVersion: 0\n")
    (installed / "entry_points.txt").write_text("\n".join(lines))
    code = (
        f"from radiobject_assets import RadiObject; print(RadiObject({two!r}).ct.to_dataset()[1]['obs_id'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "s3_ct", done.stderr
