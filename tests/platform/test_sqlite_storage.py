"""A pass keeps its own engines for Dagster's SQLite files; what it writes is Dagster's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from radiobject_assets.platform.headless import open_instance


@dg.asset
def three() -> dg.MaterializeResult[None]:
    """Something that can be made."""
    return dg.MaterializeResult(metadata={"value": 3})


def schema(file: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(file)) as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchall()
        return mode + sorted(
            connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL UNION ALL "
                               "SELECT version_num FROM alembic_version").fetchall()
        )  # fmt: skip


def test_what_a_pass_writes_is_read_and_continued_by_dagsters_own_storage(tmp_path: Path) -> None:
    with open_instance(tmp_path) as instance:
        runs = [dg.materialize([three], instance=instance).run_id for _ in range(3)]
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        runs.append(dg.materialize([three], instance=instance).run_id)
        found = instance.fetch_materializations(three.key, limit=10).records
        assert {record.run_id for record in found} == set(runs)
        assert all(len(instance.all_logs(run)) > 5 for run in runs)
    with open_instance(tmp_path) as instance:
        assert len(instance.all_logs(runs[-1])) > 5
    # the first was made by Alembic, the next two are copies, the last is Dagster's
    files = [tmp_path / "history" / "runs" / f"{run}.db" for run in runs]
    assert all(schema(file) == schema(files[-1]) for file in files)
    assert not list(tmp_path.rglob("*.new*"))


def test_a_storage_that_somebody_chose_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(f"storage:\n  sqlite:\n    base_dir: {tmp_path / 'elsewhere'}\n")
    with open_instance(tmp_path) as instance:
        run = dg.materialize([three], instance=instance).run_id
    assert (tmp_path / "elsewhere" / "history" / "runs" / f"{run}.db").is_file()


@pytest.mark.parametrize("name", ["runs.db", "index.db"])
def test_files_lie_where_dagster_keeps_them(tmp_path: Path, name: str) -> None:
    with open_instance(tmp_path):
        pass
    assert len(list((tmp_path / "history").rglob(name))) == 1
