"""Dagster resources: what the assets are given to work with.

A resource validates its settings and hands out a domain object (a context, a budget, a landing zone). What
is done with them belongs to the packages below `radiobject_assets`, not here.
"""

from __future__ import annotations

from radiobject_assets.resources.compute import ComputeResource
from radiobject_assets.resources.dataset import DatasetResource, WorkFolder
from radiobject_assets.resources.memory import MemoryBudgetResource
from radiobject_assets.resources.storage import StorageResource

__all__ = ["ComputeResource", "DatasetResource", "MemoryBudgetResource", "StorageResource", "WorkFolder"]
