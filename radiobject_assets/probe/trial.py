"""One run of the loader in a child process: what is asked for, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from radiobject_assets.system.resource_monitor import ResourceSample


class Mode(StrEnum):
    """What a child does."""

    INTEGRITY = "integrity"
    """Compare what a store holds with what was written."""
    ITEMS = "items"
    """One process, item by item, stage by stage, and collate each batch; first see that files exist."""
    WORKERS = "workers"
    """A `DataLoader` with the same parts, each of them watched."""
    AS_IS = "as-is"
    """The loader itself, untouched: two training batches, one validation batch."""


class Ended(StrEnum):
    """How a trial ended."""

    PASSED = "passed"
    CUT = "cut short"
    """The time for it was up, and nothing had gone wrong."""
    RAISED = "raised"
    DIED = "died"
    """The child itself ended by a signal or `exit`, without a word."""
    SILENT = "silent"
    """Nothing happened for as long as was allowed; it was ended."""
    MEMORY = "memory"
    """The tree took more memory than was allowed; it was ended."""


@dataclass(frozen=True)
class Trial:
    """What one child is asked to do. `None` is: as the loader has it."""

    subject: str
    mode: Mode
    name: str = ""
    """For people: `2 fork`, `batch size 1`."""
    items: tuple[int, ...] | None = None
    """Only these, in this order; without it, in the loader's own order."""
    from_batch: int = 0
    workers: int | None = None
    start_method: str | None = None
    batch_size: int | None = None
    prefetch: int | None = None
    with_transforms: bool = True
    most_batches: int | None = None
    integrity_items: int = 0
    seed: int = 0
    limit_s: float = 300.0
    silent_s: float = 120.0
    memory_mb: float = 0.0
    config: Mapping[str, Any] | None = None
    """Of the store, as JSON (`RadiObjectConfig`); without it what the environment says."""

    def to_json(self) -> str:
        """For the child."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Trial:
        """What `to_json` wrote."""
        content = json.loads(text)
        content["mode"] = Mode(content["mode"])
        content["items"] = None if content["items"] is None else tuple(content["items"])
        return Trial(**content)

    def settings(self) -> dict[str, Any]:
        """What differs from the loader's own settings."""
        told = {
            "items": self.items if self.items is None or len(self.items) <= 20 else len(self.items),
            "workers": self.workers,
            "start_method": self.start_method,
            "batch_size": self.batch_size,
            "prefetch": self.prefetch,
            "most_batches": self.most_batches,
        }
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True)
class StageFailure:
    """An error that was seen where it was raised, before anybody wrapped or lost it."""

    items: tuple[int, ...]
    stage: str
    """`read`, `transform 2 (Resize)`, `collate`, `worker_init_fn`, `factory`..."""
    error: str
    """Name of the error's class."""
    message: str = field(repr=False)
    """May name files and people."""
    traceback: str = field(repr=False)
    line: str = ""
    """`loaders.py:31 in load`: the innermost line that is not of an installed library, where there is one."""
    given: str = ""
    """What the stage was given: shapes and types."""
    is_picklable: bool = True
    in_worker: bool = False


@dataclass(frozen=True)
class InFlight:
    """What a process was at when the trial ended."""

    pid: int
    worker: int | None
    items: tuple[int, ...]
    stage: str
    seconds: float


@dataclass(frozen=True)
class DeadWorker:
    """A worker that ended without being asked to; a negative code is a signal's number."""

    worker: int
    pid: int
    code: int


@dataclass(frozen=True)
class StageRow:
    """One stage over all items that passed it."""

    stage: str
    n: int
    mean_s: float
    longest_s: float
    longest_item: int | None
    most_mb: float
    shapes: str
    dtypes: str
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Outcome:
    """What came of a trial."""

    trial: Trial
    ended: Ended
    seconds: float
    opened: Mapping[str, Any] = field(default_factory=dict)
    """What was found of the loader: sizes, settings, names of its transforms, living threads."""
    n_items: int = 0
    n_batches: int = 0
    at_batch: int = 0
    """The batch that was begun last, in one process."""
    failures: tuple[StageFailure, ...] = ()
    in_flight: tuple[InFlight, ...] = ()
    dead_workers: tuple[DeadWorker, ...] = ()
    code: int | None = None
    """Exit code of the child."""
    stacks: str = field(default="", repr=False)
    """Python stacks of all processes, of a crash or of a silence."""
    stderr: str = field(default="", repr=False)
    stages: tuple[StageRow, ...] = ()
    samples: tuple[ResourceSample, ...] = ()
    peaks: Mapping[str, float] = field(default_factory=dict)
    kernel_kills: int = 0
    """Processes that the kernel killed for memory on this machine meanwhile."""
    not_finite: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By stage: items that were finite before it and are not after it."""
    shapes: Mapping[int, str] = field(default_factory=dict)
    """Of items as they come to collate."""
    digests: Mapping[int, int] = field(default_factory=dict)
    """Of items as read, where they are the same at each reading."""
    item_files: Mapping[int, int] = field(default_factory=dict)
    """Open files of the process after each item, in one process."""
    found: tuple[Mapping[str, Any], ...] = ()
    """Findings of the integrity step, as JSON."""

    @property
    def is_fine(self) -> bool:
        """Whether nothing went wrong."""
        return self.ended in (Ended.PASSED, Ended.CUT) and not self.failures

    @property
    def last(self) -> InFlight | None:
        """What was longest in flight."""
        return max(self.in_flight, key=lambda one: one.seconds, default=None)

    def where(self) -> tuple[tuple[int, ...], str]:
        """Items and stage at which it failed, as far as they are known."""
        if self.failures:
            return self.failures[0].items, self.failures[0].stage
        last = self.last
        return (last.items, last.stage) if last else ((), "")

    def said(self) -> str:
        """In a few words, without identifiers."""
        items, stage = self.where()
        at = f" at {items_text(items)}" if items else ""
        at += f", {stage}" if stage else ""
        if self.is_fine:
            return f"{self.ended}: {self.n_batches} batches, {self.n_items} items"
        if self.failures and self.ended in (Ended.RAISED, Ended.PASSED, Ended.CUT):
            return f"{self.failures[0].error}{at}"
        if self.dead_workers:
            return f"worker {exit_text(self.dead_workers[0].code)}{at}"
        if self.ended == Ended.DIED:
            return f"{exit_text(self.code or 0)}{at}"
        return f"{self.ended}{at}"


def items_text(items: Sequence[int]) -> str:
    """`item 3`, `items 3, 9`, `items 0, 1, 2 and 17 more`."""
    if len(items) == 1:
        return f"item {items[0]}"
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return f"items {', '.join(map(str, items[:5]))}{more}"


def exit_text(code: int) -> str:
    """How a process ended, from its exit code (negative: minus the signal's number)."""
    import signal

    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
