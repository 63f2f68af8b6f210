"""Stores of known voxels for every test of this folder."""

from __future__ import annotations

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


@pytest.fixture
def cohort(make_store: Callable[[], TruthStore]) -> TruthStore:
    """Three subjects with CT and labels, written in an order that is not that of their ids."""
    store = make_store()
    for number in (3, 1, 2):
        store.add_subject(number)
    return store
