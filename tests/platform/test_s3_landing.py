"""A landing zone on a real S3 server: arrivals are found by listing, copied within bounds, and taken in."""

from __future__ import annotations

import os
import secrets
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session

from radiobject_assets.dataset.dataset_yaml import ArrivalsConfig, DatasetSettings
from radiobject_assets.definitions import build_definitions
from radiobject_assets.errors import IngestError, StorageError
from radiobject_assets.landing.s3_zone import S3LandingZone
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.automation.sweep import sweep
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.platform.overview import read_overview
from radiobject_assets.resources import MemoryBudgetResource, StorageResource
from radiobject_assets.store import RadiObject, S3Objects
from tests.store.conftest import S3Server, s3_server

__all__ = ["s3_server"]
pytestmark = pytest.mark.s3
LATER = time.time() + 86_400


@pytest.fixture
def zone(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3LandingZone:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    storage = StorageResource(memory=MemoryBudgetResource())
    uri = f"s3://{s3_server.bucket}/{secrets.token_hex(6)}/landing"
    settings = ArrivalsConfig(quiet_period_s=60, trusted_names="[a-z]+")
    return S3LandingZone(settings, S3Objects(uri, storage.ctx), tmp_path / "copies")


@cache
def _other_program(endpoint: str) -> Any:
    return get_session().create_client("s3", region_name="us-east-1", endpoint_url=endpoint)


def put(zone: S3LandingZone, name: str, content: bytes = b"pixels") -> None:
    """As another program does, which may choose any key."""
    bucket, _, prefix = zone.uri.removeprefix("s3://").partition("/")
    _other_program(os.environ["AWS_ENDPOINT_URL"]).put_object(
        Bucket=bucket, Key=f"{prefix}/{name}", Body=content
    )


def requested(found: object) -> list[str]:
    return [request.key for request in found.requests]  # type: ignore[attr-defined]


def test_prefixes_and_archives_are_arrivals_and_other_objects_are_loose(zone: S3LandingZone) -> None:
    for name in ("one/a/IM1", "one/IM2", "two/IM1", ".hidden/IM1", "Doe_Jane.zip", "stray.dcm"):
        put(zone, name)
    found = sweep(None, zone, now_s=LATER)
    assert requested(found)[1:] == ["one", "two"]
    assert requested(found)[0].startswith("a-")
    assert found.loose.kinds == {".dcm": 1}
    assert [request.n_files for request in found.requests] == [1, 2, 1]
    assert requested(sweep(found.cursor, zone, now_s=LATER)) == []
    put(zone, "two/IM1", b"other pixels")
    assert requested(sweep(found.cursor, zone, now_s=LATER)) == ["two"]


def test_an_arrival_that_still_comes_waits_unless_it_is_marked(zone: S3LandingZone) -> None:
    put(zone, "one/IM1")
    put(zone, "two/IM1")
    put(zone, "two/_COMPLETE", b"")
    found = sweep(None, zone, now_s=time.time())
    assert requested(found) == ["two"]
    assert found.requests[0].n_files == 1


def test_a_copy_follows_its_objects_and_leads_nowhere(zone: S3LandingZone, tmp_path: Path) -> None:
    for name in ("one/a/IM1", "one/a", "one/deep//IM2", "one/_COMPLETE", "oneandmore/IM9"):
        put(zone, name)
    place = zone.fetch("one").place
    files = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert "a/IM1" in files
    assert len(files) == 3
    put(zone, "one/a/IM1", b"changed")
    assert (zone.held("one").place / "a/IM1").read_bytes() == b"pixels"
    assert (zone.fetch("one").place / "a/IM1").read_bytes() == b"changed"
    with pytest.raises(IngestError, match="no longer in the landing zone"):
        zone.fetch("absent")


def test_copies_make_room_for_each_other_and_keep_to_the_bound(zone: S3LandingZone) -> None:
    small = zone.settings.model_copy(update={"copy_limit_gb": 3e-6})  # some 3,200 bytes
    bounded = S3LandingZone(small, zone.objects, zone.area)
    put(zone, "one/IM1", bytes(2000))
    put(zone, "two/IM1", bytes(2000))
    put(zone, "big/IM1", bytes(5000))
    bounded.fetch("one")
    with pytest.raises(StorageError, match="copy_limit_gb"):
        bounded.fetch("two")  # the other one may be in use
    old = zone.area / "one" / "copied.json"
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    bounded.fetch("two")
    assert not (zone.area / "one").exists()
    with pytest.raises(StorageError, match="has room for"):
        bounded.fetch("big")


def test_a_bucket_that_is_not_there_is_a_clear_word_of_the_sensor(zone: S3LandingZone) -> None:
    lost = S3LandingZone(zone.settings, S3Objects("s3://no-such-bucket-here/in"), zone.area)
    assert "no-such-bucket-here" in lost.problem()
    assert "NoSuchBucket" in lost.problem()


def test_the_line_runs_from_a_landing_zone_on_s3(zone: S3LandingZone, tmp_path: Path) -> None:
    subject = make_subject(tmp_path / "made", 1, arrival="drop", shape=(48, 48, 24))
    for path in sorted((tmp_path / "made").rglob("*")):
        if path.is_file():
            put(zone, path.relative_to(tmp_path / "made").as_posix(), path.read_bytes())
    dataset = DatasetSettings.model_validate(
        {
            "folder": tmp_path,
            "landing": zone.uri,
            "collections": {"ct": {"match": {"modality": "CT"}}},
            "arrivals": {"trusted_names": "[a-z]+"},
        }
    )
    definitions = build_definitions(dataset)
    with open_instance(tmp_path / "dagster") as instance:
        done = run_pass(definitions, instance, tmp_path / "dagster")
        overview = read_overview(dataset, definitions, instance)
        assert run_pass(definitions, instance, tmp_path / "dagster").runs == ()
    assert done.failed == ()
    assert [run.what for run in done.arrivals] == ["drop"]
    assert overview.checks.failures == ("splits: every_split_is_filled",)  # one subject for three splits
    assert overview.subjects == 1
    ct = RadiObject(str(tmp_path / "store")).collection("ct")
    rows = ct.to_obs().reset_index().set_index("series_uid")
    volume = ct.loc[rows.loc[subject.ct_series_uid, "obs_id"]]
    assert subject.ct.largest_difference(volume.to_numpy(), volume.affine) == 0
