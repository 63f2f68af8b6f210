"""What a look at a landing zone costs when nothing happens: the same look that the sensor takes.

    python -m benchmarks.landing --arrivals 1000 --files 100

Makes the files (empty ones) in a temporary folder, looks until all are settled, and then at the idle zone;
once more after one file has grown in place, until that is found.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from radiobject_assets.dataset.arrival_section import ArrivalsConfig
from radiobject_assets.landing.local_zone import LandingZone
from radiobject_assets.landing.settling import Seen
from radiobject_assets.landing.watching import Look, look

TICK_S = 30.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arrivals", type=int, default=1000)
    parser.add_argument("--files", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for arrival in range(arguments.arrivals):
            place = Path(folder, f"a{arrival:06}", "study")
            place.mkdir(parents=True)
            for file in range(arguments.files):
                os.close(os.open(place / f"IM{file:05}", os.O_CREAT | os.O_WRONLY))
        zone = LandingZone(Path(folder), ArrivalsConfig())
        seen: dict[str, Seen] = {}
        now_s = time.time() + 86_400
        first, seconds = timed(zone, seen, now_s)
        print(f"first look: {seconds:.2f} s, {len(first.settled)} settled")
        seen = dict(first.seen)
        print(
            f"remembered: {len(json.dumps({k: s.to_json() for k, s in seen.items()})) / len(seen):.0f} B each"
        )
        for _ in range(3):
            now_s += TICK_S
            idle, seconds = timed(zone, seen, now_s)
            seen = dict(idle.seen)
            print(f"idle look: {seconds:.3f} s")
        with open(Path(folder, "a000007", "study", "IM00000"), "ab") as file:
            file.write(b"grown")
        grown_s = now_s
        while not idle.unsettled:
            now_s += TICK_S
            idle, seconds = timed(zone, seen, now_s)
            seen = dict(idle.seen)
        print(f"growth in a file was found after {now_s - grown_s:.0f} s; last look {seconds:.3f} s")


def timed(zone: LandingZone, seen: dict[str, Seen], now_s: float) -> tuple[Look, float]:
    """One look and its seconds of this process, which a busy machine does not make longer."""
    started = time.process_time()
    found = look(zone, seen, now_s=now_s)
    return found, time.process_time() - started


if __name__ == "__main__":
    main()
