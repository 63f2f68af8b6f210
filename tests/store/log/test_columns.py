"""Columns of several types, of none, dropped and added again; and keys of any characters."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from radiobject_assets.errors import SchemaError
from radiobject_assets.store import RadiObject, consolidate, create_snapshot, upsert_subjects
from radiobject_assets.store.log.commit_log import Log
from radiobject_assets.store.log.compaction import consolidate_tables
from radiobject_assets.store.storage import open_storage
from radiobject_assets.store.tables.table import Table, create_table

TEXT = pa.large_string()
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """An empty table with one key column."""
    uri = str(tmp_path / "table")
    create_table(uri, ("key",), [])
    return Table(uri)


def put(table: Table, key: str, **values: pa.Array) -> None:
    table.upsert(pa.table({"key": pa.array([key], TEXT), **values}))


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (pa.array([1]), pa.array([1.5]), [1.0, 1.5]),
        (pa.array([1]), pa.array(["x"], TEXT), ["1", "x"]),
        (pa.array([2.5]), pa.array(["x"], TEXT), ["2.5", "x"]),
        (pa.array([3], pa.int8()), pa.array([2**40]), [3, 2**40]),
        (pa.array([2**64 - 1], pa.uint64()), pa.array([-1]), [str(2**64 - 1), "-1"]),
        (pa.array([WHEN], pa.timestamp("ms", "UTC")), pa.array([None], TEXT), None),
        (pa.array([True]), pa.array([None], pa.bool_()), [True, None]),
    ],
)
def test_a_column_holds_values_of_two_types_as_they_were_given(
    table: Table, one: pa.Array, other: pa.Array, found: list[object] | None, merged: bool
) -> None:
    put(table, "a", value=one)
    put(table, "b", value=other)
    if merged:
        consolidate_tables(Log(open_storage(table.uri)))
        table.close()
    values = table.read().column("value").to_pylist()
    if found is None:
        assert str(values[0]).startswith("2026-01-02")
        assert values[1] is None
    else:
        assert values == found
        assert [type(value) for value in values] == [type(value) for value in found]


def test_a_column_that_was_dropped_and_added_again_has_nothing_of_what_it_had(table: Table) -> None:
    put(table, "a", value=pa.array([1]), other=pa.array([5]))
    put(table, "b", value=pa.array([2]), other=pa.array([6]))
    table.drop_columns(["value"])
    assert table.columns == ("other",)
    put(table, "b", value=pa.array(["text"], TEXT))
    assert table.read().sort_by("key").to_pylist() == [
        {"key": "a", "other": 5, "value": None},
        {"key": "b", "other": None, "value": "text"},
    ]


def test_a_column_without_any_value_is_there(table: Table) -> None:
    put(table, "a", empty=pa.array([None], TEXT), nothing=pa.nulls(1))
    assert table.columns == ("empty", "nothing")
    assert table.read().to_pylist() == [{"key": "a", "empty": None, "nothing": None}]


def test_keys_of_any_characters_are_told_apart(table: Table) -> None:
    keys = [
        "a",
        "A",
        "a ",
        " a",
        "ä",
        "a\u0308",
        "患者-1",
        "🫀",
        "'; --",
        "a/b",
        "../x",
        "%2e",
        "\u202eab",
        "\x7f",
    ]
    for number, key in enumerate(keys):
        put(table, key, n=pa.array([number]))
    assert table.read().num_rows == len(keys)
    for number, key in enumerate(keys):
        assert table.read(["n"], keys=[[key]]).to_pylist() == [{"key": key, "n": number}]
    table.delete([(keys[3],)])
    assert table.read().column("key").to_pylist() == sorted(key for key in keys if key != keys[3])


@pytest.mark.parametrize("first", [2**53 + 1, 1.5])
def test_a_whole_number_keeps_its_digits_beside_others_through_every_merge(store: str, first: float) -> None:
    second = 1.5 if first != 1.5 else 2**53 + 1
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["a"], "c": [first]}))
    for number in range(6):
        upsert_subjects(store, pd.DataFrame({"obs_subject_id": [f"b{number}"], "c": [second]}))
    before = RadiObject(store).obs_meta.read()["c"].tolist()
    assert before == [str(first), *[str(second)] * 6]
    digest = create_snapshot(store, "before").digest
    consolidate(store)
    assert RadiObject(store).obs_meta.read()["c"].tolist() == before
    assert create_snapshot(store, "after").digest == digest


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (pd.Timestamp("2020-01-02", tz="UTC"), 5, "5"),
        (7, "4", "4"),
        (True, 1, 1),
        (7, pd.Timestamp("2020-01-02", tz="UTC"), "2020-01-02 00:00:00.000Z"),
    ],
)
def test_a_value_of_another_kind_is_not_made_one_of_the_column(
    store: str, kind: object, value: object, shown: object
) -> None:
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["a"], "c": [kind]}))
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["b"], "c": [value]}))
    assert RadiObject(store).obs_meta.read()["c"].tolist()[1] == shown


def test_a_column_that_would_mark_deletions_is_refused(store: str) -> None:
    with pytest.raises(SchemaError, match="_deleted"):
        upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["a"], "_deleted": [True]}))
