"""A whole run of the demo on an own Dagster instance, shared by the tests that only look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from radiobject_assets.cli.demo import DemoSummary
from radiobject_assets.phantom.cohort import cohort_truth
from radiobject_assets.phantom.truth import CohortTruth
from tests.platform.shared_demo import SHAPE, shared_demo


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
    made = shared_demo(tmp_path_factory)
    return Line(made.home, cohort_truth(shape=SHAPE), made.summary)
