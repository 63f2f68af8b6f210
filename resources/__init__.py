"""Dagster resources: what the assets are given to work with.

A resource validates its settings and hands out a domain object (a context, a budget, a landing zone). What
is done with them belongs to the packages below `radiobject_assets`, not here.
"""

from __future__ import annotations

from resources.compute import ComputeResource
from resources.dataset import DatasetResource, WorkFolder
from resources.memory import MemoryBudgetResource
from resources.storage import StorageResource

__all__ = ["ComputeResource", "DatasetResource", "MemoryBudgetResource", "StorageResource", "WorkFolder"]
