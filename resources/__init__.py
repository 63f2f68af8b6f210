"""Dagster resources: what the assets are given to work with.

A resource validates its settings and hands out a domain object (a context, a budget, a landing zone). What
is done with them belongs to the packages below `radiobject_assets`, not here.
"""

from __future__ import annotations

from radiobject_assets.resources.compute_resource import ComputeResource
from radiobject_assets.resources.dataset_resource import DatasetResource, WorkFolder
from radiobject_assets.resources.memory_resource import MemoryBudgetResource
from radiobject_assets.resources.run_heart import HEART_TAG, Heartbeat
from radiobject_assets.resources.storage_resource import StorageResource
from radiobject_assets.resources.working_tables import WorkingTables

__all__ = [
    "HEART_TAG",
    "ComputeResource",
    "DatasetResource",
    "Heartbeat",
    "MemoryBudgetResource",
    "StorageResource",
    "WorkFolder",
    "WorkingTables",
]
