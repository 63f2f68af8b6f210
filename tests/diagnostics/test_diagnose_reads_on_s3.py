"""What makes reads from S3 slow: a real server, and between it and the reader what really is between."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from radiobject_assets.diagnostics.reads.access_patterns import AccessPattern
from radiobject_assets.diagnostics.reads.diagnosis import apply_mends
from radiobject_assets.store import (
    CompressionConfig,
    Compressor,
    RadiObject,
    TileDBContext,
    configure,
    ctx_with,
    reset_radiobject_config,
)
from tests.diagnostics.read_situations import diagnosed, kinds_of, store_with
from tests.store.conftest import S3Server, s3_server
from tests.store.fault_proxy import FaultProxy

__all__ = ["s3_server"]
pytestmark = [pytest.mark.s3, pytest.mark.timeout(600)]

PATCH, WHOLE, BATCH = AccessPattern.PATCH, AccessPattern.WHOLE, AccessPattern.BATCH
SHAPE = (160, 160, 64)
MB = 2**20


@pytest.fixture(autouse=True)
def _settings_as_they_were() -> Iterator[None]:
    reset_radiobject_config()
    yield
    reset_radiobject_config()


@pytest.fixture(scope="module")
def sound(s3_server: S3Server) -> str:
    """A store on S3 as ingest lays it out."""
    return store_with(f"s3://{s3_server.bucket}", n=1, shape=SHAPE, ctx=s3_server.ctx())


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """What lies between reader and server."""
    with FaultProxy(s3_server.port) as proxy:
        yield proxy


def with_budget(ctx: TileDBContext, budget_mb: int) -> TileDBContext:
    return ctx_with(ctx, **{"sm.mem.total_budget": str(budget_mb * MB)})


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_sound_store_on_a_near_server_is_told_nothing(s3_server: S3Server, sound: str, times: int) -> None:
    for seed in range(times):
        assert kinds_of(diagnosed(sound, PATCH, WHOLE, BATCH, seed=seed, ctx=s3_server.ctx())) == []


@pytest.mark.slow
def test_requests_one_after_the_other_on_a_line_that_has_room_want_more_of_them(
    s3_server: S3Server, proxy: FaultProxy
) -> None:
    store = store_with(f"s3://{s3_server.bucket}", n=1, shape=(256, 256, 96), ctx=s3_server.ctx())
    # S3 gives each connection a share of its bandwidth: several together are faster
    proxy.bandwidth(5 * MB, each=True)
    ctx = with_budget(s3_server.ctx(proxy.endpoint, max_parallel_ops=1), 64)
    found = diagnosed(store, WHOLE, ctx=ctx)
    (first, *_) = found.report().findings
    assert first.kind.code == "low_parallel"
    assert "max_parallel_ops=" in first.how_to
    (applied,) = apply_mends(store, found, ctx=ctx)
    assert applied.gain > 1.2
    assert not applied.is_kept


def many_files(s3_server: S3Server) -> str:
    # a writer that takes TileDB's own way and has little memory puts each layer in a fragment
    configure(voxels="tiledb")
    try:
        return store_with(
            f"s3://{s3_server.bucket}", n=1, shape=(96, 96, 48), ctx=s3_server.ctx(), buffer_bytes=1
        )
    finally:
        reset_radiobject_config()


@pytest.mark.slow
def test_a_volume_in_many_files_far_away_is_laid_out_in_one(s3_server: S3Server, proxy: FaultProxy) -> None:
    store = many_files(s3_server)
    proxy.latency(0.06)
    ctx = s3_server.ctx(proxy.endpoint)
    assert RadiObject(store, ctx).ct["s0_ct"].stored_layout.files > 10
    found = diagnosed(store, WHOLE, ctx=ctx)
    (first, *_) = found.report().findings
    assert first.kind.code == "many_fragments"
    (applied,) = apply_mends(store, found, ctx=ctx)
    assert applied.gain > 3
    assert RadiObject(store, ctx).ct["s0_ct"].stored_layout.files == 1


def limit_bandwidth(proxy: FaultProxy) -> None:
    proxy.bandwidth(1.5 * MB)


def limit_connections(proxy: FaultProxy) -> None:
    proxy.latency(0.1)
    proxy.connections(1)


def be_far_away(proxy: FaultProxy) -> None:
    proxy.latency(0.1)


def ask_to_slow_down(proxy: FaultProxy) -> None:
    proxy.fail("slow down", times=5, where="GET .*__fragments")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("makes_slow", "pattern", "kind"),
    [
        (limit_bandwidth, WHOLE, "low_bandwidth"),
        (limit_bandwidth, PATCH, "low_bandwidth"),
        (limit_connections, PATCH, "connection_cap"),
        (limit_connections, BATCH, "connection_cap"),
        (be_far_away, PATCH, "far_store"),
        (ask_to_slow_down, PATCH, "slow_down"),
    ],
)
def test_what_lies_between_is_told_first(
    s3_server: S3Server,
    proxy: FaultProxy,
    sound: str,
    makes_slow: Callable[[FaultProxy], None],
    pattern: AccessPattern,
    kind: str,
) -> None:
    makes_slow(proxy)
    assert kinds_of(diagnosed(sound, pattern, ctx=s3_server.ctx(proxy.endpoint)))[0] == kind


@pytest.mark.slow
def test_plain_voxels_on_a_full_line_are_to_be_compressed(s3_server: S3Server, proxy: FaultProxy) -> None:
    store = store_with(
        f"s3://{s3_server.bucket}",
        n=1,
        shape=SHAPE,
        ctx=s3_server.ctx(),
        compression=CompressionConfig(algorithm=Compressor.NONE),
    )
    proxy.bandwidth(1.5 * MB)
    findings = diagnosed(store, WHOLE, ctx=s3_server.ctx(proxy.endpoint)).report().findings
    assert findings[0].kind.code == "low_bandwidth"
    assert findings[0].how_to.startswith(f"radiobject-assets recompress {store} ct")
