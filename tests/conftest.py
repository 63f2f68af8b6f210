"""What every test may ask for: the shared reference data, where it is present; temporary files in memory."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

# No test is about time: the first example imports things, and machines are busy.
settings.register_profile("unhurried", parent=settings(), deadline=None)
settings.load_profile("unhurried")

PROJECT_ROOT = Path(__file__).resolve().parent.parent

_MEMORY_DISK = Path("/dev/shm")
_ROOT = "PYTEST_DEBUG_TEMPROOT"  # pytest's own name for where `tmp_path` is
_PREFIX = "radiobject-tests-"
_NEEDED_BYTES = 6 * 2**30


def _in_memory() -> Path | None:
    """A folder in memory for what tests write, where there is plenty: TileDB waits for the disk at each file.

    The stores' tests are three times faster there. What a killed writer leaves is the same: the kernel keeps
    what was written.
    """
    try:
        room = min(shutil.disk_usage(_MEMORY_DISK).free, psutil.virtual_memory().available)
        if _ROOT in os.environ or room < _NEEDED_BYTES:
            return None
        for left in _MEMORY_DISK.glob(f"{_PREFIX}*"):
            if not psutil.pid_exists(int(left.name.removeprefix(_PREFIX))):
                shutil.rmtree(left, ignore_errors=True)
        folder = _MEMORY_DISK / f"{_PREFIX}{os.getpid()}"
        folder.mkdir()
    except (OSError, ValueError):
        return None
    os.environ[_ROOT] = str(folder)  # the workers inherit it
    return folder


_MADE = _in_memory()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test that is `sampled(n)` each n-th variant runs by default; the others are slow tests."""
    seen: Counter[str] = Counter()
    for item in items:
        sampled = item.get_closest_marker("sampled")
        if sampled is not None:
            name = item.nodeid.partition("[")[0]
            if seen[name] % sampled.args[0]:
                item.add_marker(pytest.mark.slow)
            seen[name] += 1


def pytest_unconfigure() -> None:
    """Give the memory back; workers find the place set and have made nothing."""
    if _MADE is not None:
        shutil.rmtree(_MADE, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real DICOM and NIfTI with independent references, beside the project's folder."""
    folder = PROJECT_ROOT.parent / "shared" / "data"
    if not (folder / "manifest.csv").is_file():
        pytest.skip("the reference images (../shared/data) are not on this machine")
    return folder
