"""Damages real files as transfers, disks and careless tools do, and reads them through the pipeline."""

from __future__ import annotations

import gzip
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.policy import SeriesPolicy
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series

SLAB_BYTES = 4 << 20
KEEP = SeriesPolicy(
    components="keep", irregular_spacing="keep", nifti_description="keep", nifti_extensions="keep"
)


@dataclass(frozen=True)
class Batch:
    """Mutations `first` to `first + count - 1`, each of one file of the series that its number picks."""

    folders: tuple[tuple[Path, ...], ...]
    """The files of each series."""
    first: int
    count: int


@dataclass
class Findings:
    """What became of a batch: verdicts counted, and whatever should not have happened."""

    verdicts: Counter[str] = field(default_factory=Counter)
    escaped: list[str] = field(default_factory=list)
    """Errors that were no verdict, and files that were counted wrongly: mutation number and what happened."""
    slowest_s: float = 0.0
    peak_rss_mb: float = 0.0

    def add(self, other: Findings) -> None:
        """Take in what another batch found."""
        self.verdicts.update(other.verdicts)
        self.escaped += other.escaped
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.peak_rss_mb = max(self.peak_rss_mb, other.peak_rss_mb)


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """A damaged copy: bits and bytes changed, runs overwritten, parts lost, doubled, inserted, or cut off."""
    out = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        # Headers decide most, and most of a file is pixels: half of the damage goes to the first kilobytes.
        reach = len(out) if random.random() < 0.5 else min(len(out), 4096)
        if reach < 2:
            break
        at = int(random.integers(reach))
        length = int(min(random.integers(1, 64), len(out) - at))
        kind = int(random.integers(8))
        if kind == 0:
            out[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            out[at] = int(random.integers(256))
        elif kind == 2:
            out[at : at + length] = random.integers(0, 256, length, dtype=np.uint8).tobytes()
        elif kind == 3:
            out[at : at + 4] = random.choice(
                np.array([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
            )
        elif kind == 4:
            del out[at : at + length]
        elif kind == 5:
            out[at:at] = out[at : at + length]
        elif kind == 6:
            out[at:at] = random.integers(0, 256, length, dtype=np.uint8).tobytes()
        elif random.random() < 0.3:
            del out[at:]
    return bytes(out)


def damaged(path: Path, random: np.random.Generator) -> bytes:
    """A mutation of a file; of a gzip file half of the time of what is inside."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b" and random.random() < 0.5:
        return gzip.compress(mutate(gzip.decompress(data), random), 1)
    return mutate(data, random)


def read_everything(files: Sequence[Path]) -> list[str]:
    """The verdict on each file and series, pixels read.

    Raises
    ------
    AssertionError
        If a file is in no series, or in two.
    """
    found = scan(list(files))
    verdicts = [f"unreadable: {entry.reason}" for entry in found.unreadable]
    counted = len(found.unreadable)
    for series in build_series(found, policy=KEEP):
        counted += len(series.files)
        if series.verdict == "quarantined":
            verdicts.append(f"quarantined: {series.reason}")
            continue
        try:
            source = open_series(series)
            slice_bytes = source.dtype.itemsize * source.shape[0] * source.shape[1]
            for _ in source.slabs(max(1, SLAB_BYTES // max(1, slice_bytes))):
                pass
            assert source.source_digest()
            verdicts.append("read")
        except ImageReadError as error:
            verdicts.append(f"failed: {error.code}")
    assert counted == len(files), f"{counted} of {len(files)} files are accounted for"
    return verdicts


def run_batch(batch: Batch) -> Findings:
    """Apply the mutations one after the other; the same numbers give the same mutations."""
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="mutations-") as scratch:
        for number in range(batch.first, batch.first + batch.count):
            random = np.random.default_rng(number)
            files = batch.folders[number % len(batch.folders)]
            victim = files[int(random.integers(len(files)))]
            copy = Path(scratch, victim.name)
            copy.write_bytes(damaged(victim, random))
            started = time.monotonic()
            try:
                findings.verdicts.update(read_everything([copy, *(f for f in files if f != victim)]))
            except Exception as error:  # noqa: BLE001  (whatever escapes is what is looked for)
                findings.escaped.append(f"{number} ({victim.parent.name}): {type(error).__name__}: {error}")
            findings.slowest_s = max(findings.slowest_s, time.monotonic() - started)
            copy.unlink()
    findings.peak_rss_mb = _peak_rss_mb()
    return findings


def _peak_rss_mb() -> float:
    """Of this program alone: `ru_maxrss` also has that of the process which started it, until its exec."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1024
