"""What every test may ask for: the shared reference data, where it is present."""

from __future__ import annotations

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
