"""The sweep over the landing zone: which arrivals are asked for, and when."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from radiobject_assets.dataset.dataset_yaml import ArrivalsConfig
from radiobject_assets.errors import ConfigurationError, IngestError
from radiobject_assets.landing.local_zone import LandingZone, arrival_key
from radiobject_assets.landing.settling import MARKER_GRACE_S
from radiobject_assets.platform.automation.sweep import forget, sweep

LATER = time.time() + 3600
AGAIN = LATER + 1
"""A look at which a change is seen."""
AT_LAST = AGAIN + 60
"""A look at which what changed has been quiet for long enough."""


@pytest.fixture
def zone(tmp_path: Path) -> LandingZone:
    settings = ArrivalsConfig(quiet_period_s=60, trusted_names=r"batch-\d+")
    for name in ("batch-001", "batch-002", "batch-003"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "IM1").write_bytes(b"pixels")
    return LandingZone(tmp_path, settings)


def requested(found: object) -> list[str]:
    return [request.key for request in found.requests]  # type: ignore[attr-defined]


def test_quiet_arrivals_are_requested_once(zone: LandingZone) -> None:
    first = sweep(None, zone, now_s=LATER)
    second = sweep(first.cursor, zone, now_s=LATER)
    assert requested(first) == ["batch-001", "batch-002", "batch-003"]
    assert requested(second) == []


def test_an_arrival_that_is_still_changing_waits(zone: LandingZone) -> None:
    found = sweep(None, zone, now_s=time.time())
    assert requested(found) == []
    assert found.unsettled == ("batch-001", "batch-002", "batch-003")


def test_a_marker_settles_an_arrival_after_a_short_grace(zone: LandingZone) -> None:
    (zone.path / "batch-002" / "_COMPLETE").touch()
    now = time.time()
    first = sweep(None, zone, now_s=now)
    assert requested(first) == []
    assert first.wait_s == MARKER_GRACE_S
    assert requested(sweep(first.cursor, zone, now_s=now + MARKER_GRACE_S)) == ["batch-002"]


def test_the_marker_itself_is_no_new_content(zone: LandingZone) -> None:
    first = sweep(None, zone, now_s=LATER)
    (zone.path / "batch-002" / "_COMPLETE").touch()
    assert requested(sweep(first.cursor, zone, now_s=LATER)) == []


def test_files_copied_with_old_times_do_not_look_settled(zone: LandingZone) -> None:
    old = zone.path / "batch-001" / "inner" / "IM2"
    old.write_bytes(b"pixels")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    assert "batch-001" in sweep(None, zone, now_s=time.time()).unsettled


def test_an_added_file_makes_an_arrival_run_again_under_another_key(zone: LandingZone) -> None:
    first = sweep(None, zone, now_s=LATER)
    (zone.path / "batch-002" / "late.dcm").write_bytes(b"more")
    between = sweep(first.cursor, zone, now_s=AGAIN)
    assert requested(between) == []
    second = sweep(between.cursor, zone, now_s=AT_LAST)
    assert requested(second) == ["batch-002"]
    assert second.requests[0].run_key not in {request.run_key for request in first.requests}


@pytest.mark.parametrize(
    "damage", ["{", "[]", "null", '{"format": 99}', '{"format": 1, "done": 3, "after": ""}']
)
def test_a_damaged_cursor_restarts_the_sweep_instead_of_stopping_it(zone: LandingZone, damage: str) -> None:
    found = sweep(damage, zone, now_s=LATER)
    assert requested(found) == ["batch-001", "batch-002", "batch-003"]
    assert found.cursor_was_damaged
    assert not sweep(found.cursor, zone, now_s=LATER).cursor_was_damaged


def test_a_sweep_out_of_time_goes_on_where_it_stopped(zone: LandingZone) -> None:
    first = sweep(None, zone, now_s=LATER, out_of_time=lambda: True)
    second = sweep(first.cursor, zone, now_s=LATER, out_of_time=lambda: True)
    third = sweep(second.cursor, zone, now_s=LATER)
    assert [requested(found) for found in (first, second, third)] == [
        ["batch-001"],
        ["batch-002"],
        ["batch-003"],
    ]
    assert not first.is_complete
    assert third.is_complete
    assert requested(sweep(third.cursor, zone, now_s=LATER)) == []


def test_an_empty_arrival_is_named_and_not_requested(zone: LandingZone) -> None:
    (zone.path / "batch-009").mkdir()
    found = sweep(None, zone, now_s=LATER)
    assert found.empty == ("batch-009",)
    assert "1 empty" in found.summary()


def test_a_removed_arrival_leaves_the_cursor(zone: LandingZone) -> None:
    first = sweep(None, zone, now_s=LATER)
    for path in (zone.path / "batch-001" / "inner" / "IM1", zone.path / "batch-001" / "inner"):
        path.unlink() if path.is_file() else path.rmdir()
    (zone.path / "batch-001").rmdir()
    second = sweep(first.cursor, zone, now_s=LATER)
    assert second.gone == ("batch-001",)
    assert "batch-001" not in json.loads(second.cursor)["done"]


def test_a_forgotten_arrival_is_requested_again(zone: LandingZone) -> None:
    first = sweep(None, zone, now_s=LATER)
    assert requested(sweep(forget(first.cursor, ["batch-002"]), zone, now_s=LATER)) == ["batch-002"]


def test_a_folder_that_may_be_named_after_a_patient_is_shown_as_a_token() -> None:
    key = arrival_key("Doe^Jane 1970", r"batch-\d+")
    assert "Doe" not in key
    assert key == arrival_key("Doe^Jane 1970", None)
    assert arrival_key("batch-001", r"batch-\d+") == "batch-001"
    assert arrival_key("batch-001 Doe", r"batch-\d+").startswith("a-")


def test_a_trusted_name_must_still_be_plain() -> None:
    assert arrival_key("../x", ".*").startswith("a-")
    assert arrival_key("a\nb", "(?s).*").startswith("a-")


def test_a_landing_zone_that_is_not_there_says_which_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"`landing` in dataset\.yaml"):
        LandingZone(tmp_path / "absent", ArrivalsConfig()).arrivals()


def test_an_arrival_that_was_taken_away_is_told_so(zone: LandingZone) -> None:
    with pytest.raises(IngestError, match="no longer in the landing zone"):
        zone.find("batch-777")


def test_files_that_belong_to_no_arrival_are_told_by_kind_and_without_their_names(zone: LandingZone) -> None:
    for name in ("stray.dcm", "Doe.Jane", "drop.zip_COMPLETE", "scan.nii.gz", "IM0001", "other.nii.gz"):
        (zone.path / name).write_bytes(b"x")
    (zone.path / "drop.zip").write_bytes(b"PK")
    found = sweep(None, zone, now_s=LATER)
    assert zone.loose_files().kinds == {
        ".dcm": 1, ".nii.gz": 2, "of another kind": 1, "without suffix": 1
    }  # fmt: skip
    assert "5 files lie in the landing zone itself" in found.summary()
    assert "Jane" not in found.summary()
    assert found.loose_is_news
    assert not sweep(found.cursor, zone, now_s=LATER).loose_is_news


def test_an_archive_in_the_landing_zone_is_an_arrival_of_its_own(zone: LandingZone) -> None:
    for name in ("Doe_Jane.zip", "drop.tar", "drop.TAR.GZ", "drop.tgz"):
        (zone.path / name).write_bytes(b"parcel")
    first = sweep(None, zone, now_s=LATER)
    assert len(first.requests) == 7
    assert zone.loose_files().count == 0
    assert not any("Doe" in request.key for request in first.requests)
    (zone.path / "drop.tar").write_bytes(b"another parcel")
    between = sweep(first.cursor, zone, now_s=AGAIN)
    assert between.unsettled == (arrival_key("drop.tar", None),)
    (again,) = sweep(between.cursor, zone, now_s=AT_LAST).requests
    assert again.key == arrival_key("drop.tar", None)
    assert zone.find(again.key).place == zone.path / "drop.tar"


def test_an_archive_settles_as_a_folder_does(zone: LandingZone) -> None:
    (zone.path / "drop.zip").write_bytes(b"parcel")
    key = arrival_key("drop.zip", None)
    now = time.time()
    first = sweep(None, zone, now_s=now)
    assert key in first.unsettled
    (zone.path / "drop.zip_COMPLETE").touch()
    marked = sweep(first.cursor, zone, now_s=now + 1)
    assert requested(sweep(marked.cursor, zone, now_s=now + 1 + MARKER_GRACE_S)) == [key]


def test_other_settings_make_every_arrival_new_once(zone: LandingZone) -> None:
    first = sweep(None, zone, now_s=LATER, settings="one")
    assert requested(sweep(first.cursor, zone, now_s=LATER, settings="one")) == []
    second = sweep(first.cursor, zone, now_s=LATER, settings="two")
    assert requested(second) == requested(first)
    assert {r.run_key for r in second.requests}.isdisjoint(r.run_key for r in first.requests)
    assert requested(sweep(second.cursor, zone, now_s=LATER, settings="two")) == []
