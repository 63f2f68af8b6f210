"""What rules look at, as the platform has it: store, working tables, landing zone, Dagster instance."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from radiobject_assets.archives.open_studies import open_studies
from radiobject_assets.diagnostics.rule_registry import (
    CacheFacts,
    Inspection,
    MemoryPeak,
    Surroundings,
)
from radiobject_assets.errors import NotMadeYetError
from radiobject_assets.platform.arrivals.arrival_table import ArrivalTable
from radiobject_assets.platform.assets.history import data_versions, latest_cache
from radiobject_assets.platform.assets.partitions import asset_key, collection_names
from radiobject_assets.platform.assets.snapshot import LONGEST_WAIT_S, SnapshotNote
from radiobject_assets.platform.assets.splits import PinnedSplits, pinned_splits
from radiobject_assets.platform.checks.collected_outcomes import collect_outcomes
from radiobject_assets.platform.dagster_internals import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
)
from radiobject_assets.resources import DatasetResource, StorageResource, WorkingTables
from radiobject_assets.system.processes import usable_cores
from radiobject_assets.training.recipe_versions import patches_version

# Materializations of each asset whose memory is looked at.
_RECENT = 50
# An interpreter with its libraries is the same whatever the data, and comes on top of the budget.
_WORKER_MB = 120
_OF_ALL = ("dataset", "profile", "splits", "sheet", "patch_cache", "upkeep")
# Walking the files of a large landing zone takes longer than anybody waits for a check.
_LANDING_S = 30.0

if TYPE_CHECKING:
    import pandas as pd


def inspection_of(
    dataset: DatasetResource, storage: StorageResource, instance: dg.DagsterInstance
) -> Inspection:
    """The data set of these resources, to be looked at by rules."""
    from radiobject_assets.profiling.compared_pairs import PAIRS, KeptPairs

    settings, tables = dataset.config, dataset.tables(storage)
    snapshot = SnapshotNote.read(tables) if tables.has(tables.snapshot) else None
    surroundings = Surroundings(
        outcomes=lambda collection: collect_outcomes(tables, collection, dataset.work.root).rows,
        arrivals=lambda: {arrival.key for arrival in dataset.landing(storage).arrivals()},
        changed=lambda: _changed(dataset, storage, instance),
        splits=lambda: _splits(tables),
        caches=lambda: _caches(dataset, instance, snapshot, _pinned(tables)),
        peaks=lambda: _peaks(dataset, instance),
        studies=lambda: open_studies(settings, time.time()),
        # the longest that it is waited for, and as long again for the run that makes it
        snapshot_due_s=2 * LONGEST_WAIT_S,
        profiles=tables.storage,
        compared=KeptPairs(
            lambda: tables.frame(PAIRS) if tables.has(PAIRS) else None, partial(tables.change_frame, PAIRS)
        ),
    )
    return Inspection(
        settings.store_uri,
        settings,
        snapshot=snapshot.name if snapshot is not None else None,
        surroundings=surroundings,
        ctx=storage.ctx,
    )


def _changed(
    dataset: DatasetResource, storage: StorageResource, instance: dg.DagsterInstance
) -> Mapping[str, str]:
    zone, deadline = dataset.landing(storage), time.monotonic() + _LANDING_S
    versions = data_versions(instance, asset_key(dataset.config, "raw_dicom"))
    rows = ArrivalTable(dataset.tables(storage)).rows
    versions |= {
        key: row.achieved.partition(":")[0] for key, row in rows.items() if row.partition and row.achieved
    }
    found = {}
    for arrival in zone.arrivals():
        if arrival.key not in versions:
            continue
        if time.monotonic() > deadline:
            break
        with suppress(OSError):  # taken away while we look
            if zone.state(arrival).version != versions[arrival.key]:
                found[arrival.key] = "other names, sizes or times than when it was scanned"
    return found


def _splits(tables: WorkingTables) -> pd.DataFrame | None:
    divided = _pinned(tables)
    return None if divided is None else divided.rows


def _pinned(tables: WorkingTables) -> PinnedSplits | None:
    try:
        return pinned_splits(tables)
    except NotMadeYetError:
        return None


def _caches(
    dataset: DatasetResource,
    instance: dg.DagsterInstance,
    snapshot: SnapshotNote | None,
    splits: PinnedSplits | None,
) -> Sequence[CacheFacts]:
    config = dataset.config
    found = []
    key = asset_key(config, "splits")
    latest = instance.get_latest_materialization_event(key)
    event = latest.asset_materialization if latest is not None else None
    divided = ((event.tags if event is not None else None) or {}).get(DATA_VERSION_TAG)
    for split in config.split.shares:
        made = latest_cache(instance, asset_key(config, "patch_cache"), split)
        if made is None or config.patches is None:
            found.append(CacheFacts(split, None, is_there=False, is_current=False))
            continue
        found.append(
            CacheFacts(
                split,
                int(str(made.metadata["patches"].value)),
                is_there=Path(str(made.metadata["file"].value)).is_dir(),
                is_current=snapshot is not None
                and made.metadata["snapshot"].value == snapshot.name
                and (made.tags or {}).get(CODE_VERSION_TAG) in (None, patches_version(config.patches))
                and (made.tags or {}).get(get_input_data_version_tag(key)) in (None, divided)
                # what Dagster says of the inputs is from before the run read them
                and ("splits" not in made.metadata or is_of(made, splits)),
            )
        )
    return found


def is_of(made: dg.AssetMaterialization, splits: PinnedSplits | None) -> bool:
    """Whether a patch cache was cut for the division that there is now, and of its snapshot."""
    return splits is not None and made.metadata["splits"].value == splits.digest


def _peaks(dataset: DatasetResource, instance: dg.DagsterInstance) -> Sequence[MemoryPeak]:
    config = dataset.config
    names = ("raw_dicom", "series", *collection_names(config), "subjects", *_OF_ALL)
    allowed = _WORKER_MB * usable_cores()
    found = []
    for name in names:
        for record in instance.fetch_materializations(asset_key(config, name), limit=_RECENT).records:
            made = record.asset_materialization
            told = made.metadata if made is not None else {}
            if "memory_above_idle_mb" in told and "memory_budget_mb" in told:
                peak, budget = (
                    float(str(told[key].value)) for key in ("memory_above_idle_mb", "memory_budget_mb")
                )
                found.append(MemoryPeak(name, record.partition_key or "", peak, budget + allowed))
    return found
