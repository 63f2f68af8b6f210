"""What an audit of a folder costs: `python -m benchmarks.audit`.

Headers of 10,000 small CT files (100 series of 100), and one volume of 1 GB (512 x 512 x 2,000, int16) as
plain and as compressed NIfTI under a budget of 256 MB. CPU seconds stand beside those of the clock: a busy
machine stretches only these.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.headers import make_files
from benchmarks.measure import PeakOfTree, show, wide_console, write_json

COLUMNS = {
    "name": "what",
    "seconds": "s",
    "cpu_s": "CPU s",
    "per_minute": "files a minute",
    "per_cpu_minute": "files a CPU minute",
    "peak_rss_mb": "peak MB",
    "above_start_mb": "above an empty folder's",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write results/audit.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--slices", type=int, default=2_000)
    parser.add_argument("--results", type=Path, default=None, help="folder for the JSON")
    chosen = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-audit-") as folder:
        work_dir = Path(folder)
        (work_dir / "one").mkdir()
        (work_dir / "one" / "note.txt").write_text("nothing")
        empty = _audited("an empty folder", work_dir / "one", 0)
        rows.append(empty)
        make_files(work_dir / "files", chosen.files)
        for name, options in (("headers", ["--headers-only"]), ("headers and voxels", [])):
            rows.append(
                _audited(f"{name} of {chosen.files:,} files", work_dir / "files", chosen.files, *options)
            )
        for ending in (".nii", ".nii.gz"):
            at = work_dir / f"volume{ending}"
            at.mkdir()
            _write_volume(at / f"large{ending}", chosen.slices)
            rows.append(_audited(f"1 GB as {ending}", at, 1, "--memory-mb", "256"))
    for row in rows:
        row["above_start_mb"] = round(row["peak_rss_mb"] - empty["peak_rss_mb"])
    show("audit of a folder", rows, COLUMNS, wide_console())
    document = {"benchmark": "audit", "files": chosen.files, "slices": chosen.slices, "rows": rows}
    write_json("audit", document, *([chosen.results] if chosen.results else []))
    return 0


def _audited(name: str, folder: Path, files: int, *options: str) -> dict[str, float | str]:
    """The whole command, Python's start included."""
    command = [sys.executable, "-m", "radiobject_assets.cli", "audit", str(folder), "--json", *options]
    before, started = _cpu_of_children(), time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        peak = PeakOfTree(process.pid)
        process.wait()
    seconds, cpu = time.monotonic() - started, _cpu_of_children() - before
    return {
        "name": name,
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu, 1),
        "per_minute": round(files / seconds * 60),
        "per_cpu_minute": round(files / cpu * 60),
        "peak_rss_mb": round(peak.close_mb()),
    }


def _cpu_of_children() -> float:
    times = psutil.Process(os.getpid()).cpu_times()
    return float(times.children_user + times.children_system)


def _write_volume(path: Path, slices: int) -> None:
    import gzip

    import nibabel as nib
    import numpy as np

    header = nib.Nifti1Header()
    header.set_data_shape((512, 512, slices))
    header.set_data_dtype(np.int16)
    header.set_sform(np.diag([0.7, 0.7, 1.0, 1.0]), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    noise = np.random.default_rng(1).normal(0, 40, (512, 512, 16)).astype("<i2")
    with gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for start in range(0, slices, 16):
            file.write((noise[:, :, : min(16, slices - start)] + np.int16(start)).tobytes(order="F"))


if __name__ == "__main__":
    raise SystemExit(main())
