"""Every setting of S3Config has its effect, seen from the server's side of the line."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest
import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject, make_ctx
from tests.store.conftest import S3Server
from tests.store.fault_proxy import FaultProxy

pytestmark = [pytest.mark.s3, pytest.mark.timeout(180)]


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A proxy in front of the server that lets everything pass."""
    with FaultProxy(s3_server.port) as proxy:
        yield proxy


def look(ctx: tiledb.Ctx, s3_server: S3Server) -> float:
    """Ask for something; returns the seconds until it failed or was answered."""
    started = time.monotonic()
    try:
        RadiObject(f"s3://{s3_server.bucket}/{secrets.token_hex(4)}", ctx)
    except StorageError:
        return time.monotonic() - started
    raise AssertionError("there is something where nothing was written")


@pytest.mark.parametrize("region", ["eu-central-1", "us-west-2"])
def test_requests_go_to_the_endpoint_signed_for_the_region(
    s3_server: S3Server, proxy: FaultProxy, region: str
) -> None:
    look(s3_server.ctx(proxy.endpoint, region=region), s3_server)
    requests = proxy.requests()
    assert requests
    assert {request.region for request in requests} == {region}


def upload(s3_server: S3Server, ctx: tiledb.Ctx, megabytes: int) -> None:
    vfs = tiledb.VFS(ctx=ctx)
    with vfs.open(f"s3://{s3_server.bucket}/{secrets.token_hex(4)}", "wb") as file:
        file.write(secrets.token_bytes(2**20) * megabytes)


@pytest.mark.parametrize(("part_mb", "parts"), [(5, 4), (10, 2)])
def test_large_objects_go_in_parts_of_the_configured_size(
    s3_server: S3Server, proxy: FaultProxy, part_mb: int, parts: int
) -> None:
    upload(s3_server, s3_server.ctx(proxy.endpoint, multipart_part_size_mb=part_mb, max_parallel_ops=1), 20)
    sent = [request.sent_bytes for request in proxy.requests() if "partNumber=" in request.target]
    assert len(sent) == parts
    assert sum(sent) == 20 * 2**20


@pytest.mark.parametrize("most", [1, 4])
def test_so_many_parts_travel_at_once(s3_server: S3Server, proxy: FaultProxy, most: int) -> None:
    ctx = s3_server.ctx(proxy.endpoint, multipart_part_size_mb=5, max_parallel_ops=most)
    seen = 0
    for latency_s in (0.2, 0.5, 1.0, 2.0):  # a busy machine sends the parts one after another
        proxy.latency(latency_s)
        upload(s3_server, ctx, 20)
        parts = [r.beside for r in proxy.requests(clear=True) if "partNumber=" in r.target]
        assert len(parts) == 4
        seen = max(seen, *(beside + 1 for beside in parts))
        if seen >= most:
            break
    assert seen == most


def test_without_credentials_requests_are_anonymous(
    s3_server: S3Server, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    for include, signed in ((True, {True}), (False, {False})):
        look(make_ctx(s3_server.config(proxy.endpoint, include_credentials=include)), s3_server)
        requests = proxy.requests(clear=True)
        assert requests
        assert {bool(request.region) for request in requests} == signed


@pytest.mark.parametrize("tries", [1, 3])
def test_a_request_is_repeated_so_many_times(s3_server: S3Server, proxy: FaultProxy, tries: int) -> None:
    proxy.fail("reset")
    ctx = s3_server.ctx(proxy.endpoint, max_tries=tries)
    with pytest.raises(tiledb.TileDBError):
        tiledb.VFS(ctx=ctx).is_dir(f"s3://{s3_server.bucket}/nothing")
    assert proxy.faults_met() == tries + 1


def test_repeats_wait_longer_with_a_larger_scale_factor(s3_server: S3Server, proxy: FaultProxy) -> None:
    proxy.fail("reset")

    def seconds(factor: int) -> float:
        ctx = s3_server.ctx(proxy.endpoint, max_tries=2, retry_scale_factor=factor)
        started = time.monotonic()
        with pytest.raises(tiledb.TileDBError):
            tiledb.VFS(ctx=ctx).is_dir(f"s3://{s3_server.bucket}/nothing")
        return time.monotonic() - started

    assert seconds(500) > 0.9
    assert min(seconds(1) for _ in range(5)) < 0.9


def test_the_request_timeout_bounds_the_silence_of_one_try(s3_server: S3Server, proxy: FaultProxy) -> None:
    proxy.fail("silence")

    def seconds(timeout_ms: int) -> float:
        ctx = s3_server.ctx(proxy.endpoint, max_tries=1, request_timeout_ms=timeout_ms)
        started = time.monotonic()
        with pytest.raises(tiledb.TileDBError, match="Timeout"):
            tiledb.VFS(ctx=ctx).is_dir(f"s3://{s3_server.bucket}/nothing")
        return time.monotonic() - started

    assert seconds(2500) > 4
    assert 1.5 < min(seconds(1000) for _ in range(2)) < 4


def test_the_deadline_and_the_connect_timeout_go_where_the_context_goes(s3_server: S3Server) -> None:
    ctx = s3_server.ctx(connect_timeout_ms=1234, deadline_s=7.5)
    assert ctx.config()["vfs.s3.connect_timeout_ms"] == "1234"
    assert ctx.config()["radiobject_assets.s3_deadline_s"] == "7.5"


@pytest.mark.parametrize("deadline_s", [0.5, 2.0])
def test_the_deadline_bounds_an_operation(s3_server: S3Server, proxy: FaultProxy, deadline_s: float) -> None:
    proxy.fail("slow down")
    ctx = s3_server.ctx(proxy.endpoint, deadline_s=deadline_s)
    waited = [look(ctx, s3_server) for _ in range(2)]
    assert deadline_s <= min(waited) < deadline_s + 5
