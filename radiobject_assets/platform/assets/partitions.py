"""Partitions, groups and dependencies' mappings that several assets share.

A run is of one partition: Dagster records a check over several partitions as one evaluation without a
partition. What small arrivals share is a partition, and which of them failed is kept for each
(`platform.arrivals.shared_runs`, `collections.note_sound`).
"""

from __future__ import annotations

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings

LANDING_GROUP = "landing"
STORE_GROUP = "store"
TRAINING_GROUP = "training"

INTEGRITY_CHECK = "integrity"
"""Name of the blocking check that every collection has."""

ACCOUNTING_CHECK = "every_file_accounted_for"
"""Name of the check that `series` has."""

ALL_VOLUMES = "volumes"
"""The one collection asset of a data set whose collections are made by modality."""


def asset_key(dataset: DatasetSettings, name: str) -> dg.AssetKey:
    """The key of an asset: below the data set's `name` where it has one."""
    return dg.AssetKey([dataset.name, name] if dataset.name else [name])


def arrival_partitions(dataset: DatasetSettings) -> dg.DynamicPartitionsDefinition:
    """Partitions for the arrivals of this data set, and of no other on the same instance."""
    return dg.DynamicPartitionsDefinition(name=f"{dataset.name}_arrivals" if dataset.name else "arrivals")


def split_partitions(dataset: DatasetSettings) -> dg.StaticPartitionsDefinition:
    """One partition for each split of dataset.yaml."""
    return dg.StaticPartitionsDefinition(list(dataset.split.shares))


def collection_names(dataset: DatasetSettings) -> tuple[str, ...]:
    """Names of the collection assets."""
    return (ALL_VOLUMES,) if dataset.collects_by_modality else tuple(dataset.collections)


def arrival_assets(dataset: DatasetSettings) -> tuple[str, ...]:
    """Names of the assets that one arrival is made into."""
    return ("raw_dicom", "series", "subjects", *collection_names(dataset))


def arrival_checks(dataset: DatasetSettings) -> list[dg.AssetCheckKey]:
    """Keys of the checks that one arrival is looked at by, each with a partition for each arrival."""
    return [
        dg.AssetCheckKey(asset_key(dataset, "series"), ACCOUNTING_CHECK),
        *(dg.AssetCheckKey(asset_key(dataset, name), INTEGRITY_CHECK) for name in collection_names(dataset)),
    ]


def every_arrival(key: dg.AssetKey) -> dg.AssetDep:
    """A dependency of an unpartitioned asset on all arrivals that there are."""
    return dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping())
