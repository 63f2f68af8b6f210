"""TileDB works on local files alone, also for what lies on S3."""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject, Volume, consolidate, delete_subjects, vacuum
from radiobject_assets.store.arrays.array_copies import edited_array, local_array, local_group
from radiobject_assets.store.arrays.handles import POOL, HandlePool, open_array
from radiobject_assets.store.storage.uris import object_kind
from radiobject_assets.system.temporary import temporary_folder
from tests.store.conftest import S3Server, voxels
from tests.store.fault_proxy import FaultProxy
from tests.store.test_s3 import fill

pytestmark = [pytest.mark.s3, pytest.mark.timeout(180)]


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A proxy in front of the server that lets everything pass."""
    with FaultProxy(s3_server.port) as proxy:
        yield proxy


@pytest.fixture
def place(s3_server: S3Server) -> str:
    """Where nothing is yet."""
    return f"s3://{s3_server.bucket}/{secrets.token_hex(6)}"


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def copies() -> list[Path]:
    return [path for path in Path(tempfile.gettempdir()).rglob("*") if path.is_file()]


def test_nothing_but_the_storage_speaks_to_s3(s3_server: S3Server, proxy: FaultProxy, place: str) -> None:
    ctx = s3_server.ctx(proxy.endpoint)
    store, alone = f"{place}/store", f"{place}/alone"
    fill(store, ctx, {"a": 1, "b": 2})
    radi = RadiObject(store, ctx)
    assert np.array_equal(radi.ct["a_ct"].to_numpy(), voxels(1))
    assert radi.ct["a_ct"].sources == ()
    assert radi.ct.verify() == []
    Volume.from_numpy(alone, voxels(3), ctx=ctx).set_obs_id("three")
    assert Volume(alone, ctx).obs_id == "three"
    zeros = Volume.create(f"{place}/zeros", (3, 4, 5), np.int16, ctx)
    assert zeros.shape == (3, 4, 5)
    assert not zeros.to_numpy().any()
    delete_subjects(store, ["a"], ctx)
    consolidate(store, ctx)
    vacuum(store, ctx, grace_s=0)
    requests = proxy.requests()
    assert len(requests) > 20
    assert {request.agent.split("/")[0] for request in requests} == {"Botocore"}


def test_tiledb_reads_the_same_voxels_from_a_copy(s3_server: S3Server, place: str) -> None:
    ctx = s3_server.ctx()
    large = np.random.default_rng(5).integers(
        -(2**15), 2**15, (150, 150, 150), np.int16
    )  # 6.4 MB, several pieces
    Volume.from_numpy(place, large, ctx=ctx)
    with open_array(place, ctx) as array:
        found = array[3:143, :, 7:107]["voxels"]
    assert np.array_equal(found, large[3:143, :, 7:107])
    POOL.drop(place)
    assert copies() == []


def test_a_description_is_read_without_the_voxels(s3_server: S3Server, proxy: FaultProxy, place: str) -> None:
    Volume.from_numpy(place, voxels(1), ctx=s3_server.ctx())
    POOL.clear()
    ctx = s3_server.ctx(proxy.endpoint)
    with local_array(place, ctx, voxels=False) as path:
        assert object_kind(path, ctx) == "array"
        assert not any(path.name.startswith("a0") for path in copies())
        with tiledb.open(path, ctx=ctx) as array:
            assert array.shape == (7, 6, 5)
            with pytest.raises(tiledb.TileDBError):  # and no fill values
                array[:]
    assert not any("a0.tdb" in request.target for request in proxy.requests())
    assert copies() == []


def test_copies_take_no_more_of_the_disk_than_they_may(s3_server: S3Server, place: str) -> None:
    ctx = s3_server.ctx()
    for number in range(4):
        Volume.from_numpy(f"{place}/{number}", voxels(number, (64, 64, 64)), ctx=ctx)
    POOL.clear()
    pool = HandlePool(max_copied_bytes=1_000_000)
    for number in range(4):
        with pool.use(f"{place}/{number}", ctx) as array:
            assert np.array_equal(array[:]["voxels"], voxels(number, (64, 64, 64)))
        assert sum(path.stat().st_size for path in copies()) < 1_000_000
    assert 1 <= len(pool) < 4
    pool.clear()
    assert copies() == []


def test_a_group_is_read_without_its_members(s3_server: S3Server, proxy: FaultProxy, place: str) -> None:
    ctx = s3_server.ctx()
    tiledb.Group.create(place, ctx=ctx)
    with tiledb.Group(place, "w", ctx=ctx) as group:
        group.meta["name"] = "ct"
    Volume.from_numpy(f"{place}/member", voxels(1), ctx=ctx)
    assert object_kind(place, ctx) == "group"
    with local_group(place, s3_server.ctx(proxy.endpoint)) as path, tiledb.Group(path, ctx=ctx) as group:
        assert group.meta["name"] == "ct"
    assert not any("member/" in request.target for request in proxy.requests())


def test_what_could_not_be_put_whole_is_no_array(s3_server: S3Server, proxy: FaultProxy, place: str) -> None:
    impatient = s3_server.ctx(proxy.endpoint, max_tries=1, deadline_s=2.0)
    proxy.fail("reset", where="^PUT .*__meta")
    with pytest.raises(StorageError, match="cannot write"):
        Volume.create(place, (3, 4, 5), ctx=impatient)
    assert object_kind(place, s3_server.ctx()) is None


def test_an_object_that_changes_while_it_is_copied_is_an_error(
    s3_server: S3Server, proxy: FaultProxy, place: str
) -> None:
    ctx = s3_server.ctx(proxy.endpoint)
    Volume.from_numpy(place, voxels(1), ctx=s3_server.ctx())
    proxy.latency(1.0)

    def shorten() -> None:
        vfs = tiledb.VFS(ctx=s3_server.ctx())
        (schema,) = vfs.ls(f"{place}/__schema")
        with vfs.open(schema, "wb") as file:
            file.write(b"short")

    shortening = threading.Timer(1.1, shorten)
    shortening.start()
    with pytest.raises(StorageError, match="a moment before"), local_array(place, ctx, voxels=False):
        pass
    shortening.join()


_FORK = """
import os, sys, tempfile
from pathlib import Path
from radiobject_assets.store import S3Config, configure
from radiobject_assets.store.storage.context import get_tiledb_ctx
from radiobject_assets.store.arrays.handles import open_array
endpoint, uri = sys.argv[1:]
configure(s3=S3Config(endpoint=endpoint, use_virtual_addressing=False))
copies = lambda: [path for path in Path(tempfile.gettempdir()).rglob("*.tdb")]
with open_array(uri, get_tiledb_ctx()) as array:
    assert array.shape == (7, 6, 5)
