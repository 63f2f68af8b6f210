"""A database keeps the bytes of deleted rows until their room is needed: written anew, they are gone."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import dagster as dg
import sqlalchemy as sa

from radiobject_assets.errors import StorageError
from radiobject_assets.forgetting.dagster_events import event_database

_WAIT_S = 60.0
_POSTGRES_TABLES = (
    "event_logs", "asset_keys", "asset_event_tags", "asset_check_executions", "runs", "run_tags",
)  # fmt: skip


def write_anew(instance: dg.DagsterInstance) -> None:
    """Give back the room of what was deleted from an instance's databases, on SQLite and on Postgres.

    Raises
    ------
    StorageError
        A database is in use for too long; the same call again does the rest.
    """
    with event_database(instance) as connection:
        dialect = connection.engine.dialect.name
        if dialect == "postgresql":
            engine = connection.engine.execution_options(isolation_level="AUTOCOMMIT")
            with engine.connect() as own:
                for table in _POSTGRES_TABLES:
                    own.execute(sa.text(f"VACUUM FULL {table}"))
            return
    if dialect == "sqlite":
        for path in _sqlite_files(Path(instance.root_directory)):
            _vacuum(path)


def _sqlite_files(home: Path) -> list[Path]:
    found = []
    for path in sorted(home.rglob("*.db")):
        with contextlib.suppress(OSError), path.open("rb") as file:
            if file.read(16) == b"SQLite format 3\0" and (path.stem == "index" or path.parent.name != "runs"):
                found.append(path)
    return found


def _vacuum(path: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise StorageError(
            f"{path}: the room of deleted events can't be given back now ({error}); forget once more"
        ) from error
