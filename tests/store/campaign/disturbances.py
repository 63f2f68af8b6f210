"""How a round is disturbed, and the disk on which that can be done.

The store lies on a small file system in memory of the campaign's own, where the account may mount one: then a
full disk is a full disk. Elsewhere a limit on the size of files makes writing fail. A kill comes at a random
moment, or at the n-th file that the process touches, which comes again with the same seed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal[
    "none", "kill", "kill at a file", "stop", "full disk", "quota", "read-only", "few descriptors", "clock",
    "s3 reset", "s3 truncate", "s3 slow down", "s3 silence", "s3 slow", "s3 lost answer",
]  # fmt: skip

_CLONE_NEWNS = 0x00020000
_DISK_MB = 512


@dataclass(frozen=True)
class Disturbance:
    """What befalls one process of a round (or, on S3 and for the disk, all of them)."""

    kind: Kind
    amount: float = 0.0
    """Seconds after the process began, files until the kill, bytes left, or descriptors."""
    where: str = ""
    """Requests that an S3 fault meets."""
    late: bool = False
    """Counted from when the arrays are written, so that it falls into the commit."""

    @property
    def kills(self) -> bool:
        """Whether it is meant to end the process."""
        return self.kind in ("kill", "kill at a file")


LOCAL: dict[Kind, int] = {
    "kill": 40, "kill at a file": 34, "stop": 8, "full disk": 4, "quota": 3, "read-only": 2,
    "few descriptors": 3, "clock": 2, "none": 4,
}  # fmt: skip
S3: dict[Kind, int] = {
    "kill": 50, "stop": 8, "s3 reset": 8, "s3 truncate": 6, "s3 slow down": 6, "s3 silence": 3, "s3 slow": 5,
    "s3 lost answer": 10, "none": 4,
}  # fmt: skip
_WHERE = ("", "^PUT", "^(PUT|POST)", "^GET", "^LIST", "^DELETE", "^PUT .*(json|parquet|wrt|meta)")


def draw(rng: random.Random, remote: bool, typical_s: float) -> Disturbance:
    """A disturbance; `typical_s` is about how long an operation takes."""
    table = S3 if remote else LOCAL
    kind = rng.choices(list(table), list(table.values()))[0]
    match kind:
        case "kill" | "stop":
            late = rng.random() < 0.4
            return Disturbance(kind, rng.random() ** 1.5 * typical_s * (0.5 if late else 1.3), late=late)
        case "kill at a file":
            return Disturbance(kind, int(1 + rng.random() ** 2 * 160))
        case "full disk":
            return Disturbance(kind, rng.choice([0, 4096, 16_384, rng.randrange(200_000)]))
        case "quota":
            return Disturbance(kind, rng.choice([0, 100, 1000, 4000]))
        case "few descriptors":
            return Disturbance(kind, rng.randrange(1, 25))
        case "clock":
            return Disturbance(kind, rng.choice([-3.0, -3600.0, -90_000.0]))
        case "s3 slow":
            return Disturbance(kind, 0.05)
        case "s3 silence":
            return Disturbance(kind, 1, rng.choice(_WHERE))
        case kind if kind.startswith("s3"):
            return Disturbance(kind, rng.randint(1, 6), rng.choice(_WHERE))
    return Disturbance(kind)


class Disk:
    """The folder of a campaign, and what can be done to the file system below it."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self.folder = folder
        self.mounted = mounted
        self._ballast = folder / "ballast"

    def fill(self, left: int) -> bool:
        """Leave so many bytes free; False where that cannot be done here."""
        if not self.mounted:
            return False
        with contextlib.suppress(OSError), self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(self.folder).free - left))
        return True

    def relieve(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def disk() -> Iterator[Disk]:
    """A disk for a campaign: its own small one, seen by this process and its children alone, if possible."""
    where = os.environ.get("PYTEST_DEBUG_TEMPROOT") or ("/dev/shm" if Path("/dev/shm").is_dir() else None)
    folder = Path(tempfile.mkdtemp(prefix="campaign-", dir=where))
    folder.chmod(0o755)
    mounted = _mount(folder)
    try:
        yield Disk(folder, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _mount(folder: Path) -> bool:
    if os.geteuid() != 0:
        return False
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        return False
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m,mode=755", "campaign", str(folder)],
    ):
        try:
            if subprocess.run(command, check=False, capture_output=True).returncode != 0:
                return False
        except OSError:
            return False
    return True
