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

import pytest

from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.ingest.work.pool import SLACK_BYTES, Failure, Task, run_tasks
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MB, MemoryBudget


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


def test_workers_that_cannot_start_are_told_as_such_and_no_item_is_blamed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from radiobject_assets.system.compute import Compute\n"
        "from radiobject_assets.ingest.work.pool import Task, run_tasks\n"
        "from radiobject_assets.system.memory import MemoryBudget\n"
        "tasks = [Task('a', 1), Task('b', 1)]\n"
        "print(list(run_tasks(len, tasks, compute=Compute(workers=2), budget=MemoryBudget(256))))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ConfigurationError: worker processes do not start" in done.stderr
    assert done.stdout == ""


def test_a_worker_that_hangs_is_ended_after_its_time() -> None:
    results = run(
        [Order("hang"), Order("ok", 2)], task_timeout_s=5.0
    )  # a busy machine needs some of it for the other
    assert isinstance(results[0], Failure)
    assert results[0].reason is Reason.WORKER_TIMEOUT
    assert results[1] == 4


def test_a_worker_that_takes_more_memory_than_declared_is_ended() -> None:
    results = run([Order("swell"), Order("ok", 2)])
    assert isinstance(results[0], Failure)
    assert results[0].reason is Reason.MEMORY_EXCEEDED
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
