"""Dagster's storage in SQLite for a pass in this process, which asks and tells a thousand things.

Dagster makes a new engine of SQLAlchemy for each question, and so compiles each statement anew; here each
file has one. And each run has a file of its own, which Alembic brings to its schema in 0.15 s; here the empty
file that was made so for the first run is copied for the next ones.

The files, and what is in them, are Dagster's: the daemon and the web server read them with its own storage.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool


@lru_cache(maxsize=64)
def _engine(address: str) -> Engine:
    """Nothing is kept open by it (NullPool): it may be shared by threads, and inherited by a fork."""
    return create_engine(address, poolclass=NullPool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})


@contextmanager
def _connected(address: str) -> Iterator[Connection]:
    with _engine(address).connect() as connection, connection.begin():
        yield connection


class _Runs(SqliteRunStorage):
    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with _connected(self._conn_string) as connection:
            yield connection


class _Schedules(SqliteScheduleStorage):
    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with _connected(self._conn_string) as connection:
            yield connection


class _Events(SqliteEventLogStorage):
    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._empty_file: bytes | None = None

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if shard not in self._initialized_dbs:
                self._prepare(shard)
                self._initialized_dbs.add(shard)
            with _connected(self.conn_string_for_shard(shard)) as connection:
                yield connection

    def _prepare(self, shard: str) -> None:
        """Bring a run's file to the schema; a new one is a copy of an empty one, whole or not at all."""
        file = Path(self.path_for_shard(shard))
        if not file.exists():
            draft = file.with_name(f"{file.name}.{os.getpid()}.new")
            try:
                if self._empty_file is None:
                    self._empty_file = self._made_empty(draft)
                else:
                    draft.write_bytes(self._empty_file)
                os.link(draft, file)
                return
            except OSError:  # another process was first, or there are no links here
                pass
            finally:
                draft.unlink(missing_ok=True)
        self._initdb(_engine(self.conn_string_for_shard(shard)))

    def _made_empty(self, file: Path) -> bytes:
        self._initdb(create_engine(f"sqlite:///{file}", poolclass=NullPool))
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return file.read_bytes()


class SqliteStorage(DagsterSqliteStorage):
    """Runs, events and schedules in SQLite files below `base_dir`, as `storage` of dagster.yaml."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)  # makes the files
        self._run_storage = _Runs(self._run_storage._conn_string)
        self._event_log_storage = _Events(self._event_log_storage._base_dir)
        self._schedule_storage = _Schedules(self._schedule_storage._conn_string)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> SqliteStorage:
        return cls.from_local(inst_data=inst_data, **config_value)


def instance_of(folder: Path) -> dg.DagsterInstance:
    """The instance in a folder (DAGSTER_HOME); with this storage, if its dagster.yaml names no other."""
    stored = InstanceRef.from_dir(str(folder)).storage_data
    if stored is not None and stored.class_name == DagsterSqliteStorage.__name__:
        custom = {"module": __name__, "class": SqliteStorage.__name__, "config": stored.config_dict}
        return dg.DagsterInstance.from_ref(
            InstanceRef.from_dir(str(folder), overrides={"storage": {"custom": custom}})
        )
    return dg.DagsterInstance.from_config(str(folder))
