"""What there is of a data set now: arrivals, verdicts, collections, split, patches, checks, pictures.

Read from the landing zone, the work folder, the store and the Dagster instance; nothing is computed anew.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import dagster as dg
import pandas as pd

from radiobject_assets.curation.sheet_of_state import SHEET
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.definitions import build_resources
from radiobject_assets.landing.local_zone import LooseFiles
from radiobject_assets.platform.assets.arrival import scan_of
from radiobject_assets.platform.assets.collections import waiting_by_arrival
from radiobject_assets.platform.assets.history import is_warning, latest_cache
from radiobject_assets.platform.assets.partitions import asset_key, collection_names
from radiobject_assets.platform.assets.splits import current_splits
from radiobject_assets.platform.dagster_internals import AssetCheckExecutionRecordStatus
from radiobject_assets.resources import DatasetResource, WorkingTables
from radiobject_assets.store import RadiObject, TileDBContext, is_store

_PASSED = AssetCheckExecutionRecordStatus.SUCCEEDED
_FAILED = AssetCheckExecutionRecordStatus.FAILED


@dataclass(frozen=True)
class CheckCounts:
    """Latest evaluations of all checks, each partition counted."""

    passed: int
    failed: int
    failures: tuple[str, ...] = ()
    """`asset: check[partition]` of those that failed."""
    warnings: tuple[str, ...] = ()
    """The same of those that failed as a warning, and are not among the failures."""


@dataclass(frozen=True)
class PatchCacheState:
    """The latest patch cache of one split."""

    split: str
    path: Path
    n_patches: int


@dataclass(frozen=True)
class Overview:
    """What there is. Holds counts and places, and no identifier."""

    arrivals: int
    files: int
    series: int
    unreadable: dict[str, int]
    """Files that are in no series, by reason code."""
    quarantined: dict[str, int]
    """Series that were held back, by reason code."""
    store_uri: str
    subjects: int
    collections: dict[str, int]
    """Volumes by collection."""
    splits_table: str
    split: dict[str, int]
    """Subjects by split."""
    patches: tuple[PatchCacheState, ...]
    checks: CheckCounts
    pictures: tuple[Path, ...] = field(default=(), repr=False)
    sheet: str = ""
    """Where the data-set sheet is; empty: it was not made yet."""
    waiting: int = 0
    """Label series that wait for their image."""
    loose: LooseFiles = field(default_factory=lambda: LooseFiles({}))
    """Files in the landing zone that belong to no arrival."""
    unlisted: tuple[str, ...] = ()
    """Collections of the store that dataset.yaml does not list (any more): nothing keeps them up to date."""


def read_overview(
    dataset: DatasetSettings, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> Overview:
    """Look at everything that a data set has.

    Raises
    ------
    ConfigurationError
        The landing zone is not there.
    StorageError
        The store's URI holds something else.
    """
    resource = DatasetResource.of(dataset)
    storage = build_resources(dataset)["storage"]
    landing, tables = resource.landing(storage), resource.tables(storage)
    present = landing.arrivals()
    scanned = [arrival.key for arrival in present if tables.has(tables.scan(arrival.key))]
    verdicts = _verdicts(tables, scanned)
    held = verdicts[verdicts["status"] == "quarantined"]
    unreadable = Counter(str(item.reason) for key in scanned for item in scan_of(tables, key).unreadable)
    volumes, subjects = _stored(dataset.store_uri, storage.ctx)
    counts = (
        current_splits(tables)["split"].value_counts()
        if tables.has(tables.splits)
        else pd.Series(dtype="int64")
    )
    return Overview(
        arrivals=len(present),
        files=sum(landing.state(arrival).n_files for arrival in present),
        series=len(verdicts),
        unreadable=dict(unreadable.most_common()),
        quarantined=dict(Counter(held["reason"].astype(str)).most_common()),
        store_uri=dataset.store_uri,
        subjects=subjects,
        collections=volumes,
        splits_table=tables.where(tables.splits),
        split={name: int(counts.get(name, 0)) for name in dataset.split.shares},
        patches=_patch_caches(dataset, instance),
        checks=count_checks(definitions, instance),
        pictures=tuple(sorted((resource.work.root / "previews").rglob("*.png"))),
        sheet=tables.where(SHEET) if tables.has(SHEET) else "",
        waiting=sum(len(labels) for labels in waiting_by_arrival(tables, collection_names(dataset)).values()),
        loose=landing.loose_files(),
        unlisted=() if dataset.collects_by_modality else tuple(sorted(volumes.keys() - dataset.collections)),
    )


def count_checks(definitions: dg.Definitions, instance: dg.DagsterInstance) -> CheckCounts:
    """The latest evaluation of every check, for every partition that Dagster lists (`passed_checks`)."""
    keys = sorted(definitions.resolve_asset_graph().asset_check_keys, key=str)
    passed, failures, warnings = 0, list[str](), list[str]()
    for state in instance.event_log_storage.get_asset_check_partition_info(keys):
        if state.latest_execution_status == _PASSED:
            passed += 1
        elif state.latest_execution_status == _FAILED:
            place = f"[{state.partition_key}]" if state.partition_key else ""
            name = f"{state.check_key.asset_key.to_user_string()}: {state.check_key.name}{place}"
            (warnings if is_warning(instance, state.check_key, state.partition_key) else failures).append(
                name
            )
    return CheckCounts(passed, len(failures), tuple(sorted(failures)), tuple(sorted(warnings)))


def _verdicts(tables: WorkingTables, keys: list[str]) -> pd.DataFrame:
    """Series of all arrivals with their latest status: what ingest found comes last."""
    found = []
    for key in keys:
        names = tables.below(f"arrivals/{key}")
        if tables.series(key) not in names:
            continue
        planned = tables.frame(tables.series(key)).set_index("series_token")
        for name in names:
            if not PurePosixPath(name).name.startswith("outcomes-"):
                continue
            later = tables.frame(name).set_index("series_token")
            known = later.index.intersection(planned.index)
            planned.loc[known, ["status", "reason"]] = later.loc[known, ["status", "reason"]]
        found.append(planned.reset_index())
    if not found:
        return pd.DataFrame({"status": pd.Series(dtype="str"), "reason": pd.Series(dtype="str")})
    return pd.concat(found, ignore_index=True)


def _stored(uri: str, ctx: TileDBContext) -> tuple[dict[str, int], int]:
    if not is_store(uri, ctx):
        return {}, 0
    store = RadiObject(uri, ctx=ctx)
    return {name: len(store.collection(name)) for name in store.collection_names}, len(store)


def _patch_caches(dataset: DatasetSettings, instance: dg.DagsterInstance) -> tuple[PatchCacheState, ...]:
    if dataset.patches is None:
        return ()
    found = []
    for split in dataset.split.shares:
        made = latest_cache(instance, asset_key(dataset, "patch_cache"), split)
        if made is not None:
            count = made.metadata["patches"].value
            found.append(PatchCacheState(split, Path(str(made.metadata["file"].value)), int(str(count))))
    return tuple(found)
