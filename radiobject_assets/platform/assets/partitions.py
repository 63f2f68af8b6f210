"""Partitions, groups and dependencies' mappings that several assets share.

One arrival is one partition and one run: Dagster records a check over several partitions as one evaluation
without a partition, so a run over two arrivals would lose which of them failed.
"""

from __future__ import annotations

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings

ARRIVALS = dg.DynamicPartitionsDefinition(name="arrivals")

LANDING_GROUP = "landing"
STORE_GROUP = "store"
TRAINING_GROUP = "training"

INTEGRITY_CHECK = "integrity"
"""Name of the blocking check that every collection has."""

ALL_VOLUMES = "volumes"
"""The one collection asset of a data set whose collections are made by modality."""


def split_partitions(dataset: DatasetSettings) -> dg.StaticPartitionsDefinition:
    """One partition for each split of dataset.yaml."""
    return dg.StaticPartitionsDefinition(list(dataset.split.fractions))


def collection_names(dataset: DatasetSettings) -> tuple[str, ...]:
    """Names of the collection assets."""
    return (ALL_VOLUMES,) if dataset.collects_by_modality else tuple(dataset.collections)


def every_arrival(asset_name: str) -> dg.AssetDep:
    """A dependency of an unpartitioned asset on all arrivals that there are."""
    return dg.AssetDep(asset_name, partition_mapping=dg.AllPartitionMapping())
