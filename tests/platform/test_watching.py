"""Looks at a local landing zone by change: what they find, what they cost, and what they remember."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from radiobject_assets.dataset.arrival_section import ArrivalsConfig
from radiobject_assets.landing.local_zone import Arrival, Glance, LandingZone
from radiobject_assets.landing.settling import CLOCKS_DIFFER_S, MARKER_GRACE_S, Seen
from radiobject_assets.landing.steady_clock import SteadyClock
from radiobject_assets.landing.watching import Look, look

LATER = time.time() + 86_400
NAMES = ("aa", "bb", "cc")


@pytest.fixture
def zone(tmp_path: Path) -> LandingZone:
    for name in NAMES:
        (tmp_path / name / "study" / "series").mkdir(parents=True)
        for number in range(3):
            (tmp_path / name / "study" / "series" / f"IM{number}").write_bytes(name.encode())
    return LandingZone(tmp_path, ArrivalsConfig(quiet_period_s=60, trusted_names="[a-z]+"))


def again(zone: LandingZone, before: Look, now_s: float) -> Look:
    """The next look, with what was remembered gone through JSON as the callers do."""
    kept = json.loads(json.dumps({key: one.to_json() for key, one in before.seen.items()}))
    return look(zone, {key: Seen.from_json(one) for key, one in kept.items()}, now_s=now_s)


def test_a_file_that_comes_deep_below_is_seen_at_the_next_look(zone: LandingZone) -> None:
    first = look(zone, {}, now_s=LATER)
    assert first.settled == NAMES
    (zone.path / "bb" / "study" / "series" / "late").write_bytes(b"x")
    second = again(zone, first, LATER + 1)
    assert second.unsettled == ("bb",)
    assert again(zone, second, LATER + 2).unsettled == ("bb",)
    third = again(zone, second, LATER + 61)
    assert third.settled == NAMES
    assert third.seen["bb"].n_files == 4


def test_a_folder_that_comes_in_a_folder_without_any_is_seen(zone: LandingZone) -> None:
    first = look(zone, {}, now_s=LATER)
    (zone.path / "bb" / "study" / "series" / "more").mkdir()
    second = again(zone, first, LATER + 1)
    (zone.path / "bb" / "study" / "series" / "more" / "IM9").write_bytes(b"x")
    third = again(zone, second, LATER + 2)
    assert third.unsettled == ("bb",)
    assert third.seen["bb"].n_files == 4


def test_growth_inside_a_file_is_found_within_minutes(zone: LandingZone) -> None:
    first = look(zone, {}, now_s=LATER)
    grown = zone.path / "cc" / "study" / "series" / "IM1"
    with grown.open("ab") as file:
        file.write(b"more")
    found, now_s = first, LATER
    while not found.unsettled:
        now_s += 30
        found = again(zone, found, now_s)
    assert found.unsettled == ("cc",)
    assert now_s - LATER <= 120


def test_an_idle_look_opens_and_walks_nothing_more_than_its_bound(
    zone: LandingZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look(zone, {}, now_s=LATER)
    bounded = LandingZone(zone.path, zone.settings)
    object.__setattr__(bounded, "walk_at_once", 4)  # one arrival and its folder
    walked = set()
    found = first
    for number in range(1, 4):
        found = again(bounded, found, LATER + 100 * number)
        walked |= {key for key, one in found.seen.items() if one.walked_s == LATER + 100 * number}
        assert sum(one.walked_s == LATER + 100 * number for one in found.seen.values()) == 1
    assert walked == set(NAMES)


def test_of_very_many_settled_arrivals_some_get_a_glance_in_turn(
    zone: LandingZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    glanced: list[str] = []
    glance = LandingZone.glance

    def counted(self: LandingZone, arrival: Arrival, inner: tuple[int, ...] | None) -> Glance:
        glanced.append(arrival.key)
        return glance(self, arrival, inner)

    monkeypatch.setattr(LandingZone, "glance", counted)
    bounded = LandingZone(zone.path, zone.settings)
    object.__setattr__(bounded, "glance_at_once", 1)
    found = look(bounded, {}, now_s=LATER)
    (zone.path / "bb" / "study" / "series" / "late").write_bytes(b"x")
    told = []
    for number in range(1, 5):
        glanced.clear()
        found = look(bounded, found.seen, now_s=LATER + number, after=found.glanced)
        told.append([*dict.fromkeys(glanced)])
    # what has changed is looked at until it is settled again; the others have their turn
    assert told == [["aa"], ["bb"], ["bb", "cc"], ["bb", "aa"]]
    assert found.unsettled == ("bb",)
    glanced.clear()
    look(bounded, found.seen, now_s=LATER + 9, after=found.glanced, hurry=False)
    assert {*glanced} == {*NAMES}


def test_a_listing_is_the_same_object_until_a_name_comes_goes_or_becomes_something_else(
    zone: LandingZone,
) -> None:
    first = zone.listing()
    (zone.path / "aa" / "deep").mkdir()  # changes nothing in the zone itself
    assert zone.listing() is first
    (zone.path / "dd").mkdir()
    assert [arrival.key for arrival in zone.listing().arrivals] == [*NAMES, "dd"]
    (zone.path / "dd").rmdir()
    (zone.path / "dd").write_bytes(b"a file now")
    assert [arrival.key for arrival in zone.listing().arrivals] == [*NAMES]
    assert zone.listing().loose.count == 1
    shutil.rmtree(zone.path / "bb")
    assert zone.keys() == {"aa", "cc"}
    assert zone.those_of(["aa", "bb"]).keys() == {"aa"}


def test_a_name_that_comes_is_seen_where_a_folder_keeps_no_time(zone: LandingZone) -> None:
    old = os.stat(zone.path)
    assert zone.keys() == {*NAMES}
    (zone.path / "dd").mkdir()
    os.utime(zone.path, ns=(old.st_atime_ns, old.st_mtime_ns))  # as some network drives leave it
    assert zone.keys() == {*NAMES, "dd"}


def test_a_link_whose_target_goes_is_no_arrival_any_more(zone: LandingZone, tmp_path: Path) -> None:
    target = zone.path.parent / f"{zone.path.name}-target"
    target.mkdir()
    (zone.path / "dd").symlink_to(target)
    assert zone.keys() == {*NAMES, "dd"}
    target.rmdir()
    assert zone.keys() == {*NAMES}


def test_many_new_arrivals_are_handed_out_as_there_is_time(zone: LandingZone) -> None:
    for number in range(40):
        (zone.path / f"x{chr(97 + number // 26)}{chr(97 + number % 26)}").mkdir()
    found = look(zone, {}, now_s=LATER, out_of_time=lambda: True)
    assert not found.is_complete
    assert len(found.unsettled) == 42
    rounds = 1
    while found.unsettled:
        found = look(zone, found.seen, now_s=LATER + rounds, out_of_time=lambda: True)
        rounds += 1
        assert rounds <= 43
    assert len(found.empty) == 40


def test_what_is_settled_gets_its_turn_while_many_others_are_urgent(tmp_path: Path) -> None:
    names = [f"x{number:02}" for number in range(40)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "IM1").write_bytes(b"x")
    zone = LandingZone(tmp_path, ArrivalsConfig(quiet_period_s=60, trusted_names="x.*"))
    found = look(zone, {}, now_s=LATER)
    (tmp_path / "x39" / "late").write_bytes(b"x")
    looks = 0
    while found.seen["x39"].n_files == 1:
        looks += 1
        assert looks < 20
        # as of arrivals that are to be taken in again, and wait for their runs
        seen = {key: replace(one, walked_s=0.0) if key < "x30" else one for key, one in found.seen.items()}
        enough = iter([False] * 9 + [True] * 99)
        found = look(
            zone, seen, now_s=LATER + looks, glanced_enough=partial(next, enough), after=found.glanced
        )


def test_glances_leave_time_for_what_they_tell_of(zone: LandingZone) -> None:
    found = look(zone, {}, now_s=LATER)
    for name in NAMES:
        (zone.path / name / "study" / "series" / "late").write_bytes(b"x")
    told = []
    for number in range(1, 60):
        now_s = LATER + 61 * number
        found = look(zone, found.seen, now_s=now_s, glanced_enough=lambda: True, after=found.glanced)
        assert not found.is_complete
        told.append({key for key, one in found.seen.items() if one.n_files == 4})
        if len(told[-1]) == 3:
            break
    assert told[-1] == set(NAMES)
    assert max(len(later - before) for before, later in zip([set(), *told], told, strict=False)) == 1


class Machine:
    """A machine whose clocks a test sets."""

    def __init__(self, folder: Path) -> None:
        self.wall_s, self.awake_s, self.start = time.time(), 1000.0, "first"
        self.clock = SteadyClock(
            folder / "clock.json", lambda: self.wall_s, lambda: self.awake_s, lambda: self.start
        )

    def works(self, seconds: float) -> None:
        self.wall_s += seconds
        self.awake_s += seconds


def test_a_clock_that_is_put_forward_and_a_machine_that_sleeps_settle_nothing(
    zone: LandingZone, tmp_path_factory: pytest.TempPathFactory
) -> None:
    machine = Machine(tmp_path_factory.mktemp("work"))
    found = look(zone, {}, now_s=machine.clock())
    assert not found.settled
    machine.works(10)
    machine.wall_s += 7200  # by NTP, or while it slept
    found = again(zone, found, machine.clock())
    assert not found.settled
    (zone.path / "aa" / "late").write_bytes(b"x")
    machine.works(40)
    found = again(zone, found, machine.clock())
    assert found.unsettled == NAMES
    machine.works(20)
    found = again(zone, found, machine.clock())
    assert found.settled == ("bb", "cc")
    machine.start, machine.awake_s = "second", 5.0  # it was started anew, an hour later
    machine.wall_s += 3600
    machine.works(70)
    assert again(zone, found, machine.clock()).settled == NAMES


def test_the_looker_s_clock_comes_back_to_the_wall_clock_and_survives_its_loss(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.clock() == machine.wall_s
    for jump in (600.0, -600.0):
        machine.wall_s += jump
        shown = [machine.clock()]
        for _ in range(300):
            machine.works(30)
            shown.append(machine.clock())
            assert 26 < shown[-1] - shown[-2] < 34
        assert shown[-1] == pytest.approx(machine.wall_s)
    (tmp_path / "clock.json").write_text("{", encoding="utf-8")
    assert machine.clock() == machine.wall_s


def test_a_renamed_delivery_is_known_for_the_one_that_is_gone(zone: LandingZone) -> None:
    first = look(zone, {}, now_s=LATER)
    (zone.path / "bb").rename(zone.path / "renamed")
    second = again(zone, first, LATER + 1)
    assert dict(second.gone) == {"bb": LATER + 1}
    assert second.moved == {"renamed": "bb"}
    third = again(zone, second, LATER + 50)
    assert dict(third.gone) == {"bb": LATER + 1}
    (zone.path / "renamed").rename(zone.path / "bb")
    back = again(zone, third, LATER + 60)
    assert dict(back.gone) == {"renamed": LATER + 60}
    assert back.settled == NAMES


def test_a_delivery_whose_files_were_taken_away_is_gone_though_its_folder_is_there(zone: LandingZone) -> None:
    first = look(zone, {}, now_s=LATER)
    shutil.rmtree(zone.path / "bb" / "study")
    second = again(zone, first, LATER + 1)
    assert dict(second.gone) == {"bb": LATER + 1}
    assert again(zone, second, LATER + 100).settled == ("aa", "cc")


def test_what_was_settled_stays_so_when_a_marker_comes_later(zone: LandingZone) -> None:
    first = look(zone, {}, now_s=LATER)
    (zone.path / "bb" / "_COMPLETE").touch()
    assert again(zone, first, LATER + 1).settled == NAMES


def test_a_marker_that_is_written_anew_speaks_for_what_came_after_the_first(zone: LandingZone) -> None:
    marker = zone.path / "bb" / "_COMPLETE"
    marker.touch()
    now_s = time.time()
    found = again(zone, again(zone, look(zone, {}, now_s=now_s), now_s + 1), now_s + 1 + MARKER_GRACE_S)
    assert found.settled == ("bb",)
    (zone.path / "bb" / "late").write_bytes(b"x")
    found = again(zone, found, now_s + 10)
    assert again(zone, found, now_s + 20).settled == ()
    time.sleep(0.02)
    marker.write_bytes(b"again")
    found = again(zone, found, now_s + 21)
    assert again(zone, found, now_s + 21 + MARKER_GRACE_S).settled == ("bb",)


@pytest.mark.parametrize("wrong_by_s", [-300.0, 300.0])
def test_a_file_server_whose_clock_is_wrong_hands_out_no_half_delivery(
    zone: LandingZone, wrong_by_s: float
) -> None:
    # the looker's clock is apart from that of the files by five quiet periods
    now_s = time.time() + wrong_by_s
    found = look(zone, {}, now_s=now_s)
    assert found.settled == ()
    for number in range(3):
        (zone.path / "bb" / f"late{number}").write_bytes(b"x")
        now_s += 40
        found = again(zone, found, now_s)
        assert "bb" not in found.settled
    assert "aa" in found.settled
    assert again(zone, found, now_s + 60).settled == NAMES


def test_what_is_long_quiet_is_believed_at_first_sight(zone: LandingZone) -> None:
    assert look(zone, {}, now_s=time.time() + CLOCKS_DIFFER_S + 61).settled == NAMES
    assert look(zone, {}, now_s=time.time() + CLOCKS_DIFFER_S - 61).settled == ()


def test_a_clock_that_is_put_back_delays_nothing_for_long(zone: LandingZone) -> None:
    now_s = time.time()
    first = look(zone, {}, now_s=now_s)
    second = again(zone, first, now_s - 7200)
    assert second.settled == ()
    third = again(zone, second, now_s - 7200 + 61)
    assert again(zone, third, now_s - 7200 + 130).settled == NAMES


def test_an_arrival_that_is_closed_to_us_is_not_settled(zone: LandingZone) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (zone.path / "bb").chmod(0)
    try:
        assert look(zone, {}, now_s=LATER).unsettled == ("bb",)
    finally:
        (zone.path / "bb").chmod(0o755)


def test_after_a_clock_was_put_right_nothing_that_is_written_now_looks_old(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    machine = Machine(tmp_path_factory.mktemp("work"))
    machine.wall_s += 86_400
    machine.clock()
    machine.works(30)
    machine.wall_s -= 86_400
    assert machine.clock() <= machine.wall_s
