"""Looks into the landing zone: which arrivals there are, and which have settled."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from radiobject_assets.dataset.arrival_section import ArrivalsConfig
from radiobject_assets.errors import ConfigurationError, IngestError
from radiobject_assets.landing.local_zone import LandingZone, arrival_key
from radiobject_assets.landing.settling import MARKER_GRACE_S
from radiobject_assets.platform.arrivals.looking import look_at_landing, remember, remembered

LATER = time.time() + 3600


@pytest.fixture
def zone(tmp_path: Path) -> LandingZone:
    settings = ArrivalsConfig(quiet_period_s=60, trusted_names=r"batch-\d+")
    for name in ("batch-001", "batch-002", "batch-003"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "IM1").write_bytes(b"pixels")
    return LandingZone(tmp_path, settings)


def test_quiet_arrivals_are_settled_and_others_wait(zone: LandingZone) -> None:
    assert sorted(look_at_landing(zone, {}, now_s=LATER).settled) == ["batch-001", "batch-002", "batch-003"]
    soon = look_at_landing(zone, {}, now_s=time.time())
    assert not soon.settled
    assert soon.unsettled == {"batch-001", "batch-002", "batch-003"}


def test_a_marker_settles_an_arrival_and_is_no_content_of_it(zone: LandingZone) -> None:
    before = look_at_landing(zone, {}, now_s=LATER).settled["batch-002"]
    (zone.path / "batch-002" / "_COMPLETE").touch()
    now = time.time()
    first = look_at_landing(zone, {}, now_s=now)
    assert look_at_landing(zone, first.seen, now_s=now + MARKER_GRACE_S).settled == {"batch-002": before}


def test_an_added_file_is_another_version_when_it_has_been_quiet(zone: LandingZone) -> None:
    before = look_at_landing(zone, {}, now_s=LATER)
    (zone.path / "batch-002" / "late.dcm").write_bytes(b"more")
    soon = look_at_landing(zone, before.seen, now_s=LATER + 1)
    assert soon.unsettled == {"batch-002"}
    after = look_at_landing(zone, soon.seen, now_s=LATER + 62).settled
    assert {key for key in after if after[key] != before.settled[key]} == {"batch-002"}


def test_what_was_seen_is_remembered_and_its_loss_is_no_error(zone: LandingZone, tmp_path: Path) -> None:
    kept = tmp_path / "work" / "looked.json"
    assert remembered(kept) == {}
    found = look_at_landing(zone, {}, now_s=LATER)
    remember(kept, found.seen)
    assert remembered(kept) == dict(found.seen)
    kept.write_text("{", encoding="utf-8")
    assert remembered(kept) == {}


def test_an_empty_arrival_is_not_settled(zone: LandingZone) -> None:
    (zone.path / "batch-009").mkdir()
    found = look_at_landing(zone, {}, now_s=LATER)
    assert found.empty == {"batch-009"}
    assert "batch-009" not in found.settled


def test_files_that_belong_to_no_arrival_are_told_by_kind_and_without_their_names(zone: LandingZone) -> None:
    for name in ("stray.dcm", "Doe.Jane", "drop.zip_COMPLETE", "scan.nii.gz", "IM0001", "other.nii.gz"):
        (zone.path / name).write_bytes(b"x")
    (zone.path / "drop.zip").write_bytes(b"PK")
    loose = look_at_landing(zone, {}, now_s=LATER).loose
    assert loose.kinds == {".dcm": 1, ".nii.gz": 2, "of another kind": 1, "without suffix": 1}
    assert "5 files lie in the landing zone itself" in str(loose)
    assert "Jane" not in str(loose)


def test_an_archive_is_an_arrival_of_its_own_and_settles_as_a_folder_does(zone: LandingZone) -> None:
    for name in ("Doe_Jane.zip", "drop.tar", "drop.TAR.GZ", "drop.tgz"):
        (zone.path / name).write_bytes(b"parcel")
    first = look_at_landing(zone, {}, now_s=LATER)
    assert len(first.settled) == 7
    assert first.loose.count == 0
    assert not any("Doe" in key for key in first.present)
    (zone.path / "drop.tar").write_bytes(b"another parcel")
    key = arrival_key("drop.tar", None)
    assert look_at_landing(zone, {}, now_s=LATER).settled[key] != first.settled[key]
    assert zone.find(key).place == zone.path / "drop.tar"
    (zone.path / "drop.tar_COMPLETE").touch()
    now = time.time()
    soon = look_at_landing(zone, {}, now_s=now)
    assert key in soon.unsettled
    assert list(look_at_landing(zone, soon.seen, now_s=now + MARKER_GRACE_S).settled) == [key]


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
