"""What the resource monitor costs: the processor time of its own thread, as a share of one core.

    python benchmarks/monitor.py

A tree of a parent with 400 MB and four children with 200 MB each, watched for ten seconds, as a run with its
workers is.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from radiobject_assets.system.resource_monitor import ResourceMonitor

SECONDS = 10.0
PROGRAM = "import time, sys; block = bytearray(b'x') * 200_000_000; time.sleep(3600)"


def thread_seconds(native_id: int) -> float:
    """Processor time of one thread of this process."""
    values = Path(f"/proc/self/task/{native_id}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / 100


def main() -> None:
    """Measure and print one line."""
    children = [subprocess.Popen([sys.executable, "-c", PROGRAM]) for _ in range(4)]
    block = bytearray(b"x") * 400_000_000
    try:
        time.sleep(3)
        started = time.monotonic()
        with ResourceMonitor() as monitor:
            thread = next(one for one in threading.enumerate() if one.name == "resource-monitor")
            time.sleep(SECONDS)
            used = thread_seconds(thread.native_id or 0)
        passed = time.monotonic() - started
    finally:
        for child in children:
            child.kill()
            child.wait()
    print(
        f"{used / passed:.2%} of a core over {passed:.1f} s; peak {monitor.peak_mb:.0f} MB of "
        f"{len(block) / 2**20 + 4 * 200e6 / 2**20:.0f} MB held; {len(monitor.samples)} samples"
    )


if __name__ == "__main__":
    main()