there = copies()
assert there
child = os.fork()
if child == 0:
    with open_array(uri, get_tiledb_ctx()) as array:
        assert array[:]["voxels"].shape == (7, 6, 5)
    os._exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
assert set(there) <= set(copies())
with open_array(uri, get_tiledb_ctx()) as array:
    assert array[:]["voxels"].shape == (7, 6, 5)
"""


def test_a_forked_child_takes_no_copies_of_its_parent_away_and_nothing_is_left(
    s3_server: S3Server, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Volume.from_numpy(place, voxels(1), ctx=s3_server.ctx())
    (tmp_path / "of-child").mkdir()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "of-child"))
    done = subprocess.run(
        [sys.executable, "-c", _FORK, s3_server.endpoint, place],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "of-child"))
    with temporary_folder():  # which sweeps what the child left, that ended without its handlers
        pass
    assert copies() == []


def test_a_disk_is_worked_on_in_its_place(tmp_path: Path) -> None:
    uri = f"file://{tmp_path / 'volume'}"
    Volume.from_numpy(uri, voxels(1))
    ctx = tiledb.Ctx()
    for opened in (local_array(uri, ctx, voxels=True), edited_array(uri, ctx), local_group(uri, ctx)):
        with opened as path:
            assert path == str(tmp_path / "volume")
    assert copies() == []
