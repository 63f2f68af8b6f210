"""Rows of obs_meta over several arrivals: nothing known is lost, nothing is written twice."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from radiobject_assets.ingest.naming.subject_table import write_subjects
from radiobject_assets.store import RadiObject
from radiobject_assets.store.format.layout import ensure_store

NOBODY = pd.DataFrame({"obs_subject_id": pd.Series(dtype="str")})


def table(**ages: float) -> pd.DataFrame:
    return pd.DataFrame({"obs_subject_id": list(ages), "age": list(ages.values())})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    ensure_store(str(tmp_path / "store"))
    return tmp_path / "store"


def ages(store: Path) -> dict[str, float | None]:
    rows = RadiObject(str(store)).obs_meta.read().set_index("obs_subject_id")
    column = rows["age"] if "age" in rows else pd.Series(index=rows.index, dtype="float64")
    return {str(name): None if pd.isna(age) else float(age) for name, age in column.items()}


def commits(store: Path) -> int:
    return len(list((store / "log").rglob("*.json")))


def test_a_later_arrival_that_does_not_list_a_subject_keeps_what_is_known(store: Path) -> None:
    write_subjects(str(store), ["s1"], table(s1=44))
    write_subjects(str(store), ["s1", "s2"], table(s2=50))
    write_subjects(str(store), ["s1", "s3"], NOBODY)
    assert ages(store) == {"s1": 44, "s2": 50, "s3": None}
    write_subjects(str(store), ["s1"], table(s1=45))
    assert ages(store)["s1"] == 45


def test_the_same_table_again_leaves_the_store_as_it_is(store: Path) -> None:
    write_subjects(str(store), ["s1", "s2"], table(s1=44, s2=50))
    before = commits(store)
    write_subjects(str(store), ["s1", "s2"], table(s1=44, s2=50))
    assert commits(store) == before
