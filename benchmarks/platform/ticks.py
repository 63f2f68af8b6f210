"""Ticks and arrivals with a long history: `python -m benchmarks.platform.ticks [--arrivals 12000]`.

Measured in this process over a simulated history (`simulated`), on SQLite or Postgres: a tick when nothing
happens, a tick of what follows, a whole arrival (one tiny CT, its real run) beside the same in an empty
system, and ticks after as many new folders came at once. Seconds are of CPU beside those of the clock, which
a busy machine makes longer.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, show, wide_console, write_json
from benchmarks.platform.simulated import Simulated, deliver, empty, take_in
from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_ct_series
from radiobject_assets.platform.automation.sensors import ARRIVALS_SENSOR, FOLLOW_UP_SENSOR
from radiobject_assets.platform.headless import evaluate_sensor, execute_request
from tests.platform.deployed import postgres

COLUMNS = {"name": "what", "clock_s": "seconds", "cpu_s": "CPU seconds", "wanted": "wanted", "told": "told"}


class Measured:
    """Rows of the table, as they are measured."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def time(
        self, name: str, call: Callable[[], Any], wanted: str = "", told: Callable[[Any], str] = str
    ) -> Any:
        """Call and note."""
        cpu, clock = time.process_time(), time.perf_counter()
        found = call()
        self.rows.append(
            {
                "name": name,
                "clock_s": round(time.perf_counter() - clock, 3),
                "cpu_s": round(time.process_time() - cpu, 3),
                "wanted": wanted,
                "told": told(found),
            }
        )
        print(self.rows[-1], file=sys.stderr, flush=True)
        return found


def arrivals_tick(of: Simulated) -> Any:
    """One tick of the arrivals' sensor, and what the daemon does with its partitions."""
    definitions = build_definitions(of.settings)
    found = evaluate_sensor(definitions, of.instance, ARRIVALS_SENSOR)
    for change in found.dynamic_partitions_requests or []:
        of.instance.add_dynamic_partitions(change.partitions_def_name, list(change.partition_keys))
    return found


def follow_up_tick(of: Simulated) -> Any:
    """One tick of the sensor of what follows."""
    return evaluate_sensor(build_definitions(of.settings), of.instance, FOLLOW_UP_SENSOR)


def one_arrival(of: Simulated, number: int, measured: Measured, where: str) -> None:
    """Deliver one tiny CT, have it asked for and taken in."""
    make_ct_series(of.folder / "landing" / f"new-{number:06}", shape=(16, 16, 4), seed=number)
    found = measured.time(f"tick that sees one arrival, {where}", lambda: arrivals_tick(of), "< 10 s", _asked)
    definitions = build_definitions(of.settings)
    for request in found.run_requests or []:
        made = measured.time(
            f"run of one arrival, {where}",
            lambda request=request: execute_request(definitions, of.instance, ARRIVALS_SENSOR, request),
            "as in an empty system",
            lambda run: run.problem or "succeeded",
        )
        if not made.succeeded:
            raise RuntimeError(made.problem)


def _asked(found: Any) -> str:
    return f"{len(found.run_requests or ())} requests"


def history_options(description: str | None) -> argparse.ArgumentParser:
    """The options of a benchmark over a simulated history."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arrivals", type=int, default=12_000)
    parser.add_argument("--series", type=int, default=8, help="of each arrival")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, measure, print the table, write results/platform-ticks-<database>.json."""
    chosen = history_options(__doc__).parse_args(arguments)
    logging.disable(logging.WARNING)
    measured = Measured()
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-platform-")))
        storages = [storage_of(held, chosen.database) for _ in range(2)]
        with empty(folder / "empty", storages[0]) as small:
            one_arrival(small, 0, measured, "empty system")
            one_arrival(small, 1, measured, "empty system")
        with empty(folder / "long", storages[1]) as long:
            names = [f"drop-{number:06}" for number in range(chosen.arrivals)]
            measured.time("simulated", lambda: take_in(long, names, series=chosen.series), told=lambda _: "")
            measured.time("first tick", lambda: arrivals_tick(long), "< 10 s", _asked)
            for _ in range(2):
                measured.time("idle tick", lambda: arrivals_tick(long), "< 1 s", _asked)
            for _ in range(2):
                measured.time("tick of what follows", lambda: follow_up_tick(long), "< 10 s", _asked)
            one_arrival(long, 0, measured, "long history")
            one_arrival(long, 1, measured, "long history")
            measured.time(
                "as many folders delivered",
                lambda: deliver(long, [f"more-{number:06}" for number in range(chosen.arrivals)]),
                told=lambda _: "",
            )
            for number in range(4):
                measured.time(f"tick {number + 1} after that", lambda: arrivals_tick(long), "< 10 s", _asked)
    console = wide_console()
    title = f"{chosen.arrivals:,} arrivals of {chosen.series} series, {chosen.database}"
    show(title, measured.rows, COLUMNS, console)
    document = {"benchmark": "ticks over a long history", "arrivals": chosen.arrivals}
    document |= {"series": chosen.arrivals * chosen.series, "database": chosen.database}
    write_json(f"platform-ticks-{chosen.database}", {**document, "measured": measured.rows}, chosen.results)
    return 0


def storage_of(held: ExitStack, database: str) -> str:
    if database == "sqlite":
        return ""
    known = held.enter_context(postgres())
    return (
        "\nstorage:\n  postgres:\n    postgres_db: {hostname: 127.0.0.1, username: dagster, "
        f"password: {known['POSTGRES_PASSWORD']}, db_name: dagster, port: {known['POSTGRES_PORT']}, "
        "scheme: postgresql+psycopg2}\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
