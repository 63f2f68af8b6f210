"""Outcomes of all arrivals are read once each, and never an old one in the place of a new one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pandas as pd
import pytest

from radiobject_assets.platform.checks.collected_outcomes import collect_outcomes
from radiobject_assets.resources import WorkingTables
from radiobject_assets.store import make_ctx, open_storage
from tests.store.conftest import S3Server, s3_server

__all__ = ["s3_server"]


def outcomes(n: int, status: str = "written") -> pd.DataFrame:
    return pd.DataFrame({"series_uid": [f"1.2.{i}" for i in range(n)], "status": status, "also": None})


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> WorkingTables:
    if request.param == "local":
        return WorkingTables(open_storage(str(tmp_path / "tables"), make_ctx()))
    server: S3Server = request.getfixturevalue("s3_server")
    return WorkingTables(open_storage(f"s3://{server.bucket}/{secrets.token_hex(6)}", server.ctx()))


def test_only_what_was_written_since_is_read(tables: WorkingTables, tmp_path: Path) -> None:
    for number in range(5):
        tables.put_frame(tables.outcomes(f"a-{number}", "ct"), outcomes(number))
    tables.put_frame(tables.outcomes("a-0", "seg"), outcomes(9))
    for _ in range(2):  # the second time from what was gathered
        found = collect_outcomes(tables, "ct", tmp_path)
        assert sorted(found.arrivals) == [f"a-{number}" for number in range(5)]
        assert {key: len(rows) for key, rows in found.by_arrival().items()} == {
            f"a-{number}": number for number in range(5)
        }
    tables.put_frame(tables.outcomes("a-2", "ct"), outcomes(2, "quarantined"))
    tables.remove(tables.outcomes("a-4", "ct"))
    tables.put_frame(tables.outcomes("a-9", "ct"), outcomes(1))
    found = collect_outcomes(tables, "ct", tmp_path)
    assert set(found.arrivals) == {"a-0", "a-1", "a-2", "a-3", "a-9"}
    assert set(found.by_arrival()["a-2"]["status"]) == {"quarantined"}
    assert len(found.rows) == 7


def test_what_was_gathered_may_be_lost_or_damaged(tables: WorkingTables, tmp_path: Path) -> None:
    tables.put_frame(tables.outcomes("one", "ct"), outcomes(3))
    collect_outcomes(tables, "ct", tmp_path)
    (file,) = (tmp_path / "collected").iterdir()
    for content in (b"", b"PAR1 no table", file.read_bytes()[:-7]):
        file.write_bytes(content)
        assert len(collect_outcomes(tables, "ct", tmp_path).rows) == 3
    file.unlink()
    assert len(collect_outcomes(tables, "ct", tmp_path).rows) == 3


def test_a_file_that_was_gathered_is_not_read_again(tmp_path: Path) -> None:
    tables = WorkingTables(open_storage(str(tmp_path / "tables"), make_ctx()))
    for number in range(3):
        tables.put_frame(tables.outcomes(f"a-{number}", "ct"), outcomes(2))
    collect_outcomes(tables, "ct", tmp_path)
    for path in (tmp_path / "tables").rglob("*.parquet"):  # a reader would fail; number, time, size stay
        stat = path.stat()
        with path.open("r+b") as file:
            file.write(b"\0" * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(collect_outcomes(tables, "ct", tmp_path).rows) == 6
