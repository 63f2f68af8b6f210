"""The cores that a process counts on, and what is done in its forks."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from radiobject_assets.system.processes import cpu_limit, usable_cores


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("own", ["0::/batch/job\n", "5:memory:/elsewhere\n0::/batch/job\n"])
def test_the_smallest_limit_from_a_process_up_to_the_root_counts(tmp_path: Path, own: str) -> None:
    write(tmp_path / "batch" / "job" / "cpu.max", "max 100000\n")
    assert cpu_limit(own, tmp_path) == math.inf
    write(tmp_path / "batch" / "cpu.max", "150000 100000\n")
    assert cpu_limit(own, tmp_path) == 1.5
    write(tmp_path / "batch" / "job" / "cpu.max", "50000 100000\n")
    assert cpu_limit(own, tmp_path) == 0.5


def test_a_container_that_sees_its_own_group_as_the_root_finds_its_limit(tmp_path: Path) -> None:
    write(tmp_path / "cpu.max", "200000 100000\n")
    assert cpu_limit("0::/docker/0123abcd\n", tmp_path) == 2


def test_limits_of_the_first_generation_count_too(tmp_path: Path) -> None:
    own = "4:memory:/job\n3:cpu,cpuacct:/job\n2:cpuset:/job\n"
    write(tmp_path / "cpu" / "job" / "cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "cpu" / "job" / "cpu.cfs_period_us", "100000\n")
    assert cpu_limit(own, tmp_path) == math.inf
    write(tmp_path / "cpu" / "job" / "cpu.cfs_quota_us", "300000\n")
    assert cpu_limit(own, tmp_path) == 3


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
def test_a_process_that_is_bound_to_one_core_counts_on_one() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from radiobject_assets.system.processes import usable_cores; print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def test_calls_after_a_fork_are_made_in_the_child_alone_and_in_order() -> None:
    code = (
        "import os\n"
        "from radiobject_assets.system.processes import after_fork\n"
        "after_fork(lambda: print('first', flush=True))\n"
        "after_fork(lambda: print('second', flush=True))\n"
        "child = os.fork()\n"
        "os._exit(0) if child == 0 else os.waitpid(child, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["first", "second"]
