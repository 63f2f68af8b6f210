"""Requests of an append, an opening and a filter, counted before a real S3 server on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.table_designs.design import Place
from benchmarks.table_designs.designs import DESIGNS, design
from benchmarks.table_designs.robustness import race_on_s3
from benchmarks.table_designs.rows import CORE_FILTER, OTHER_FILTER, key_of, made_rows
from tests.store.conftest import S3Server, find_weed
from tests.store.fault_proxy import FaultProxy

ROWS, COMMITS = 1_000, 8


def measure(
    folder: Path, names: Sequence[str] = DESIGNS, latency_s: float = 0.03
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Requests, and seconds where each waits `latency_s`; and what two writers at once came to."""
    weed = find_weed()
    if weed is None:
        return [], []
    folder.mkdir()
    server = S3Server(folder)
    found: dict[str, dict[str, Any]] = {}
    races = []
    try:
        server.start(weed)
        with FaultProxy(server.port, latency_s) as proxy:
            for name in names:
                straight = Place(
                    f"s3://{server.bucket}/{name}/table",
                    server.endpoint,
                    server.access_key,
                    server.secret_key,
                )
                races.append(race_on_s3(name, replace(straight, uri=f"{straight.uri}-race")))
                for what, counted in _count(name, straight, proxy).items():
                    found.setdefault(what, {"name": what})[name] = counted
    finally:
        server.stop()
    return list(found.values()), races


def _count(name: str, straight: Place, proxy: FaultProxy) -> dict[str, str]:
    made = design(name, straight)
    made.create(made_rows(range(ROWS)))
    for number in range(COMMITS):
        made.put(made_rows([ROWS + number]))
    counted = replace(straight, endpoint=proxy.endpoint)
    steps: dict[str, Callable[[], object]] = {
        "open, and count": lambda: design(name, counted).count(),
        "filter, a column of all volumes": lambda: design(name, counted).at_least(*CORE_FILTER),
        "filter, another column": lambda: design(name, counted).at_least(*OTHER_FILTER),
        "append one row": lambda: design(name, counted).put(made_rows([5_000])),
        "replace one row": lambda: design(name, counted).put(made_rows([7], 1), new=False),
        "delete one row": lambda: design(name, counted).delete([key_of(9)]),
    }
    found = {}
    for what, step in steps.items():
        proxy.requests(clear=True)
        started = time.perf_counter()
        try:
            step()
        except Exception as error:  # noqa: BLE001  (whatever fails in a library is a result)
            found[what] = type(error).__name__
            continue
        seconds = time.perf_counter() - started
        found[what] = f"{proxy.counts().total()} ({seconds:.2f} s)"
    return found
