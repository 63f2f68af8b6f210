"""The processes behind `pool.run_tasks`: started, fed, watched, replaced and ended.

Apart from it, because little work is done without them, and what they need takes 20 ms to import.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic

import psutil

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.ingest.work.pool import SLACK_BYTES, Argument, Failure, Result, Task
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.files import whole_file
from radiobject_assets.system.memory import MB, MemoryBudget

log = logging.getLogger(__name__)

_WATCH_INTERVAL_S = 0.1
# How often pebble looks whether a pool is to end, or a worker has: every call waits for that at its end.
_POLL_S = 0.02
_STARTED = "started"
_NO_START = (
    'worker processes do not start: put what your script does under `if __name__ == "__main__":`, because '
    "every worker imports it; or where memory is short, use fewer (workers=1)"
)

_NO_STAY = (
    "the worker processes were ended by something else, often for want of memory: use fewer (workers=1); the "
    "same call again does what is left"
)


def run_in_processes(
    function: Callable[[Argument], Result],
    tasks: Sequence[Task[Argument]],
    compute: Compute,
    budget: MemoryBudget,
    board: Path,
) -> Iterator[tuple[int, Result | Failure]]:
    """What `run_tasks` yields, from worker processes; `board` is an empty folder for their notes."""
    workers = min(compute.workers, len(tasks))
    with _interrupts_deferred():
        pool = _started_pool(workers)
    watcher = _Watcher(board)
    waiting = list(range(len(tasks)))
    in_flight: dict[Future[Any], int] = {}
    used_bytes = 0
    try:
        while waiting or in_flight:
            for index in list(waiting):
                need = tasks[index].needed_bytes
                if len(in_flight) >= workers or (in_flight and used_bytes + need > budget.tasks_bytes):
                    break  # in order, so that a large task is not overtaken for ever
                call = _Call(function, tasks[index].argument, index, need, board)
                in_flight[pool.schedule(_run_call, args=(call,), timeout=compute.task_timeout_s)] = index
                used_bytes += need
                waiting.remove(index)
            done, _ = wait(in_flight, return_when=FIRST_COMPLETED)
            for future in done:
                index = in_flight.pop(future)
                used_bytes -= tasks[index].needed_bytes
                outcome = _outcome_of(future, watcher.overshoot(index), compute)
                if isinstance(outcome, Failure):
                    _raise_if_no_item_is_to_blame(outcome, (board / _STARTED).exists())
                yield index, outcome
        pool.close()
        pool.join()
    finally:
        watcher.stop()
        if pool.active:
            pool.stop()
            pool.join()


def _raise_if_no_item_is_to_blame(failure: Failure, started: bool) -> None:
    if failure.reason is Reason.WORKER_DIED and isinstance(failure.error, BrokenProcessPool | None):
        if not started:
            raise ConfigurationError(_NO_START)
        if failure.error is not None:  # a worker that had no task ended, and pebble gave up
            raise ConfigurationError(_NO_STAY) from failure.error


def _outcome_of(future: Future[Any], overshoot_mb: int | None, compute: Compute) -> Any:
    from pebble import ProcessExpired

    try:
        return future.result()
    except TimeoutError:
        return Failure(Reason.WORKER_TIMEOUT, f"not done after {compute.task_timeout_s:g} s")
    except ProcessExpired as error:
        if overshoot_mb is not None:
            return Failure(Reason.MEMORY_EXCEEDED, f"took {overshoot_mb} MB more than it had declared")
        return Failure(Reason.WORKER_DIED, f"the worker process ended with exit code {error.exitcode}")
    except Exception as error:  # noqa: BLE001  (whatever the task raised is its result; it is reported)
        return Failure(Reason.WORKER_DIED, f"{type(error).__name__}: {error}", error)


@dataclass(frozen=True)
class _Call(Generic[Argument, Result]):
    function: Callable[[Argument], Result]
    argument: Argument
    index: int
    needed_bytes: int
    board: Path


def _run_call(call: _Call[Any, Any]) -> Any:
    # the note tells the watcher which task this process works on and from what memory it started
    (call.board / _STARTED).touch()
    note = call.board / str(os.getpid())
    rss = psutil.Process().memory_info().rss
    with whole_file(note, sync=False) as staged:
        staged.write_text(f"{call.index} {rss} {call.needed_bytes}")
    # what a worker that is killed leaves of unpacked archives goes when the pool does
    temporary = call.board / "temporary"
    temporary.mkdir(mode=0o700, exist_ok=True)
    tempfile.tempdir = str(temporary)
    try:
        return call.function(call.argument)
    finally:
        note.unlink(missing_ok=True)


def _started_pool(workers: int) -> Any:
    from pebble import CONSTS, ProcessPool  # brings asyncio: 0.05 s, which little work here does without

    CONSTS.sleep_unit = _POLL_S
    context = _process_context()
    if sys.platform == "linux":
        # Ctrl-C reaches the whole process group, but the parent alone decides what to finish and what to
        # stop. A signal that is blocked here stays blocked in the fork server and in every worker from its
        # first instruction on; the tracker comes first, since starting it unblocks the signal.
        multiprocessing.resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            multiprocessing.forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    pool: Any = ProcessPool(max_workers=workers, context=context, initializer=_start_worker)
    if not pool.active:  # asking is what starts it
        raise RuntimeError("the pool of worker processes did not start")
    return pool


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block ends.

    An interrupt in the second that starting takes would leave workers that no one knows of: they find the
    pool's locks gone and die with a traceback on the user's terminal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in the main thread only
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = [(number, signal.signal(number, note)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where the parent could not see to it


def _process_context() -> multiprocessing.context.BaseContext:
    # A TileDB context made before a fork hangs in the child, so workers never are forks of this process.
    if sys.platform == "linux":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["radiobject_assets.ingest.work.volume"])
        return context
    return multiprocessing.get_context("spawn")


class _Watcher:
    """Ends workers whose resident memory exceeds what their task declared."""

    def __init__(self, board: Path) -> None:
        self._board = board
        self._ended: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="worker-memory", daemon=True)
        self._thread.start()

    def overshoot(self, index: int) -> int | None:
        """MB above its declaration, if the worker of task `index` was ended for it."""
        return self._ended.get(index)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_WATCH_INTERVAL_S):
            for note in self._board.iterdir():
                # a note may vanish, and a process end, between any two of these lines
                with contextlib.suppress(FileNotFoundError, psutil.Error, ValueError):
                    self._look_at(int(note.name), note.read_text())

    def _look_at(self, pid: int, note: str) -> None:
        index, start_rss, needed = (int(part) for part in note.split())
        over = psutil.Process(pid).memory_info().rss - start_rss - needed - SLACK_BYTES
        if over > 0:
            self._ended[index] = (over + SLACK_BYTES) // MB
            log.warning("a worker took %d MB more than declared and is ended", self._ended[index])
            psutil.Process(pid).kill()
