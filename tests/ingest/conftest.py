"""A small phantom cohort on disk, shared by the tests that ingest it."""

from __future__ import annotations

from pathlib import Path

import pytest

from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.phantom.truth import CohortTruth

SHAPE = (64, 64, 32)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CohortTruth]:
    """The landing zone of eight subjects, and the truth about them."""
    landing = tmp_path_factory.mktemp("cohort") / "landing"
    return landing, make_cohort(landing, subjects=8, seed=7, shape=SHAPE)
