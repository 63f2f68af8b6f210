"""The same store on a real S3 server: writing, reading, snapshots, deletion, clear errors."""

from __future__ import annotations

import secrets
import time

import numpy as np
import pytest
import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    RadiObject,
    Volume,
    VolumeCollection,
    commit_volumes,
    consolidate,
    create_snapshot,
    delete_subjects,
    ensure_collection,
    ensure_store,
    ensure_subjects,
    make_ctx,
    stage_volume,
    vacuum,
)
from tests.store.conftest import AFFINE, S3Server, voxels

pytestmark = pytest.mark.s3


@pytest.fixture
def where(s3_server: S3Server) -> tuple[str, tiledb.Ctx]:
    """A place of one's own on the server, and a context for it."""
    return f"s3://{s3_server.bucket}/{secrets.token_hex(6)}/store", s3_server.ctx()


def fill(uri: str, ctx: tiledb.Ctx, seeds: dict[str, int]) -> None:
    ensure_store(uri, ctx)
    ct = ensure_collection(uri, "ct", ctx)
    ensure_subjects(uri, seeds, ctx)
    staged = [
        stage_volume(ct, obs_id=f"{s}_ct", obs_subject_id=s, voxels=voxels(seed), affine=AFFINE, ctx=ctx)
        for s, seed in seeds.items()
    ]
    commit_volumes(ct, staged, ctx)


def test_a_store_on_s3_is_written_read_copied_and_tidied(
    where: tuple[str, tiledb.Ctx], tmp_path: object
) -> None:
    uri, ctx = where
    fill(uri, ctx, {"z": 1, "患者": 2})
    first = create_snapshot(uri, "first", ctx)
    fill(uri, ctx, {"z": 3, "a": 4})
    radi = RadiObject(uri, ctx)
    assert radi.ct.obs_ids == ["a_ct", "z_ct", "患者_ct"]
    assert np.array_equal(radi.ct["z_ct"][2, ::-1, -3:], voxels(3)[2, ::-1, -3:])
    assert np.array_equal(radi.ct["患者_ct"].affine, AFFINE)
    old = RadiObject(uri, ctx, timestamp="first")
    assert np.array_equal(old.ct["z_ct"].to_numpy(), voxels(1))
    assert old.timestamp == first.timestamp_ms
    consolidate(uri, ctx)
    vacuum(uri, ctx, grace_s=0)
    assert RadiObject(uri, ctx).ct.verify() == []
    assert np.array_equal(RadiObject(uri, ctx, timestamp="first").ct["z_ct"].to_numpy(), voxels(1))
    local = RadiObject(uri, ctx).write(f"{tmp_path}/copy")
    assert np.array_equal(local.ct["a_ct"].to_numpy(), voxels(4))
    radi = RadiObject(uri, ctx)
    radi.rename_collection("ct", "chest")
    assert radi.collection_names == ("chest",)


def test_a_patient_deleted_on_s3_is_gone(where: tuple[str, tiledb.Ctx]) -> None:
    uri, ctx = where
    fill(uri, ctx, {"GONE-7": 1, "stays": 2})
    create_snapshot(uri, "one", ctx)
    delete_subjects(uri, ["GONE-7"], ctx)
    assert RadiObject(uri, ctx, timestamp="one").ct.obs_ids == ["stays_ct"]
    vfs = tiledb.VFS(ctx=ctx)
    for path in vfs.ls_recursive(uri):
        if not vfs.is_dir(path):
            with vfs.open(path, "rb") as file:
                assert b"GONE-7" not in file.read()


def test_a_volume_that_stands_alone_lives_on_s3(where: tuple[str, tiledb.Ctx]) -> None:
    uri, ctx = where
    volume = Volume.from_numpy(uri + "-volume", voxels(5), ctx=ctx, affine=AFFINE)
    volume.set_obs_id("one")
    again = Volume(uri + "-volume", ctx)
    assert again.obs_id == "one"
    assert np.array_equal(again.to_numpy(), voxels(5))


def test_errors_name_the_place_and_never_a_secret(s3_server: S3Server) -> None:
    wrong = make_ctx(
        s3_server.config(),
        **{"vfs.s3.aws_access_key_id": "nobody", "vfs.s3.aws_secret_access_key": "hush-hush-hush"},
    )
    with pytest.raises(StorageError) as refused:
        VolumeCollection(f"s3://{s3_server.bucket}/x/collections/ct", wrong)
    assert f"s3://{s3_server.bucket}/x" in str(refused.value)
    assert "hush" not in str(refused.value)


def test_a_server_that_is_not_there_is_an_error_within_seconds(s3_server: S3Server) -> None:
    ctx = s3_server.ctx("http://127.0.0.1:1", connect_timeout_ms=500, request_timeout_ms=500, max_tries=2)
    started = time.monotonic()
    with pytest.raises(StorageError, match="s3://"):
        RadiObject(f"s3://{s3_server.bucket}/nowhere", ctx)
    assert time.monotonic() - started < 20
