"""Voxels go through in slabs, whatever the size of a volume."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.audit.folder_audit import audit_folder
from radiobject_assets.system.memory import MB, MemoryBudget
from radiobject_assets.system.resource_monitor import ResourceMonitor
from tests.platform.deployed import ROOT


def _sparse(path: Path, slices: int) -> None:
    """A volume of zeros that takes no space on the disk."""
    header = nib.Nifti1Header()
    header.set_data_shape((512, 512, slices))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.truncate(352 + 512 * 512 * slices * 2)


def test_a_volume_takes_a_small_part_of_its_size(tmp_path: Path) -> None:
    _sparse(tmp_path / "large.nii", 96)  # 48 MB; as float32 it would be 96
    tracemalloc.start()
    try:
        found = audit_folder(tmp_path, budget=MemoryBudget(256))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [one.kind.code for report in found.reports for one in report.findings] == ["image_constant"]
    assert peak < 40 * MB


@pytest.mark.slow
def test_a_volume_of_1_gb_takes_256_mb_with_the_interpreter(tmp_path: Path) -> None:
    _sparse(tmp_path / "large.nii", 2000)
    command = [sys.executable, "-m", "radiobject_assets.cli", "audit", str(tmp_path), "--json"]
    with ResourceMonitor() as monitor:
        done = subprocess.run(
            [*command, "--memory-mb", "256"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1, done.stderr
    assert monitor.grown_mb < 256
