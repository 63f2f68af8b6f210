"""S3 through a bad network: what passes in the end is right, and what cannot pass fails in time."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject, Volume, consolidate
from radiobject_assets.store.arrays.tile_cache import tile_cache
from tests.store.conftest import S3Server, voxels
from tests.store.fault_proxy import FaultKind, FaultProxy
from tests.store.test_s3 import fill

pytestmark = [pytest.mark.s3, pytest.mark.timeout(180)]

# TileDB itself gives up after 50 s of silence and 150 s of 503s; a busy machine is slow to start a process.
LONG_BEFORE_S = 35
IMPATIENT = {"connect_timeout_ms": 500, "request_timeout_ms": 1000, "max_tries": 1, "deadline_s": 1.0}


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A proxy in front of the server that lets everything pass."""
    with FaultProxy(s3_server.port) as proxy:
        yield proxy


@pytest.fixture
def written(s3_server: S3Server) -> str:
    """A store with two volumes on the server."""
    uri = f"s3://{s3_server.bucket}/{secrets.token_hex(6)}/store"
    fill(uri, s3_server.ctx(), {"a": 1, "b": 2})
    return uri


def test_latency_changes_nothing_but_time(s3_server: S3Server, proxy: FaultProxy, written: str) -> None:
    proxy.latency(0.05)
    ctx = s3_server.ctx(proxy.endpoint)
    fill(written, ctx, {"c": 3})
    radi = RadiObject(written, ctx)
    assert radi.ct.obs_ids == ["a_ct", "b_ct", "c_ct"]
    assert np.array_equal(radi.ct["c_ct"][1:4, 2], voxels(3)[1:4, 2])
    assert radi.ct.verify() == []


@pytest.mark.parametrize(
    ("fault", "where"),
    [("reset", "^LIST"), ("reset", "^GET"), ("reset", "^PUT"), ("slow down", "")],
)
def test_reads_and_writes_get_over_passing_faults(
    s3_server: S3Server, proxy: FaultProxy, written: str, fault: FaultKind, where: str
) -> None:
    ctx = s3_server.ctx(proxy.endpoint)
    proxy.fail(fault, times=2, where=where)
    fill(written, ctx, {"a": 5, "c": 3})
    seen = RadiObject(written, ctx)
    assert np.array_equal(seen.ct["c_ct"].to_numpy(), voxels(3))
    assert proxy.faults_met() == 2
    radi = RadiObject(written, s3_server.ctx())
    assert np.array_equal(radi.ct["a_ct"].to_numpy(), voxels(5))
    assert np.array_equal(radi.ct["b_ct"].to_numpy(), voxels(2))
    assert radi.ct.verify() == []


def test_bodies_that_end_early_are_read_again_or_reported_and_never_returned(
    s3_server: S3Server, proxy: FaultProxy, written: str
) -> None:
    expected = voxels(1)
    for where in ("^LIST", "^GET .*/log/", r"^GET .*\.tdb", "tiles.index"):
        tile_cache().clear()
        proxy.fail("truncate", times=2, where=where)
        assert np.array_equal(
            RadiObject(written, s3_server.ctx(proxy.endpoint)).ct["a_ct"].to_numpy(), expected
        )
        assert proxy.faults_met() == 2, where
    proxy.fail("truncate", where=r"^GET .*volumes.*\.tdb")
    ctx = s3_server.ctx(proxy.endpoint, **{**IMPATIENT, "deadline_s": 5.0})
    volume = RadiObject(written, ctx).ct["b_ct"]
    with pytest.raises(StorageError, match=volume.uri):
        volume.to_numpy()
    proxy.heal()
    assert np.array_equal(volume.to_numpy(), voxels(2))


@pytest.mark.parametrize("fault", ["silence", "slow down"])
def test_a_server_without_an_answer_is_an_error_within_the_deadline(
    s3_server: S3Server, proxy: FaultProxy, written: str, fault: FaultKind
) -> None:
    ctx = s3_server.ctx(proxy.endpoint, **IMPATIENT)
    proxy.fail(fault)
    for attempt in (
        lambda: RadiObject(written, ctx),
        lambda: Volume(written, ctx),
        lambda: consolidate(written, ctx),
    ):
        started = time.monotonic()
        with pytest.raises(StorageError) as failed:
            attempt()
        assert time.monotonic() - started < LONG_BEFORE_S
        message = str(failed.value)
        assert proxy.endpoint in message
        assert f"bucket {s3_server.bucket}" in message
        assert f"key {written.split('/', 3)[3]}" in message
        assert s3_server.secret_key not in message
        assert s3_server.access_key not in message


