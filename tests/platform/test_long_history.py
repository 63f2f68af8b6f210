"""What a tick and an arrival cost does not grow with the arrivals before them: files and folders are counted.

Seconds are for `benchmarks/platform`, whose simulated histories are used here in a small form.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.platform.simulated import Simulated, deliver, empty, take_in
from benchmarks.platform.ticks import arrivals_tick
from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_ct_series
from radiobject_assets.platform.automation.sensors import ARRIVALS_SENSOR
from radiobject_assets.platform.automation.tick import ASKED_AT_ONCE
from radiobject_assets.platform.headless import execute_request

# What differs by chance: parts of the table of arrivals, segments that a commit merges, connections.
BY_CHANCE = 20
COUNTED = {"open", "os.scandir", "os.listdir"}
_counts: list[int] = []


def _count(event: str, about: tuple[object, ...]) -> None:
    # how often memory is measured (/proc) goes by the clock
    if _counts and event in COUNTED and not str(about[0]).startswith("/proc/"):
        _counts[-1] += 1


sys.addaudithook(_count)


def touched(call: Callable[[], object]) -> int:
    """How many files are opened, and folders listed, while something is done."""
    _counts.append(0)
    try:
        call()
        return _counts[-1]
    finally:
        _counts.clear()


@contextmanager
def history(folder: Path, arrivals: int) -> Iterator[Simulated]:
    with empty(folder / f"of-{arrivals}") as made:
        take_in(made, [f"drop-{number:06}" for number in range(arrivals)], series=1)
        arrivals_tick(made)  # what is imported and made once is not what is counted
        yield made


def take_one_in(of: Simulated, number: int) -> int:
    make_ct_series(of.folder / "landing" / f"new-{number:06}", shape=(16, 16, 4), seed=number)
    (request,) = arrivals_tick(of).run_requests
    definitions, runs = build_definitions(of.settings), []
    count = touched(lambda: runs.append(execute_request(definitions, of.instance, ARRIVALS_SENSOR, request)))
    assert runs[0].succeeded, runs[0].problem
    return count


@pytest.mark.slow
def test_an_idle_tick_and_an_arrival_touch_as_many_files_after_800_arrivals_as_after_200(
    tmp_path: Path,
) -> None:
    ticks, runs = [], []
    for arrivals in (200, 800):
        with history(tmp_path, arrivals) as of:
            ticks.append(touched(lambda of=of: arrivals_tick(of)))
            take_one_in(of, 0)
            runs.append(take_one_in(of, 1))
    assert ticks[1] <= ticks[0] + BY_CHANCE
    assert runs[1] <= runs[0] + BY_CHANCE


def test_of_many_folders_that_come_at_once_a_tick_asks_for_some(tmp_path: Path) -> None:
    with empty(tmp_path / "home") as of:
        deliver(of, [f"drop-{number:06}" for number in range(300)])
        found = arrivals_tick(of)
        assert 0 < len(found.run_requests) <= ASKED_AT_ONCE
        # nothing of them is in the cursor, which is kept with every tick
        assert len(found.cursor) < 100
