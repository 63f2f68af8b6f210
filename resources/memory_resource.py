"""How much memory one run may use."""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import Field

from radiobject_assets.system.memory import MemoryBudget


class MemoryBudgetResource(dg.ConfigurableResource[Any]):
    """The memory budget of one run's process tree."""

    total_mb: int = Field(
        default=2048,
        ge=64,
        description="Mebibytes for voxels, tiles and buffers of a run and all its worker processes.",
    )

    def budget(self) -> MemoryBudget:
        """The budget and its division."""
        return MemoryBudget(self.total_mb)
