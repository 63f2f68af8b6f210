"""Tables: rows found by a column's values, rows written only where they differ, columns that many add."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from radiobject_assets.errors import SchemaError
from radiobject_assets.store import upsert_subjects
from radiobject_assets.store.names import OBS_META
from radiobject_assets.store.storage.context import get_tiledb_ctx
from radiobject_assets.store.storage.uris import join
from radiobject_assets.store.tables.table import Table, create_table

TEXT = pa.large_string()


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """An empty table with one key column."""
    uri = str(tmp_path / "table")
    create_table(uri, ("key",), [])
    return Table(uri, get_tiledb_ctx())


def rows(keys: str, **columns: object) -> pa.Table:
    return pa.table({"key": pa.array(list(keys), TEXT), **columns})


def segments(table: Table) -> int:
    """How many there are now."""
    table.close()
    return len(table.state.segments)


def test_rows_are_found_by_the_values_of_a_column_as_they_are_now(table: Table) -> None:
    table.upsert(rows("abcd", uid=pa.array(["1.2", "1.2", "x'\"y", "患者"], TEXT), n=[1, 2, 3, 4]))
    assert table.rows_where("uid", ["1.2"], []).to_pydict() == {"key": ["a", "b"]}
    assert table.rows_where("uid", ["患者", "x'\"y", "1.9"], ["n"]).to_pydict() == {
        "key": ["c", "d"],
        "n": [3, 4],
    }
    table.upsert(rows("a", uid=pa.array(["1.3"], TEXT)))
    table.delete([("b",)])
    assert table.rows_where("uid", ["1.2"]).num_rows == 0
    assert table.rows_where("uid", []).num_rows == 0
    assert table.rows_where("uid", ["1.3"]).to_pylist() == [{"key": "a", "uid": "1.3", "n": None}]
    with pytest.raises(SchemaError, match="no text column 'n'"):
        table.rows_where("n", ["1"])


def test_a_column_of_several_types_is_text_where_no_number_holds_all_of_it(table: Table) -> None:
    table.upsert(rows("a", n=pa.array([2**60 + 1], pa.int64()), m=pa.array([2**63 + 5], pa.uint64())))
    table.upsert(rows("b", n=pa.array([1.5], pa.float64()), m=pa.array([-1], pa.int8())))
    found = table.read().to_pydict()
    assert found["n"] == [str(2**60 + 1), "1.5"]
    assert found["m"] == [str(2**63 + 5), "-1"]


def test_subjects_written_again_unchanged_leave_no_segment(store: str) -> None:
    frame = pd.DataFrame({"obs_subject_id": ["a", "b"], "age": [30, None], "site": ["x", None]})
    upsert_subjects(store, frame)
    table = Table(join(store, OBS_META), get_tiledb_ctx())
    assert segments(table) == 1
    upsert_subjects(store, frame)
    upsert_subjects(store, frame[["obs_subject_id", "site"]].iloc[:1])
    assert segments(table) == 1
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["b", "a"], "age": [31, 30]}))
    assert segments(table) == 2
    assert table.read().to_pylist() == [
        {"obs_subject_id": "a", "age": 30.0, "site": "x"},
        {"obs_subject_id": "b", "age": 31.0, "site": None},
    ]
    upsert_subjects(store, pd.DataFrame({"obs_subject_id": ["a"], "note": [None]}))
    assert segments(table) == 2
    table.close()
    assert table.columns == ("age", "site", "note")
