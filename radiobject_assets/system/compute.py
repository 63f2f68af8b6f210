"""Where the series of an arrival are worked on: processes on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.system.processes import usable_cores


@dataclass(frozen=True)
class Compute:
    """How work on many series is spread.

    Parameters
    ----------
    workers
        Processes in the pool; by default as many as there are cores for this process.
    task_timeout_s
        Seconds after which a task counts as hung: its worker is ended and its item reported.
    """

    workers: int = field(default_factory=usable_cores)
    task_timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigurationError(f"compute.workers is {self.workers}: use 1 or more")
        if self.task_timeout_s <= 0:
            raise ConfigurationError(f"compute.task_timeout_s is {self.task_timeout_s}: use more than 0")
