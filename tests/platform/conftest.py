"""A whole run of the demo on an own Dagster instance, shared by the tests that only look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from radiobject_assets.cli.demo import DemoSummary, run_demo
from radiobject_assets.phantom.cohort import cohort_truth
from radiobject_assets.phantom.truth import CohortTruth

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
    home = tmp_path_factory.mktemp("line")
    first = run_demo(home, shape=SHAPE)
    return Line(home, cohort_truth(shape=SHAPE), first)
