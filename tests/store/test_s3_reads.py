"""Reads of voxels on S3: as few requests as there can be, and nothing but what was written."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import numpy as np
import pytest
import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    RadiObject,
    TileDBStats,
    Volume,
    commit_volumes,
    ensure_collection,
    ensure_store,
    stage_volume,
)
from radiobject_assets.store.arrays.tile_cache import forget_array
from radiobject_assets.store.blocks.index import INDEX_NAME
from radiobject_assets.store.storage import open_storage
from tests.store.conftest import S3Server, voxels
from tests.store.fault_proxy import FaultProxy

pytestmark = [pytest.mark.s3, pytest.mark.timeout(60)]

SHAPE = (150, 100, 64)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A proxy in front of the server that lets everything pass and counts."""
    with FaultProxy(s3_server.port) as proxy:
        yield proxy


@pytest.fixture
def written(s3_server: S3Server) -> str:
    """A store with one volume of several tiles."""
    uri = ensure_store(f"s3://{s3_server.bucket}/{secrets.token_hex(6)}/store", s3_server.ctx())
    ct = ensure_collection(uri, "ct", s3_server.ctx())
    staged = stage_volume(ct, obs_id="a", obs_subject_id="a", voxels=voxels(1, SHAPE), ctx=s3_server.ctx())
    commit_volumes(ct, [staged], s3_server.ctx())
    return uri


def test_the_first_region_takes_two_reads_and_every_other_one(
    s3_server: S3Server, proxy: FaultProxy, written: str
) -> None:
    volume = RadiObject(written, s3_server.ctx(proxy.endpoint)).ct["a"]
    assert volume.shape == SHAPE
    proxy.requests(clear=True)
    with TileDBStats() as stats:
        assert np.array_equal(volume[40:104, 20:84, :60], voxels(1, SHAPE)[40:104, 20:84, :60])
    assert [request.kind for request in proxy.requests(clear=True)] == ["GET", "GET"]
    assert stats.s3_stats().read_ops == 2
    assert np.array_equal(volume[:, :, 7], voxels(1, SHAPE)[:, :, 7])
    assert [request.kind for request in proxy.requests(clear=True)] == ["GET"]
    assert volume.tile_extents == (64, 64, 32)
    assert proxy.requests() == []


def test_an_array_is_put_with_one_request_for_each_of_its_files(
    s3_server: S3Server, proxy: FaultProxy, written: str
) -> None:
    ct = ensure_collection(written, "ct", s3_server.ctx())
    ctx = s3_server.ctx(proxy.endpoint)
    staged = stage_volume(ct, obs_id="b", obs_subject_id="b", voxels=voxels(2, SHAPE), ctx=ctx)
    requests = proxy.requests(clear=True)
    assert {request.kind for request in requests} == {"PUT"}
    assert len(requests) == 6
    assert "__schema" in requests[0].target
    volume = Volume(f"{ct}/volumes/{staged.token}", s3_server.ctx())
    with tiledb.open(volume.uri, ctx=s3_server.ctx()) as array:
        assert np.array_equal(array[:]["voxels"], voxels(2, SHAPE))
    assert volume.verify()


def test_damage_on_s3_is_found_on_read_and_by_verify(s3_server: S3Server, written: str) -> None:
    ctx = s3_server.ctx()
    volume = RadiObject(written, ctx).ct["a"]
    objects = open_storage(volume.uri, ctx)
    (fragment,) = objects.list("__fragments")
    data = f"{fragment.path}a0.tdb"
    for name, place in ((data, -1), (INDEX_NAME, -1)):
        whole = objects.read(name)
        damaged = bytearray(whole)
        damaged[place] ^= 1
        objects.write(name, bytes(damaged))
        forget_array(volume.uri)
        assert len(RadiObject(written, ctx).ct.verify()) == 1
        if name.endswith("a0.tdb"):
            with pytest.raises(StorageError, match=r"[Cc]hecksum"):
                volume.to_numpy()
        else:
            with pytest.raises(StorageError, match="not the one that its row names"):
                volume.to_numpy()
        objects.write(name, whole)
    objects.write(data, objects.read(data)[:-9])
    forget_array(volume.uri)
    with pytest.raises(StorageError, match="shorter"):
        volume.to_numpy()


def test_settings_of_objects_change_nothing_of_what_is_read(s3_server: S3Server, written: str) -> None:
    settings = {**s3_server.ctx().config().dict(), "vfs.s3.storage_class": "STANDARD"}
    ctx = tiledb.Ctx(tiledb.Config(settings))
    assert np.array_equal(RadiObject(written, ctx).ct["a"][3:9, 4], voxels(1, SHAPE)[3:9, 4])
    ct = ensure_collection(written, "ct", ctx)
    staged = stage_volume(ct, obs_id="c", obs_subject_id="c", voxels=voxels(3), ctx=ctx)
    assert np.array_equal(Volume(f"{ct}/volumes/{staged.token}", s3_server.ctx()).to_numpy(), voxels(3))


def test_a_volume_that_stands_alone_is_not_written_over_another(s3_server: S3Server) -> None:
    uri = f"s3://{s3_server.bucket}/{secrets.token_hex(6)}"
    Volume.from_numpy(uri, voxels(1), ctx=s3_server.ctx())
    with pytest.raises(StorageError, match="exists"):
        Volume.from_numpy(uri, voxels(2), ctx=s3_server.ctx())
    assert np.array_equal(Volume(uri, s3_server.ctx()).to_numpy(), voxels(1))
