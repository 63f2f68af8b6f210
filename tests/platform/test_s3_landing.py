"""A landing zone on a real S3 server: arrivals are found by listing, copied within bounds, and taken in."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session

from radiobject_assets.dataset.arrival_section import ArrivalsConfig
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.definitions import build_definitions
from radiobject_assets.errors import IngestError, StorageError
from radiobject_assets.landing.local_zone import LandingZone
from radiobject_assets.landing.s3_zone import S3LandingZone
from radiobject_assets.landing.settling import MARKER_GRACE_S, Seen
from radiobject_assets.landing.several_zones import LandingZones
from radiobject_assets.landing.watching import look
from radiobject_assets.phantom.cohort import make_subject
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


def test_prefixes_and_archives_are_arrivals_and_other_objects_are_loose(zone: S3LandingZone) -> None:
    for name in ("one/a/IM1", "one/IM2", "two/IM1", ".hidden/IM1", "Doe_Jane.zip", "stray.dcm"):
        put(zone, name)
    found = look(zone, {}, now_s=LATER)
    assert sorted(found.settled)[1:] == ["one", "two"]
    assert sorted(found.settled)[0].startswith("a-")
    assert found.loose.kinds == {".dcm": 1}
    put(zone, "two/IM1", b"other pixels")
    changed = look(zone, found.seen, now_s=LATER + 61)
    assert changed.unsettled == ("two",)
    again = look(zone, changed.seen, now_s=LATER + 122)
    assert sorted(again.settled) == sorted(found.settled)
    assert {key for key in again.settled if again.seen[key].version != found.seen[key].version} == {"two"}


def test_a_folder_and_an_archive_of_one_name_do_not_take_each_others_place(zone: S3LandingZone) -> None:
    put(zone, "one/IM1")
    put(zone, "drop.zip")
    assert len(zone.arrivals()) == 2
    put(zone, "drop.zip/IM1")
    listing = zone.listing()
    assert [arrival.key for arrival in listing.arrivals] == ["one"]
    assert len(listing.clashes) == 1
    with pytest.raises(IngestError, match="rename one of them"):
        zone.find(listing.clashes[0])


def test_what_one_zone_has_twice_is_not_taken_for_what_another_has(
    zone: S3LandingZone, tmp_path: Path
) -> None:
    put(zone, "drop.zip")
    put(zone, "drop.zip/IM1")
    for name in ("drop.zip", "one"):
        (tmp_path / "in" / name).mkdir(parents=True)
    settings = zone.settings.model_copy(update={"trusted_names": "[a-z.]+"})
    here = LandingZone(tmp_path / "in", settings, number=1)
    both = LandingZones(settings, (replace(zone, settings=settings), here))
    assert set(both.those_of(["drop.zip", "one"])) == {"one"}


def test_a_prefix_that_is_too_large_for_one_look_is_listed_in_several(zone: S3LandingZone) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: put(zone, f"many/IM{number:04d}"), range(2300)))
    put(zone, "one/IM1")
    seen: Mapping[str, Seen] = {}
    settled: list[set[str]] = []
    while not settled or settled[-1] != {"many", "one"}:
        found = look(zone, seen, now_s=LATER + len(settled), out_of_time=lambda: True)
        seen = found.seen
        settled.append(set(found.settled))
        assert len(settled) < 9
    assert sum("many" not in each for each in settled) >= 2
    assert found.seen["many"].n_files == 2300
    many = next(arrival for arrival in zone.arrivals() if arrival.key == "many")
    assert found.seen["many"].version == zone.state(many).version


def test_an_arrival_that_still_comes_waits_unless_it_is_marked(zone: S3LandingZone) -> None:
    put(zone, "one/IM1")
    put(zone, "two/IM1")
    put(zone, "two/_COMPLETE", b"")
    now = time.time()
    first = look(zone, {}, now_s=now)
    assert first.settled == ()
    found = look(zone, first.seen, now_s=now + MARKER_GRACE_S)
    assert found.settled == ("two",)
    assert found.seen["two"].n_files == 1


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


def test_a_look_at_an_arrival_leaves_the_copy_that_a_run_reads(zone: S3LandingZone) -> None:
    put(zone, "one/a/IM1")
    arrival = zone.find("one")
    with zone.fetched(arrival) as looked_at:
        read = zone.fetch(arrival).place
        assert zone.object_of(arrival, looked_at.place / "a/IM1") == "one/a/IM1"
    assert not looked_at.place.exists()
    assert [path.name for path in read.rglob("IM*")] == ["IM1"]
    assert zone.object_of(arrival, read / "a/IM1") == "one/a/IM1"
    assert zone.object_of(arrival, zone.area / "IM1") is None


def test_two_that_copy_the_same_arrival_both_have_all_of_it(zone: S3LandingZone) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: put(zone, f"one/IM{number:03d}"), range(150)))

        def copied(_: int) -> int:
            return sum(path.is_file() for path in zone.fetch("one").place.iterdir())

        assert list(pool.map(copied, range(3))) == [150, 150, 150]


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
        done = run_pass(definitions, instance)
        overview = read_overview(dataset, definitions, instance)
        assert run_pass(definitions, instance).runs == ()
    assert done.failed == ()
    assert [run.what for run in done.arrivals] == ["drop"]
    assert overview.checks.failures == ("splits: splits_are_usable",)  # one subject for three splits
    assert overview.subjects == 1
    ct = RadiObject(str(tmp_path / "store")).collection("ct")
    rows = ct.to_obs().reset_index().set_index("series_uid")
    volume = ct.loc[rows.loc[subject.ct_series_uid, "obs_id"]]
    assert subject.ct.largest_difference(volume.to_numpy(), volume.affine) == 0


def test_an_idle_look_asks_for_pages_and_not_for_arrivals(zone: S3LandingZone) -> None:
    for arrival in range(60):
        for file in range(20):
            put(zone, f"{'abcdefghij'[arrival // 10]}{'abcdefghij'[arrival % 10]}/IM{file:02}")
    counted = _CountedPages(zone.uri, StorageResource(memory=MemoryBudgetResource()).ctx)
    watched = S3LandingZone(zone.settings, counted, zone.area)
    first = look(watched, {}, now_s=LATER)
    assert len(first.settled) == 60
    # 1,200 objects are two pages, and arrivals are looked at sixteen at a time
    assert counted.pages <= 6
    counted.pages = 0
    second = look(watched, first.seen, now_s=LATER + 90)
    assert second.settled == first.settled
    assert counted.pages <= 6


def test_objects_that_come_one_by_one_are_taken_in_when_the_last_has_come(zone: S3LandingZone) -> None:
    seen: dict[str, Seen] = {}
    now = time.time()
    for number in range(4):
        put(zone, f"one/IM{number}")
        if number == 1:
            put(zone, "one/_COMPLETE", b"")
            time.sleep(1.1)  # S3 tells whole seconds
        found = look(zone, seen, now_s=now + number)
        assert found.settled == ()
        seen = dict(found.seen)
    assert look(zone, seen, now_s=now + 3 + MARKER_GRACE_S).settled == ()
    whole = look(zone, seen, now_s=now + 3 + 60)
    assert whole.settled == ("one",)
    assert whole.seen["one"].n_files == 4


def test_a_multipart_upload_counts_when_it_is_whole(zone: S3LandingZone) -> None:
    client = _other_program(os.environ["AWS_ENDPOINT_URL"])
    bucket, _, prefix = zone.uri.removeprefix("s3://").partition("/")
    large = {"Bucket": bucket, "Key": f"{prefix}/one/large.nii"}
    upload = client.create_multipart_upload(**large)["UploadId"]
    put(zone, "one/small.nii")
    now = time.time()
    seen = look(zone, {}, now_s=now).seen
    part = client.upload_part(**large, UploadId=upload, PartNumber=1, Body=bytes(5 << 20))
    done = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**large, UploadId=upload, MultipartUpload=done)
    found = look(zone, seen, now_s=now + 59)
    assert found.settled == ()
    assert look(zone, found.seen, now_s=now + 60).settled == ()
    whole = look(zone, found.seen, now_s=now + 59 + 60)
    assert whole.settled == ("one",)
    assert whole.seen["one"].n_bytes == 6 + (5 << 20)


def test_a_prefix_under_another_name_is_known_for_the_one_that_is_gone(zone: S3LandingZone) -> None:
    put(zone, "one/IM1")
    first = look(zone, {}, now_s=LATER)
    client = _other_program(os.environ["AWS_ENDPOINT_URL"])
    bucket, _, prefix = zone.uri.removeprefix("s3://").partition("/")
    client.copy_object(Bucket=bucket, Key=f"{prefix}/two/IM1", CopySource=f"{bucket}/{prefix}/one/IM1")
    client.delete_object(Bucket=bucket, Key=f"{prefix}/one/IM1")
    # some servers still list the empty prefix
    found = look(zone, first.seen, now_s=LATER + 70)
    assert dict(found.gone) == {"one": LATER + 70}
    assert found.moved == {"two": "one"}
    put(zone, "one/IM1")
    assert dict(look(zone, found.seen, now_s=LATER + 140).gone) == {}


class _CountedPages(S3Objects):
    """The real objects, and how many pages of their listing were asked for."""

    pages = 0

    def page(self, after: str) -> Any:
        self.pages += 1
        return super().page(after)
