"""What every test may ask for: the shared reference data, where it is present."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real DICOM and NIfTI with independent references, beside the project's folder."""
    folder = PROJECT_ROOT.parent / "shared" / "data"
    if not (folder / "manifest.csv").is_file():
        pytest.skip("the reference images (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _no_state_in_the_home_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What commands remember between calls stays in the tests' own folder."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before
