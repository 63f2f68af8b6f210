"""Rows that the store writes itself are, byte for byte, the fragments that TileDB would have written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiledb
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject_assets.errors import SchemaError, StorageError
from radiobject_assets.store.columns import Column, ColumnType, table_filters
from radiobject_assets.store.context import get_tiledb_ctx
from radiobject_assets.store.evolution import schema_names
from radiobject_assets.store.table import Table
from radiobject_assets.store.table_cells import write_rows
from radiobject_assets.store.table_creation import create_table
from radiobject_assets.store.table_fragment import columns_alike, encode_rows, schema_of

FIXED = Column("fixed", ColumnType.FLOAT64, nullable=False, free=False)
TEXT = Column("text", ColumnType.UTF8, nullable=False, free=False)
CORE = {column.name: column for column in (FIXED, TEXT)}
ASCII = st.text(st.characters(codec="ascii", exclude_characters="\x00"), min_size=1, max_size=20)


def values_of(kind: ColumnType) -> st.SearchStrategy[Any]:
    """Values of a type whose sums are exact in any order."""
    if kind is ColumnType.UTF8:
        return st.text(st.characters(codec="utf-8"), max_size=30)
    if kind is ColumnType.BOOL:
        return st.booleans()
    if kind in (ColumnType.FLOAT32, ColumnType.FLOAT64):
        return st.integers(-1000, 1000).filter(bool).map(lambda n: n / 8)
    limits = np.iinfo(kind.disk_dtype)
    return st.integers(max(limits.min, -(10**9)), min(limits.max, 10**9))


@st.composite
def tables(draw: st.DrawFn) -> tuple[tuple[str, ...], pa.Table]:
    """Names of one or two keys; and rows with them, both columns of the format, and some free ones."""
    index = draw(st.sampled_from([("a",), ("a", "b")]))
    key = st.tuples(*[ASCII] * len(index))
    keys = draw(st.lists(key, min_size=1, max_size=12, unique=True))
    columns = {
        name: pa.array([key[position] for key in keys], pa.large_string())
        for position, name in enumerate(index)
    }
    for column in (FIXED, TEXT):
        values = draw(st.lists(values_of(column.type), min_size=len(keys), max_size=len(keys)))
        columns[column.name] = pa.array(values, column.type.arrow)
    for kind in draw(st.sets(st.sampled_from(list(ColumnType)), max_size=4)):
        maybe = st.none() | values_of(kind)
        values = draw(st.lists(maybe, min_size=len(keys), max_size=len(keys)))
        plain = pa.int64() if kind is ColumnType.TIME_MS else kind.arrow
        columns[f"free {kind}"] = pa.array(values, plain).cast(kind.arrow)
    return index, pa.table(columns)


def files_of(folder: Path) -> dict[str, bytes]:
    (fragment,) = (folder / "__fragments").iterdir()
    return {path.name: path.read_bytes() for path in fragment.iterdir()}


@settings(max_examples=25, deadline=None)
@given(table=tables())
def test_the_files_are_those_of_tiledb(
    table: tuple[tuple[str, ...], pa.Table], tmp_path_factory: pytest.TempPathFactory
) -> None:
    index, rows = table
    folder, ctx = tmp_path_factory.mktemp("table") / "t", get_tiledb_ctx()
    free = [Column(name, ColumnType(name[5:])) for name in rows.column_names if "free" in name]
    unset = [Column("unset", ColumnType.INT16), Column("unset", ColumnType.UTF8)]
    create_table(str(folder), index, [*CORE.values(), *unset, *free], ctx)
    physical, written = Table(str(folder), ctx, CORE).physical, [*CORE.values(), *free]
    with tiledb.open(str(folder), "w", ctx=ctx) as array:
        write_rows(array, rows, index, written, physical, ctx)
    (name,) = schema_names(str(folder), ctx)
    schema = schema_of((folder / "__schema" / name).read_bytes(), name, ctx)
    assert schema is not None
    assert columns_alike(schema, physical)
    assert encode_rows(rows, written, physical, schema, name) == files_of(folder)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    create_table(str(tmp_path / "t"), ("a", "b"), [FIXED], get_tiledb_ctx())
    return Table(str(tmp_path / "t"), get_tiledb_ctx(), CORE)


def rows_with(keys: list[str], fixed: list[float | None], **columns: Any) -> pa.Table:
    text = pa.array(keys, pa.large_string())
    return pa.table({"a": text, "b": text, "fixed": pa.array(fixed, pa.float64()), **columns})


@pytest.mark.parametrize(
    ("keys", "fixed", "note"),
    [
        (["患者", "é", "z"], [1.0, 2.0, 3.0], "x"),
        (["s1", "s2"], [float("nan"), float("-inf")], "x"),
        (["s1"], [1e308], "long " * 20_000),
        ([f"s{number:05}" for number in range(1500)], [0.5] * 1500, "x"),
    ],
    ids=["other scripts", "no numbers", "long text", "many rows"],
)
def test_what_only_tiledb_writes_is_read_back(
    table: Table, keys: list[str], fixed: list[float | None], note: str
) -> None:
    notes = pa.array([note] * len(keys), pa.large_string())
    for _ in range(2):
        table.upsert(rows_with(["plain"], [7.0], note=notes[:1]))
        table.upsert(rows_with(keys, fixed, note=notes))
    found = {row["a"]: (row["fixed"], row["note"]) for row in table.read().to_pylist()}
    assert repr(found.pop("plain")) == repr((7.0, note))
    assert repr(sorted(found.items())) == repr(
        sorted((key, (value, note)) for key, value in zip(keys, fixed, strict=True))
    )


def test_two_rows_of_one_key_and_missing_values_are_refused_and_change_nothing(table: Table) -> None:
    table.upsert(rows_with(["s1"], [1.0]))
    with pytest.raises(StorageError):
        table.upsert(rows_with(["s2", "s2"], [1.0, 2.0]))
    with pytest.raises(SchemaError):
        table.upsert(rows_with(["s2"], [None]))
    assert table.read().column("a").to_pylist() == ["s1"]


def test_a_disk_that_refuses_leaves_nothing_of_a_commit(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    table.upsert(rows_with(["s1"], [1.0]))
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            table.upsert(rows_with(["s1"], [2.0]))
    assert len(list(Path(table.uri, "__fragments").iterdir())) == 1
    assert table.read().column("fixed").to_pylist() == [1.0]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, os.strerror(errno.EIO))], ids=repr)
def test_a_commit_that_is_stopped_while_it_waits_for_its_last_file_leaves_a_table_that_can_be_read(
    table: Table, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    wait = os.fsync

    def stop(file: int) -> None:
        wait(file)
        if list(Path(table.uri, "__commits").iterdir()) != before:
            raise error

    table.upsert(rows_with(["s1"], [1.0]))
    before = list(Path(table.uri, "__commits").iterdir())
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", stop)
        with pytest.raises((KeyboardInterrupt, StorageError)):
            table.upsert(rows_with(["s1"], [2.0]))
    assert table.read().column("fixed").to_pylist() == [1.0]
    table.upsert(rows_with(["s1"], [3.0]))
    assert table.read().column("fixed").to_pylist() == [3.0]
    assert len(list(Path(table.uri, "__fragments").iterdir())) == 2


def test_a_table_that_another_program_made_is_written_with_its_own_filters(tmp_path: Path) -> None:
    ctx = get_tiledb_ctx()
    filters = tiledb.FilterList(
        [tiledb.GzipFilter(level=3, ctx=ctx), tiledb.ChecksumMD5Filter(ctx=ctx)], ctx=ctx
    )
    attributes = [tiledb.Attr("_row", dtype=np.uint8, filters=filters, ctx=ctx), FIXED.to_attr(ctx, filters)]
    for number, offsets in enumerate((filters, table_filters(ctx))):
        dims = [
            tiledb.Dim(name, domain=(None, None), tile=None, dtype=np.bytes_, filters=filters, ctx=ctx)
            for name in ("a", "b")
        ]
        schema = tiledb.ArraySchema(
            tiledb.Domain(*dims, ctx=ctx), attributes, sparse=True, offsets_filters=offsets, ctx=ctx
        )
        tiledb.Array.create(str(tmp_path / f"{number}"), schema, ctx=ctx)
        table = Table(str(tmp_path / f"{number}"), ctx, CORE)
        table.upsert(rows_with(["s1", "s2"], [1.0, 2.0], note=pa.array(["x", None], pa.large_string())))
        table.upsert(rows_with(["s2"], [3.0]))
        assert table.read().to_pydict() == {
            "a": ["s1", "s2"],
            "b": ["s1", "s2"],
            "fixed": [1.0, 3.0],
            "note": ["x", None],
        }
