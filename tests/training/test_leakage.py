"""What counts as leakage between splits."""

from __future__ import annotations

import pandas as pd
import pytest

from radiobject_assets.errors import SchemaError
from radiobject_assets.training.split_leakage import find_leakage

SPLITS = pd.DataFrame({"obs_subject_id": ["a", "b", "c"], "split": ["train", "train", "test"]})


def obs(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"obs_subject_id": ["a", "b", "c"], **columns})


def test_a_clean_split_has_no_findings():
    clean = obs(series_uid=["1", "2", "3"], study_uid=["4", "4", "5"], voxel_digest=["x", "x", "y"])
    assert find_leakage(SPLITS, clean).empty


def test_a_subject_in_two_splits_is_found():
    twice = pd.concat([SPLITS, pd.DataFrame({"obs_subject_id": ["a"], "split": ["test"]})])
    (finding,) = find_leakage(twice, obs()).itertuples(index=False)
    assert finding == ("subject_in_two_splits", "a", ("test", "train"), ("a",))


@pytest.mark.parametrize(
    ("column", "kind"),
    [("series_uid", "shared_series"), ("study_uid", "shared_study"), ("voxel_digest", "shared_voxels")],
)
def test_the_same_person_under_two_ids_is_found(column, kind):
    (finding,) = find_leakage(SPLITS, obs(**{column: ["1", "2", "1"]})).itertuples(index=False)
    assert finding == (kind, "1", ("test", "train"), ("a", "c"))


def test_values_that_are_absent_link_nobody():
    table = obs(series_uid=["", "", ""], study_uid=[None, None, None], voxel_digest=["x", "y", "z"])
    assert find_leakage(SPLITS, table).empty


def test_two_empty_masks_are_not_the_same_person():
    assert find_leakage(SPLITS, obs(voxel_digest=["0", "1", "0"], kind=["labels"] * 3)).empty


def test_a_subject_without_a_split_is_found():
    table = pd.concat([obs(), pd.DataFrame({"obs_subject_id": ["d"]})])
    assert find_leakage(SPLITS, table)["kind"].tolist() == ["unassigned_subject"]


def test_obs_may_have_its_ids_in_the_index():
    table = obs(series_uid=["1", "2", "1"]).set_index("obs_subject_id")
    assert find_leakage(SPLITS, table)["kind"].tolist() == ["shared_series"]


def test_a_table_without_the_needed_columns_is_refused():
    with pytest.raises(SchemaError, match="split table lacks split"):
        find_leakage(SPLITS[["obs_subject_id"]], obs())
