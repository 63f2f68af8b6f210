"""Asset pages with a long history, in a real browser: `python -m benchmarks.platform.pages`.

A webserver over a simulated history (`simulated`), on SQLite or Postgres, and a headless Chromium. Timed is
from the call of an address until its figures are on the page; the first call of all, which loads the UI's
own scripts, is told apart. Beside it stand the CPU seconds of the webserver for both calls, which a busy
machine makes hardly longer. Before, the sensor of arrivals looks once, as it does every half minute.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import show, wide_console, write_json
from benchmarks.platform.simulated import Simulated, empty, take_in
from benchmarks.platform.ticks import arrivals_tick, history_options, storage_of
from tests.platform.deployed import free_port

PROJECT = Path(__file__).resolve().parents[2]
COLUMNS = {"name": "page", "first_s": "first, s", "again_s": "again, s", "server_cpu_s": "server, CPU s"}
COLUMNS |= {"wanted": "wanted"}
PATIENCE_S = 180.0


@contextmanager
def webserver(of: Simulated) -> Iterator[tuple[str, Callable[[], float]]]:
    """The address of a webserver over the data set, and what tells the CPU seconds that it has taken."""
    port = free_port()
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(of.folder / "dagster"),
        "RADIOBJECT_DATASET": str(of.folder / "dataset.yaml"),
        "PYTHONPATH": str(PROJECT),
    }
    program = Path(sys.executable).parent / "dagster-webserver"
    with (of.folder / "webserver.log").open("w") as log:
        server = subprocess.Popen(
            [program, "-w", PROJECT / "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(address):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((of.folder / "webserver.log").read_text()[-2000:])
            time.sleep(0.5)
        yield address, lambda: _cpu_s(server.pid)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _cpu_s(process_id: int) -> float:
    """Of a process and those that it started, the code server among them."""
    root = psutil.Process(process_id)
    taken = 0.0
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            taken += times.user + times.system
    return taken


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/server_info", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@contextmanager
def browser(folder: Path) -> Iterator[Any]:
    """A headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--window-size=1600,1200", f"--user-data-dir={folder}"),
    ):
        options.add_argument(flag)
    opened = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield opened
    finally:
        opened.quit()


def seconds_until(opened: Any, address: str, *texts: str) -> float:
    """Seconds until all these texts are on a page."""
    started = time.perf_counter()
    opened.get(address)
    while True:
        shown = opened.execute_script("return document.body ? document.body.innerText : ''")
        if all(text in shown for text in texts):
            return time.perf_counter() - started
        if time.perf_counter() - started > PATIENCE_S:
            raise RuntimeError(f"{address}: no {texts} among\n{shown[:2000]}")
        time.sleep(0.02)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, open pages, print the table, write results/platform-pages-<database>-<arrivals>.json."""
    chosen = history_options(__doc__).parse_args(arguments)
    logging.disable(logging.WARNING)
    names = [f"drop-{number:06}" for number in range(chosen.arrivals)]
    rows = []
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-pages-")))
        storage = storage_of(held, chosen.database)
        of = held.enter_context(empty(folder / "home", storage))
        take_in(of, names, series=chosen.series)
        arrivals_tick(of)
        address, cpu_s = held.enter_context(webserver(of))
        opened = held.enter_context(browser(folder / "chromium"))
        rows.append({"name": "the UI itself", "first_s": seconds_until(opened, f"{address}/runs", "Runs")})
        for name, path, texts in (
            ("collection ct, overview", "assets/ct", ("drop-0", "volumes")),
            ("raw_dicom, partitions", "assets/raw_dicom?view=partitions", (names[20],)),
            (
                "one partition",
                f"assets/ct?view=partitions&partition={names[7]}",
                (names[7], "peak_memory_mb"),
            ),
            ("collection ct, checks", "assets/ct?view=checks", ("integrity",)),
            ("series, checks", "assets/series?view=checks", ("every_file_accounted_for",)),
            ("lineage", "asset-groups", ("landing",)),
        ):
            before = cpu_s()
            first = seconds_until(opened, f"{address}/{path}", *texts)
            again = seconds_until(opened, f"{address}/{path}", *texts)
            seconds = {"first_s": first, "again_s": again, "server_cpu_s": cpu_s() - before}
            rows.append(
                {"name": name, **{key: round(one, 2) for key, one in seconds.items()}, "wanted": "< 3 s"}
            )
            print(rows[-1], file=sys.stderr, flush=True)
    show(f"{chosen.arrivals:,} arrivals, {chosen.database}", rows, COLUMNS, wide_console())
    document = {"benchmark": "pages over a long history", "arrivals": chosen.arrivals}
    document |= {"database": chosen.database, "pages": rows}
    write_json(f"platform-pages-{chosen.database}-{chosen.arrivals}", document, chosen.results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
