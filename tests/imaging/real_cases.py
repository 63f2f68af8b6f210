"""Real circumstances of the reference data, copied to where a test may change them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset


def copy_case(shared_data: Path, name: str, folder: Path) -> Path:
    """The input files of a case; the test is skipped where it is not there."""
    source = shared_data / "cases" / name / "input"
    if not source.is_dir():
        pytest.skip(f"the reference data has no case {name}")
    folder.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        shutil.copyfile(path, folder / path.name)
    return folder


def change(folder: Path, edit: Callable[[FileDataset], None]) -> Path:
    """Edit every DICOM file of a folder in its place."""
    for path in sorted(folder.iterdir()):
        ds = dcmread(path)
        edit(ds)
        ds.save_as(path)
    return folder
