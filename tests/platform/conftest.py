"""A whole run of the demo on an own Dagster instance, shared by the tests that only look at it."""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from radiobject_assets.cli.demo import DemoSummary, run_demo
from radiobject_assets.phantom.cohort import cohort_truth
from radiobject_assets.phantom.truth import CohortTruth
from radiobject_assets.system.locks import file_lock

SHAPE = (64, 64, 32)


@dataclass(frozen=True)
class Line:
    """A home that was run once, and the truth about what is in it."""

    home: Path
    truth: CohortTruth
    first: DemoSummary
    shape: tuple[int, int, int] = SHAPE

    @property
    def store_uri(self) -> str:
        return str(self.home / "store")


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """Run by one of the workers; each has a copy of its own, for all that is looked at there."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    made, summary = shared / "line-made", shared / "line-summary.pickle"
    with file_lock(shared / "line.lock", wait_s=900):
        if not summary.is_file():
            shutil.rmtree(made, ignore_errors=True)
            summary.write_bytes(pickle.dumps(run_demo(made, shape=SHAPE)))
    home = tmp_path_factory.mktemp("line")
    shutil.copytree(made, home, dirs_exist_ok=True)
    return Line(home, cohort_truth(shape=SHAPE), replace(pickle.loads(summary.read_bytes()), home=home))
