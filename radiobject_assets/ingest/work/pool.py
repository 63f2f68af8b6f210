"""Run tasks in worker processes under a memory budget; a task that dies, hangs or overshoots fails alone.

1. A task declares the bytes that it will take (`needed_bytes`).
2. It is admitted when the declared bytes of all tasks in flight fit the budget's share for tasks; a task
   that is larger than the whole share runs alone.
3. A watcher compares each worker's resident memory with what its task declared, and ends a worker that
   overshoots; a timeout ends one that hangs. pebble replaces the worker; the other tasks go on.
4. Results come back in the order in which tasks end, each with its task's index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MB, MemoryBudget
from radiobject_assets.system.temporary import temporary_folder

Argument = TypeVar("Argument")
Result = TypeVar("Result")

# What a worker may hold above its declaration: allocator slack, codec scratch, TileDB's thread stacks.
SLACK_BYTES = 192 * MB


@dataclass(frozen=True)
class Task(Generic[Argument]):
    """One piece of work: its argument (picklable) and the bytes that it takes at most."""

    argument: Argument
    needed_bytes: int


@dataclass(frozen=True)
class Failure:
    """Why a task has no result: a reason code and what a person should know. Raised errors keep theirs."""

    reason: Reason
    detail: str
    error: BaseException | None = None


def run_tasks(
    function: Callable[[Argument], Result],
    tasks: Sequence[Task[Argument]],
    *,
    compute: Compute,
    budget: MemoryBudget,
    in_process: bool = False,
) -> Iterator[tuple[int, Result | Failure]]:
    """Yield `(index, result or failure)` for every task, as they end.

    Parameters
    ----------
    function
        It runs in a worker process (and must be of a module's top level), or here with `in_process`.
    in_process
        Run the tasks one after the other in this process: for little work that no codec can crash.

    Raises
    ------
    ConfigurationError
        No worker process gets as far as its first task: no item is to blame.
    """
    if in_process:
        for index, task in enumerate(tasks):
            try:
                yield index, function(task.argument)
            except Exception as error:  # noqa: BLE001  (a failed item must not stop the others; it is reported)
                yield index, Failure(Reason.WORKER_DIED, f"{type(error).__name__}: {error}", error)
        return
    from radiobject_assets.ingest.work.worker_processes import run_in_processes

    with temporary_folder() as board:
        yield from run_in_processes(function, tasks, compute, budget, Path(board))
