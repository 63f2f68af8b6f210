"""Where the series of an arrival are worked on."""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import Field

from radiobject_assets.system.compute import Compute


class ComputeResource(dg.ConfigurableResource[Any]):
    """A pool of processes on the machine that the run is on."""

    workers: int = Field(default=0, ge=0, description="Processes in the pool; 0: one for each core.")
    task_timeout_s: float = Field(
        default=1800.0, gt=0, description="Seconds after which one series counts as hung and is given up."
    )

    def compute(self) -> Compute:
        """The pool's description."""
        if self.workers == 0:
            return Compute(task_timeout_s=self.task_timeout_s)
        return Compute(workers=self.workers, task_timeout_s=self.task_timeout_s)
