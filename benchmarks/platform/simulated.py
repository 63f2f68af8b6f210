"""A data set with a long history, made in seconds: real folders, tables and rows, simulated runs.

Real are the folders of the landing zone, the table of arrivals, the tables of each arrival, the store's rows
and the Dagster instance. Simulated is how they came to be: nothing was taken in. The rows of the store name
arrays that were never written, and Dagster's records of arrivals are copies, in its database, of what one
arrival that was really recorded left.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from benchmarks.scale import row
from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.definitions import build_resources
from radiobject_assets.ingest.settings import settings_version
from radiobject_assets.landing.watching import look
from radiobject_assets.platform.arrivals.arrival_table import ArrivalRow, ArrivalTable
from radiobject_assets.platform.arrivals.looking import remember
from radiobject_assets.platform.arrivals.reconciling import wanted_version
from radiobject_assets.platform.assets.partitions import (
    INTEGRITY_CHECK,
    arrival_assets,
    arrival_partitions,
    asset_key,
)
from radiobject_assets.platform.dagster_internals import event_tables
from radiobject_assets.platform.instance_settings import prepare_instance
from radiobject_assets.resources import DatasetResource, StorageResource, WorkingTables
from radiobject_assets.store import (
    commit_volumes,
    consolidate,
    ensure_collection,
    ensure_store,
)

DATASET = """\
collections:
  ct: {match: {modality: CT}}
  seg: {match: {modality: SEG}, kind: labels, labels_of: ct}
arrivals:
  quiet_period_s: 0
  trusted_names: "[a-z]+-[0-9]+"
"""
_ROWS_AT_ONCE = 20_000
_EVENTS_AT_ONCE = 2_000


@dataclass(frozen=True)
class Simulated:
    """A data set with its Dagster instance."""

    folder: Path
    instance: dg.DagsterInstance

    @property
    def settings(self) -> DatasetSettings:
        """What dataset.yaml says."""
        return load_dataset(self.folder / "dataset.yaml")

    @property
    def resources(self) -> tuple[DatasetResource, StorageResource]:
        """As a tick gets them."""
        return DatasetResource.of(self.settings), build_resources(self.settings)["storage"]

    @property
    def tables(self) -> WorkingTables:
        """The small tables."""
        dataset, storage = self.resources
        return dataset.tables(storage)


@contextmanager
def empty(folder: Path, storage: str = "") -> Iterator[Simulated]:
    """A data set without an arrival; `storage` is that of dagster.yaml, empty for SQLite."""
    (folder / "landing").mkdir(parents=True)
    (folder / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    home = prepare_instance(folder / "dagster")
    with (home / "dagster.yaml").open("a", encoding="utf-8") as settings:
        settings.write(storage)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Simulated(folder, instance)


def deliver(to: Simulated, names: Sequence[str]) -> None:
    """Folders with one file each."""
    for name in names:
        place = to.folder / "landing" / name
        place.mkdir()
        (place / "image").write_bytes(b"")


def take_in(to: Simulated, names: Sequence[str], *, series: int) -> None:
    """Deliver arrivals, and leave what it leaves to have taken them in, each with some series."""
    deliver(to, names)
    _achieve(to)
    _keep_tables(to, names)
    _store(to, names, series)
    record(to, names, series=series)


def _achieve(to: Simulated) -> None:
    dataset, storage = to.resources
    now_s = time.time()
    zone = dataset.landing(storage)
    seen = look(zone, look(zone, {}, now_s=now_s).seen, now_s=now_s + 86_400)
    settings = settings_version(dataset.config)
    wanted = {key: wanted_version(seen.seen[key].version, settings) for key in seen.settled}
    table = ArrivalTable(dataset.tables(storage))
    table.save({key: ArrivalRow(wanted=one, achieved=one) for key, one in wanted.items()})
    calm = {key: replace(one, walked_s=now_s, since_s=now_s - 86_400) for key, one in seen.seen.items()}
    remember(dataset.work.looks, calm)


def _keep_tables(to: Simulated, names: Sequence[str]) -> None:
    tables = to.tables
    outcome = pd.DataFrame(
        [{"series_token": "t", "series_uid": "u", "obs_id": "i", "status": "written", "reason": ""}]
    )
    first = names[0]
    wanted = [tables.scan, tables.series, *(lambda k, c=c: tables.outcomes(k, c) for c in ("ct", "seg"))]
    for name in wanted:
        tables.put_frame(name(first), outcome)
    pattern = to.folder / "work" / "arrivals" / first
    for other in names[1:]:
        shutil.copytree(pattern, pattern.parent / other)


def _store(to: Simulated, names: Sequence[str], series: int) -> None:
    uri = to.settings.store_uri
    ensure_store(uri)
    images = ensure_collection(uri, "ct")
    numbers = range(len(names) * series)
    for start in range(0, len(numbers), _ROWS_AT_ONCE):
        part = numbers[start : start + _ROWS_AT_ONCE]
        made = [replace(one, attributes={**one.attributes, "arrival": names[n // series]})
                for n, one in ((n, row(n)) for n in part)]  # fmt: skip
        commit_volumes(images, made)
    consolidate(uri)


def record(to: Simulated, names: Sequence[str], *, series: int) -> None:
    """Leave in Dagster's database what a run of each arrival leaves there after `history_retention`."""
    settings, instance = to.settings, to.instance
    partitions = arrival_partitions(settings).name or ""
    for start in range(0, len(names), _EVENTS_AT_ONCE):
        instance.add_dynamic_partitions(partitions, list(names[start : start + _EVENTS_AT_ONCE]))
    for asset in arrival_assets(settings):
        metadata = {"volumes": series, "seconds": 1.0, "peak_memory_mb": 300.0, "bytes": 10_000_000}
        instance.report_runless_asset_event(
            dg.AssetMaterialization(asset_key(settings, asset), metadata=metadata, partition=names[0])
        )
    for collection in settings.collections:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=asset_key(settings, collection),
                check_name=INTEGRITY_CHECK,
                passed=True,
                partition=names[0],
                metadata={"volumes": series},
            )
        )
    _copy_records(instance, names[0], names[1:])


def _copy_records(instance: dg.DagsterInstance, pattern: str, names: Sequence[str]) -> None:
    """The same events, and states of checks, for other partitions."""
    found = event_tables(instance)
    assert found is not None
    storage, events = found
    with storage.index_connection() as connection:
        tables = sa.MetaData()
        checks = sa.Table("asset_check_executions", tables, autoload_with=connection)
        for table in (events, checks):
            chosen = sa.select(table).where(table.c.partition == pattern).order_by(table.c.id)
            kept = [dict(one) for one in connection.execute(chosen).mappings()]
            rows: list[dict[str, Any]] = []
            for name in names:
                rows += [_of(one, pattern, name) for one in kept]
                if len(rows) >= _EVENTS_AT_ONCE:
                    connection.execute(table.insert(), rows)
                    rows = []
            if rows:
                connection.execute(table.insert(), rows)


def _of(one: dict[str, Any], pattern: str, name: str) -> dict[str, Any]:
    told = {
        key: value.replace(pattern, name) if isinstance(value, str) else value for key, value in one.items()
    }
    return {key: value for key, value in told.items() if key != "id"}
