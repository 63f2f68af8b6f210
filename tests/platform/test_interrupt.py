"""A demo that is ended in the middle of an arrival: what is stored is whole, the next one does the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from radiobject_assets.cli.demo import run_demo
from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.store import RadiObject

SHAPE = (48, 48, 24)
COMMAND = "import sys; from radiobject_assets.cli.app import main; sys.argv[0] = 'radiobject-assets'; main()"


@pytest.mark.parametrize("ending", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_an_ended_demo_leaves_nothing_half_visible_and_is_completed_by_the_next(
    tmp_path: Path, ending: signal.Signals
) -> None:
    make_cohort(tmp_path / "landing", subjects=6, shape=SHAPE)
    demo = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "demo", "--home", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        _wait_for(tmp_path / "work" / "arrivals" / "batch-002" / "scan.parquet", demo)
        demo.send_signal(ending)
        said, _ = demo.communicate(timeout=200)
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
    if ending == signal.SIGINT:
        assert demo.returncode == 130
        assert "Traceback" not in said
    store = RadiObject(str(tmp_path / "store"))
    for name in store.collection_names:
        assert store.collection(name).verify() == []

    done = run_demo(tmp_path, shape=SHAPE)
    assert not done.has_problems
    assert [run.what for run in done.this_pass.arrivals] == ["batch-002"]
    assert done.overview.subjects == 6
    assert run_demo(tmp_path, shape=SHAPE).was_needless


def _wait_for(path: Path, demo: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        if demo.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the demo ended before it came to its second arrival: {demo.communicate()[0]}")
        time.sleep(0.02)
