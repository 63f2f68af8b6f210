"""Tasks that die, hang or overshoot fail alone; the declared bytes in flight stay within the budget."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.ingest.work.volume_pool import Failure, Task, run_tasks
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MB, MemoryBudget
from radiobject_assets.workers.calls import CALLS
from radiobject_assets.workers.idle_processes import Processes
from radiobject_assets.workers.pool import WorkerPool
from radiobject_assets.workers.process import SLACK_BYTES, Limits


class _OddError(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


@dataclass(frozen=True)
class Order:
    what: str
    value: int = 0
    folder: str = ""


def work(order: Order) -> int:
    if order.what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if order.what == "hang":
        time.sleep(60)
    if order.what == "swell":
        block = bytearray(b"x") * (SLACK_BYTES + 300 * MB)
        time.sleep(20)
        return len(block)
    if order.what == "leave":
        left = Path(tempfile.mkdtemp(), "image")
        left.write_bytes(b"a patient's image")
        Path(order.folder, "left").write_text(str(left))
        os.kill(os.getpid(), signal.SIGKILL)
    if order.what == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(order.folder, "new").write_text(f"{os.getpid()} {child.pid}")
        Path(order.folder, "new").rename(Path(order.folder, "pids"))
        time.sleep(600)
    if order.what == "odd error":
        raise _OddError("two", "parts")
    if order.what == "raise":
        raise ValueError("bad item")
    if order.what == "overlap":
        folder = Path(order.folder)
        mine = folder / f"running-{order.value}"
        mine.touch()
        # Where two may run, the first waits for the second worker, which starts slowly on a busy machine.
        until = time.monotonic() + (60 if (folder / "two").exists() else 0.3)
        seen = 0
        while seen < 2 and time.monotonic() < until and not (folder / "met").exists():
            seen = len(list(folder.glob("running-*")))
            time.sleep(0.01)
        if seen == 2:
            (folder / "met").touch()
            time.sleep(0.1)
        mine.unlink()
        return seen
    return order.value * 2


def run(orders: list[Order], needed_bytes: int = MB, **settings: float) -> dict[int, int | Failure]:
    compute = Compute(workers=2, **settings)
    tasks = [Task(order, needed_bytes) for order in orders]
    return dict(run_tasks(work, tasks, compute=compute, budget=MemoryBudget(256)))


def test_a_worker_that_dies_takes_only_its_own_item() -> None:
    results = run([Order("ok", 1), Order("die"), Order("ok", 3), Order("raise"), Order("ok", 5)])
    assert [results[0], results[2], results[4]] == [2, 6, 10]
    assert isinstance(results[1], Failure)
    assert results[1].reason is Reason.WORKER_DIED
    assert isinstance(results[3], Failure)
    assert "bad item" in results[3].detail


def test_what_a_killed_worker_had_unpacked_does_not_stay_on_the_disk(tmp_path: Path) -> None:
    results = run([Order("leave", folder=str(tmp_path)), Order("ok", 2)])
    assert isinstance(results[0], Failure)
    assert not Path((tmp_path / "left").read_text()).exists()


def test_workers_that_cannot_start_are_told_as_such_and_no_item_is_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ConfigurationError, match="does not start"):
        run([Order("ok", 1), Order("ok", 2)])


def test_a_path_that_a_script_put_on_the_module_path_does_not_keep_workers_from_starting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", [tmp_path, *sys.path])
    assert run([Order("ok", 1), Order("ok", 2)]) == {0: 2, 1: 4}


def test_a_script_without_a_main_guard_has_its_work_done_in_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from radiobject_assets.system.compute import Compute\n"
        "from radiobject_assets.ingest.work.volume_pool import Task, run_tasks\n"
        "from radiobject_assets.system.memory import MemoryBudget\n"
        "tasks = [Task('a', 1), Task('bb', 1)]\n"
        "print(sorted(run_tasks(len, tasks, compute=Compute(workers=2), budget=MemoryBudget(256))))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[(0, 1), (1, 2)]\n", "")


def test_an_argument_or_an_error_that_cannot_be_pickled_costs_its_item_alone() -> None:
    orders = [Order("odd error"), Order("ok", 2), Order("ok", lambda: 1), Order("ok", 4)]  # type: ignore[arg-type]
    results = run(orders)
    assert [results[1], results[3]] == [4, 8]
    assert isinstance(results[0], Failure)
    assert "_OddError: two parts" in results[0].detail
    assert isinstance(results[2], Failure)
    assert "pickle" in results[2].detail


def test_a_worker_that_hangs_is_ended_after_its_time() -> None:
    results = run(
        [Order("hang"), Order("ok", 2)], task_timeout_s=5.0
    )  # a busy machine needs some of it for the other
    assert isinstance(results[0], Failure)
    assert results[0].reason is Reason.WORKER_TIMEOUT
    assert results[1] == 4


def test_memory_that_a_task_may_not_have_is_refused_to_it_and_its_worker_goes_on() -> None:
    processes = Processes("radiobject_assets.workers.calls:call")
    pool = WorkerPool(CALLS, processes, 1)
    limits = Limits(MB, 60, refuses_memory=True)
    try:
        assert pool.submit((len, "abc"), limits).result() == 3
        (pid,) = processes.idle_pids
        with pytest.raises(MemoryError):
            pool.submit((bytearray, 8 << 30), limits).result()
        assert pool.submit((len, "ab"), limits).result() == 2
        assert processes.idle_pids == [pid]
    finally:
        pool.close()
        processes.end()


def test_a_worker_that_takes_more_memory_than_declared_is_ended() -> None:
    results = run([Order("swell"), Order("ok", 2)])
    assert isinstance(results[0], Failure)
    assert results[0].reason is Reason.MEMORY_EXCEEDED
    assert "1 MB were declared" in results[0].detail
    assert results[1] == 4


@pytest.mark.parametrize(("needed_mb", "at_once"), [(100, 1), (10, 2)])
def test_only_as_many_run_at_once_as_the_budget_admits(tmp_path: Path, needed_mb: int, at_once: int) -> None:
    if at_once == 2:
        (tmp_path / "two").touch()
    orders = [Order("overlap", number, str(tmp_path)) for number in range(4)]
    results = run(orders, needed_bytes=needed_mb * MB)
    assert max(value for value in results.values() if isinstance(value, int)) == at_once


def test_a_task_larger_than_the_whole_share_still_runs() -> None:
    assert run([Order("ok", 4)], needed_bytes=10_000 * MB) == {0: 8}


def _are_gone(pids: list[int]) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        time.sleep(0.02)
    return False


def test_a_worker_that_does_not_end_when_asked_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    results = run([Order("ignore", folder=str(tmp_path)), Order("ok", 2)], task_timeout_s=8.0)
    assert isinstance(results[0], Failure)
    assert results[0].reason is Reason.WORKER_TIMEOUT
    assert results[1] == 4
    assert _are_gone([int(pid) for pid in (tmp_path / "pids").read_text().split()])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_parent_leaves_no_worker_at_work(tmp_path: Path, number: signal.Signals) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from test_pool import Order, run; run([Order('ignore', folder={str(tmp_path)!r}), Order('ok')])"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    while not (tmp_path / "pids").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(30) != 0
    assert _are_gone([int(pid) for pid in (tmp_path / "pids").read_text().split()])
