"""Tasks handed to worker processes: one that crashes, hangs or takes too much memory fails alone.

1. `WorkerPool.submit` takes a task and its `Limits`; its result is a future.
2. A thread for each process hands tasks over as the memory for them becomes free, in order, and waits for the
   answers; meanwhile it holds the process to the task's limits.
3. A process that dies, hangs or takes too much fails its task and is replaced for the next.
4. A process that is well goes back to the `Processes` that it came from, for the next pool.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from radiobject_assets.workers.idle_processes import Processes
from radiobject_assets.workers.process import Fill, Limits, LostError, WorkerProcess, WorkerStartError

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Refusal:
    """The error that a task ends with while its process is well."""

    error: BaseException


@dataclass(frozen=True)
class Work(Generic[Argument, Result]):
    """How an argument becomes the bytes that a worker answers, and its answer a result.

    request
        The bytes of a task, for the `serving.Answering` of the processes.
    read
        A result, or the worker's refusal, from the argument and the answer's document, number of bytes and
        `Fill`. What it raises means that the process is of no use any more.
    lost
        The error of a task whose process was lost.
    """

    request: Callable[[Argument], bytes]
    read: Callable[[Argument, dict[str, Any], int, Fill], Result | Refusal]
    lost: Callable[[Argument, LostError], BaseException]


@dataclass(frozen=True, eq=False)
class _Job(Generic[Argument, Result]):
    argument: Argument
    limits: Limits
    future: Future[Result]


class WorkerPool(Generic[Argument, Result]):
    """Hands tasks to a few processes; they are taken when first used, and given back or ended by `close`.

    Parameters
    ----------
    processes
        Where they are taken from.
    workers
        Processes at most.
    memory_bytes
        What tasks at work may declare together; one that declares more than that runs alone. None: no bound.
    ahead
        Whether a process gets its next task before it has answered the last one: for many short ones.
    """

    def __init__(
        self,
        work: Work[Argument, Result],
        processes: Processes,
        workers: int,
        *,
        memory_bytes: int | None = None,
        ahead: bool = False,
    ) -> None:
        self.workers = workers
        self._does = work
        self._processes = processes
        self._memory_bytes = memory_bytes
        self._ahead = ahead
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="worker-pool")
        self._lock = threading.Lock()
        self._busy: set[WorkerProcess] = set()
        self._closed = False
        self._queue_lock = threading.Lock()
        self._waiting: deque[_Job[Argument, Result]] = deque()
        self._at_work = 0
        self._used_bytes = 0

    def submit(self, argument: Argument, limits: Limits) -> Future[Result]:
        """Have a task done. Its errors are those of `Work`, or a WorkerStartError where no process starts."""
        job = _Job(argument, limits, Future[Result]())
        with self._queue_lock:
            self._waiting.append(job)
        self._threads.submit(self._work)
        return job.future

    def close(self) -> None:
        """Drop the tasks that nobody has taken yet, and end the processes that are at work on others."""
        with self._lock:
            self._closed = True
            for process in self._busy:  # under the lock: one that is given back may be at work for others
                process.stop()  # the thread that waits for it does the rest
        with self._queue_lock:
            while self._waiting:
                self._waiting.popleft().future.cancel()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _next(self) -> _Job[Argument, Result] | None:
        """The task that is to begin now, in order: a large one is not overtaken for ever."""
        with self._queue_lock:
            while self._waiting:
                job = self._waiting[0]
                needed = self._used_bytes + job.limits.memory_bytes
                if self._memory_bytes is not None and self._at_work and needed > self._memory_bytes:
                    return None
                self._waiting.popleft()
                # running: it comes again
                if job.future.running() or job.future.set_running_or_notify_cancel():
                    self._at_work += 1
                    self._used_bytes = needed
                    return job
        return None

    def _end(self, *jobs: _Job[Argument, Result], again: bool = False) -> None:
        with self._queue_lock:
            self._at_work -= len(jobs)
            self._used_bytes -= sum(job.limits.memory_bytes for job in jobs)
            if again:
                self._waiting.extendleft(reversed(jobs))
            may_begin = self._memory_bytes is not None and bool(self._waiting)
        if may_begin:  # there may be room for more than this thread's next
            with contextlib.suppress(RuntimeError):  # of a pool that is being closed
                self._threads.submit(self._work)

    def _begun(self) -> tuple[_Job[Argument, Result], bytes] | None:
        """The next task and its request."""
        while (job := self._next()) is not None:
            try:
                return job, self._does.request(job.argument)
            except Exception as error:  # noqa: BLE001  (no task may be left without a result)
                self._fail(job, error)
        return None

    def _fail(self, job: _Job[Argument, Result], error: BaseException) -> None:
        self._end(job)
        if isinstance(error, LostError):
            error = self._does.lost(job.argument, error)
        job.future.set_exception(error)

    def _work(self) -> None:
        """Do tasks until none can begin: those that a process has left over are the next one's."""
        while (begun := self._begun()) is not None:
            try:
                process = self._process()
            except Exception as error:  # noqa: BLE001  (no task may be left without a result)
                self._fail(begun[0], error)
            else:
                self._do(process, begun)

    def _process(self) -> WorkerProcess:
        """A process that is ready for a task."""
        failure = ""
        for _ in range(2):
            with self._lock:
                if self._closed:
                    raise LostError("died", "being stopped")
                process = self._processes.take()
                self._busy.add(process)
            try:
                process.wait_until_ready()
                return process
            except LostError as error:
                failure = str(error)
                self._drop(process)
            except BaseException:
                self._drop(process)
                raise
        raise WorkerStartError(
            f"a worker process does not start ({failure}): is there memory for it (use fewer: workers=1), "
            f"and can {sys.executable} import this package?"
        )

    def _do(self, process: WorkerProcess, begun: tuple[_Job[Argument, Result], bytes] | None) -> None:
        """Let a process do a task and then what waits, until nothing does or the process is lost."""
        under_way: deque[_Job[Argument, Result]] = deque()
        at_once = process.tasks_at_once if self._ahead else 1
        while True:
            while begun is not None:
                job, data = begun
                under_way.append(job)
                try:
                    process.send(data, job.limits)
                except LostError:
                    break  # asking for the answer to the task before, or to this one, says why
                begun = self._begun() if len(under_way) < at_once else None
            answered = under_way.popleft()
            try:
                result = process.receive(partial(self._does.read, answered.argument))
            except BaseException as failure:  # noqa: BLE001  (no task may be left without a result)
                self._drop(process)
                self._end(*under_way, again=True)
                self._fail(answered, failure)
                return
            self._end(answered)
            begun = self._begun()
            done = begun is None and not under_way
            if done:  # before the last result lets the caller go on, and close
                self._give_back(process)
            if isinstance(result, Refusal):
                answered.future.set_exception(result.error)
            else:
                answered.future.set_result(result)
            if done:
                return

    def _give_back(self, process: WorkerProcess) -> None:
        with self._lock:
            stopped = self._closed and process in self._busy
            self._busy.discard(process)
        if stopped:
            self._processes.drop(process)
        else:
            self._processes.give(process)

    def _drop(self, process: WorkerProcess) -> None:
        self._processes.drop(process)
        with self._lock:
            self._busy.discard(process)
