"""The memory budget's parts, and what is measured of real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.system.memory import MB, MemoryBudget
from radiobject_assets.system.resource_monitor import ResourceMonitor


def test_the_parts_of_a_budget_never_exceed_it() -> None:
    budget = MemoryBudget(1000)
    parts = budget.tasks_bytes + budget.tiledb_bytes + budget.tile_cache_bytes
    assert parts <= budget.total_bytes == 1000 * MB


def test_a_budget_too_small_to_work_with_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 64"):
        MemoryBudget(8)


def test_the_peak_includes_what_child_processes_held() -> None:
    # long enough to be looked at: a look at a busy machine's processes takes some ms, and 0.4 % of the time
    program = "import time; block = bytearray(b'x') * 200_000_000; time.sleep(4)"
    with ResourceMonitor() as peak:
        subprocess.run([sys.executable, "-c", program], check=True)
    assert peak.grown_mb > 180
