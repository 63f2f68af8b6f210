"""Run tasks in worker processes under a memory budget; a task that dies, hangs or overshoots fails alone.

1. A task declares the bytes that it will take (`needed_bytes`).
2. It is admitted when the declared bytes of all tasks in flight fit the budget's share for tasks; a task
   that is larger than the whole share runs alone.
3. `workers.WorkerPool` ends a worker that overshoots what its task declared, or hangs, and replaces one that
   dies; the other tasks go on.
4. Results come back in the order in which tasks end, each with its task's index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.system.temporary import temporary_folder
from radiobject_assets.workers.calls import CALLS
from radiobject_assets.workers.idle_processes import Processes
from radiobject_assets.workers.pool import WorkerPool
from radiobject_assets.workers.process import Limits, LostError, WorkerStartError

Argument = TypeVar("Argument")
Result = TypeVar("Result")

_REASONS = {
    "died": (Reason.WORKER_DIED, "the worker process ended with {}"),
    "hangs": (Reason.WORKER_TIMEOUT, "not done after {}"),
    "memory": (Reason.MEMORY_EXCEEDED, "the worker process {}"),
}


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
    with temporary_folder() as folder:
        # what a worker that is killed leaves of unpacked archives goes when the pool does
        processes = Processes("radiobject_assets.ingest.work.worker:call", {"TMPDIR": str(folder)})
        pool = WorkerPool(
            CALLS, processes, min(compute.workers, max(1, len(tasks))), memory_bytes=budget.tasks_bytes
        )
        try:
            futures = {
                pool.submit(
                    (function, task.argument), Limits(task.needed_bytes, compute.task_timeout_s)
                ): index
                for index, task in enumerate(tasks)
            }
            for future in as_completed(futures):
                yield futures[future], _outcome_of(future)
        finally:
            pool.close()
            processes.end()


def _outcome_of(future: Future[Any]) -> Any:
    try:
        return future.result()
    except LostError as error:
        reason, detail = _REASONS[error.why]
        return Failure(reason, detail.format(error))
    except WorkerStartError:
        raise
    except Exception as error:  # noqa: BLE001  (whatever the task raised is its result; it is reported)
        return Failure(Reason.WORKER_DIED, f"{type(error).__name__}: {error}", error)
