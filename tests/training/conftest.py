"""Stores of known voxels for every test of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from truth_store import TruthStore

from radiobject_assets.store import ensure_store


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[], TruthStore]:
    """A function that makes an empty store."""

    def make() -> TruthStore:
        uri = str(tmp_path / "store")
        ensure_store(uri)
        return TruthStore(uri)

    return make


@pytest.fixture(scope="session")
def written_cohort(tmp_path_factory: pytest.TempPathFactory) -> TruthStore:
    """Three subjects with CT and labels, written in an order that is not that of their ids."""
    uri = str(tmp_path_factory.mktemp("cohort") / "store")
    ensure_store(uri)
    store = TruthStore(uri)
    for number in (3, 1, 2):
        store.add_subject(number)
    return store


@pytest.fixture
def cohort(written_cohort: TruthStore, tmp_path: Path) -> TruthStore:
    """A copy of the three subjects' store, for one test to change as it likes."""
    uri = str(tmp_path / "cohort")
    shutil.copytree(written_cohort.uri, uri)
    return TruthStore(uri, dict(written_cohort.stored), dict(written_cohort.rescale))
