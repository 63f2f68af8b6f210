"""Circumstances from public reports and real files, each with what is right (../shared/data/cases)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# the comparison with dcm2niix is shared with the tests of `imaging`
sys.path.append(str(Path(__file__).parent.parent / "imaging"))


@pytest.fixture
def case_folder(shared_data: Path) -> Callable[[str], Path]:
    """The folder of a case by its id; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        folder = shared_data / "cases" / name
        if not (folder / "input").is_dir():
            pytest.skip(f"the circumstances of {name} are not on this machine")
        return folder

    return find