@pytest.mark.parametrize("fault", ["silence", "slow down"])
def test_a_read_that_meets_silence_half_way_ends_and_works_again_when_the_server_does(
    s3_server: S3Server, proxy: FaultProxy, written: str, fault: FaultKind
) -> None:
    ctx = s3_server.ctx(proxy.endpoint, **IMPATIENT)
    radi = RadiObject(written, ctx)
    volume = radi.ct["b_ct"]
    proxy.fail(fault)
    started = time.monotonic()
    with pytest.raises(StorageError, match="s3://"):
        volume.to_numpy()
    assert time.monotonic() - started < LONG_BEFORE_S
    proxy.heal()
    assert np.array_equal(volume.to_numpy(), voxels(2))


@pytest.mark.parametrize("fault", ["silence", "slow down"])
def test_a_write_that_gets_no_answer_changes_nothing_visible_and_is_completed_by_the_same_call(
    s3_server: S3Server, proxy: FaultProxy, written: str, fault: FaultKind
) -> None:
    impatient = s3_server.ctx(proxy.endpoint, **IMPATIENT)
    proxy.fail(fault, where="(PUT|POST) .*(volumes|obs)")
    with pytest.raises(StorageError):
        fill(written, impatient, {"a": 7, "new": 8})
    radi = RadiObject(written, s3_server.ctx())
    assert radi.ct.obs_ids == ["a_ct", "b_ct"]
    assert np.array_equal(radi.ct["a_ct"].to_numpy(), voxels(1))
    proxy.heal()
    fill(written, s3_server.ctx(proxy.endpoint), {"a": 7, "new": 8})
    radi = RadiObject(written, s3_server.ctx())
    assert radi.ct.obs_ids == ["a_ct", "b_ct", "new_ct"]
    assert np.array_equal(radi.ct["a_ct"].to_numpy(), voxels(7))
    assert radi.ct.verify() == []


def test_nothing_arrives_after_a_failed_write_was_removed(
    s3_server: S3Server, proxy: FaultProxy, written: str
) -> None:
    ctx = s3_server.ctx(proxy.endpoint, max_tries=2)
    place = f"{written}-volume"
    proxy.fail("reset", where=r"^PUT .*(wrt|metadata\.tdb)")
    proxy.fail("slow down", times=2, where=r"^PUT .*/a0\.tdb", also=True)
    with pytest.raises(StorageError, match="cannot write"):
        Volume.from_numpy(place, voxels(1), ctx=ctx)
    tried = [r for r in proxy.requests() if r.method == "PUT" and r.target.endswith("/a0.tdb")]
    assert len(tried) == 3
    assert tiledb.VFS(ctx=s3_server.ctx()).ls_recursive(place) == []


_GIVE_UP = """
import sys, time
from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject, S3Config, configure
from tests.store.conftest import put
endpoint, uri, action = sys.argv[1:]
configure(s3=S3Config(endpoint=endpoint, use_virtual_addressing=False, deadline_s=1.0))
try:
    if action == "write":
        put(uri, "ct", "new", 9)
    else:
        RadiObject(uri).ct.to_obs()
except StorageError as error:
    print(error)
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("fault", ["silence", "slow down"])
@pytest.mark.parametrize(
    ("action", "where"), [("open", ""), ("read", r"GET .*obs/.*\.parquet"), ("write", "PUT .*__fragments")]
)
def test_a_process_that_gave_up_on_its_storage_ends_at_once(
    s3_server: S3Server, proxy: FaultProxy, written: str, fault: FaultKind, action: str, where: str
) -> None:
    proxy.fail(fault, where=where)
    keys = {"AWS_ACCESS_KEY_ID": s3_server.access_key, "AWS_SECRET_ACCESS_KEY": s3_server.secret_key}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _GIVE_UP, proxy.endpoint, written, action],
        env={**os.environ, **keys},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert proxy.endpoint in done.stdout
    assert "within 1 s" in done.stdout
    assert time.monotonic() - started < LONG_BEFORE_S
