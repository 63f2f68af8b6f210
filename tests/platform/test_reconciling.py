"""What is asked for, given what lies there, what is known, the runs and the clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from radiobject_assets.landing.local_zone import LooseFiles
from radiobject_assets.platform.arrivals.arrival_table import ArrivalRow, ArrivalTable, TickState
from radiobject_assets.platform.arrivals.left_behind import left_behind
from radiobject_assets.platform.arrivals.looking import LandingLook
from radiobject_assets.platform.arrivals.reconciling import (
    EndedRun,
    LivingRun,
    Request,
    observe,
    reconcile,
    stopped_hearts,
)
from radiobject_assets.resources import WorkingTables
from radiobject_assets.store import open_storage

DELAYS = (60.0, 300.0, 1500.0)
DAY = 86_400.0


class Platform:
    """A landing zone, a table and a queue of runs, as the ticks see them."""

    def __init__(self, **settled: str) -> None:
        self.settled = dict(settled)
        self.unsettled: set[str] = set()
        self.images: dict[str, str] = {}
        self.partitions: set[str] = set()
        self.settings = "s"
        self.rows: dict[str, ArrivalRow] = {}
        self.now_s = 1_000_000.0
        self.runs = 0
        self.wanted: dict[tuple[str, str], str] = {}
        """Of each request what was wanted then."""

    def tick(
        self, living: Sequence[LivingRun] = (), ended: Sequence[EndedRun] = (), room: int = 64, **more: Any
    ) -> tuple[Request, ...]:
        seen = LandingLook(
            present=frozenset({*self.settled, *self.unsettled}),
            settled=self.settled,
            unsettled=frozenset(self.unsettled),
            empty=frozenset(),
            loose=LooseFiles({}),
        )
        known = observe(
            self.rows,
            seen,
            settings=self.settings,
            images=self.images,
            partitions=self.partitions,
            now_s=self.now_s,
        )
        tokens = [f"t{self.runs + n}" for n in range(room)]
        more = {"partitions": self.partitions, "day": "2026-11-30", **more}
        done = reconcile(
            known, living, ended, room=room, tokens=tokens, now_s=self.now_s, delays_s=DELAYS, **more
        )
        self.runs += room
        self.rows = dict(done.rows)
        self.wanted |= {(r.token, key): self.rows[key].wanted for r in done.requests for key in r.keys}
        self.partitions |= {request.partition for request in done.requests}
        return done.requests

    def end(self, request: Request, fate: str = "success", **more: Any) -> EndedRun:
        (one,) = self.ends(request, fate, **more)
        return one

    def ends(self, request: Request, fate: str = "success", **more: Any) -> list[EndedRun]:
        """What a run was for each of its arrivals."""
        return [
            EndedRun(  # type: ignore[arg-type]  # tests name a fate by its word
                key,
                f"run-{request.token}",
                fate,
                request.token,
                **{
                    "achieved": self.wanted[request.token, key] if fate == "success" else "",
                    "suspects": len(request.keys),
                    **more,
                },
            )
            for key in request.keys
        ]

    def left(self) -> list[tuple[str, str]]:
        return [(item.key, item.kind) for item in left_behind(self.rows, self.now_s, DELAYS).items]


def test_what_is_achieved_is_asked_for_once_and_again_when_it_changes() -> None:
    platform = Platform(a="1")
    (first,) = platform.tick()
    assert platform.tick(living=[LivingRun("a", "r", first.token)]) == ()
    assert platform.tick(ended=[platform.end(first)]) == ()
    assert platform.left() == []
    platform.settled["a"] = "2"
    (second,) = platform.tick()
    assert platform.rows["a"].wanted == "2:s"
    assert second.token != first.token
    platform.tick(ended=[platform.end(second)])
    platform.settings = "other"
    assert [request.partition for request in platform.tick()] == ["a"]


def test_a_request_that_nothing_answers_is_asked_for_again_at_once() -> None:
    platform = Platform(a="1")
    platform.tick()
    assert [request.partition for request in platform.tick()] == ["a"]
    assert platform.rows["a"].attempts == 0


def test_content_that_changed_under_a_run_is_asked_for_again() -> None:
    platform = Platform(a="1")
    (first,) = platform.tick()
    platform.settled["a"] = "2"
    assert platform.tick(living=[LivingRun("a", "r", first.token)]) == ()
    (second,) = platform.tick(ended=[platform.end(first)])
    assert platform.wanted[second.token, "a"] == "2:s"


def test_what_fails_by_itself_is_tried_with_longer_waits_and_then_given_up() -> None:
    platform = Platform(a="1")
    (request,) = platform.tick()
    waits = []
    for _ in range(10):
        failed_s = platform.now_s
        end = platform.end(request, "failure", error="ct: broken", error_kind="item")
        asked = platform.tick(ended=[end])
        while not asked and platform.now_s - failed_s < DAY:
            platform.now_s += 30
            asked = platform.tick()
        if not asked:
            break
        waits.append(platform.now_s - failed_s)
        (request,) = asked
    assert waits == [60, 300, 1500]
    assert platform.left() == [("a", "given up")]
    platform.settled["a"] = "mended"
    assert len(platform.tick()) == 1


def test_a_machine_that_fails_is_no_fault_of_the_arrival() -> None:
    platform = Platform(a="1")
    (request,) = platform.tick()
    for number in range(30):
        place = f"step {number % 2}"  # never twice in the same place
        end = platform.end(request, "killed", error_kind="killed", place=place)
        asked = platform.tick(ended=[end])
        assert bool(asked) == (number == 0)  # the first retry at once
        if not asked:
            platform.now_s += DELAYS[-1]
            asked = platform.tick()
        (request,) = asked
    platform.tick(ended=[platform.end(request)])
    assert platform.rows["a"].is_achieved


def test_a_run_that_dies_again_and_again_in_one_step_is_told_and_given_up() -> None:
    platform = Platform(a="1")
    (request,) = platform.tick()
    deaths = 0
    for _ in range(20):
        deaths += 1
        end = platform.end(request, "killed", error_kind="killed", place="ct")
        asked = platform.tick(ended=[end])
        if not asked:
            platform.now_s += DELAYS[-1]
            asked = platform.tick()
        if not asked:
            break
        (request,) = asked
    assert deaths == 7
    (item,) = left_behind(platform.rows, platform.now_s, DELAYS).items
    assert (item.kind, "ct: its run was killed there 7 times" in item.error) == ("given up", True)


def test_a_run_that_somebody_canceled_comes_again_after_the_longest_wait() -> None:
    platform = Platform(a="1")
    (request,) = platform.tick()
    assert platform.tick(ended=[platform.end(request, "canceled", error_kind="canceled")]) == ()
    platform.now_s += DELAYS[-1] - 1
    assert platform.tick() == ()
    platform.now_s += 1
    assert len(platform.tick()) == 1


def test_a_person_who_asks_is_not_made_to_wait() -> None:
    platform = Platform(a="1")
    (request,) = platform.tick()
    assert platform.tick(ended=[platform.end(request, "failure", error_kind="item")]) == ()
    assert len(platform.tick(is_impatient=True)) == 1


def test_a_run_that_somebody_started_by_hand_counts() -> None:
    platform = Platform(a="1", b="1")
    assert platform.tick(living=[LivingRun("a", "hand"), LivingRun("b", "hand-b")]) == ()
    done = EndedRun("a", "hand", "success", achieved="1:s")
    in_part = EndedRun("b", "hand-b", "success")
    (request,) = platform.tick(ended=[done, in_part])
    assert request.partition == "b"  # a part of the assets is not all of them
    assert platform.rows["a"].is_achieved


def test_a_hand_made_run_takes_up_what_was_given_up() -> None:
    platform = Platform(a="1")
    platform.tick()
    platform.rows["a"] = replace(platform.rows["a"], asked="", run_id="old", attempts=9)
    assert platform.tick(ended=[EndedRun("a", "old", "failure", error_kind="item")]) == ()
    assert platform.left() == [("a", "given up")]
    platform.tick(ended=[EndedRun("a", "new", "success", achieved="1:s")])
    assert platform.left() == []


def test_labels_are_tried_once_for_each_state_of_the_images_that_they_wait_for() -> None:
    platform = Platform(a="1")
    (request,) = platform.tick()
    platform.tick(ended=[platform.end(request)])
    platform.images = {"a": "t1"}
    (request,) = platform.tick()
    assert platform.rows["a"].asked_images == "t1"
    assert platform.tick(living=[LivingRun("a", "r", request.token)]) == ()
    assert platform.tick(ended=[platform.end(request)]) == ()
    platform.images = {"a": "t2"}
    (request,) = platform.tick()
    platform.images = {}
    assert platform.tick(ended=[platform.end(request)]) == ()
    assert platform.rows["a"].is_achieved


def test_what_is_still_arriving_or_has_vanished_is_not_asked_for_and_is_told() -> None:
    platform = Platform(gone="1", never="1")
    (request, _) = platform.tick()
    assert request.partition == "gone"
    platform.tick(ended=[platform.end(request)])
    platform.settled = {}
    platform.unsettled = {"slow"}
    assert platform.tick() == ()
    platform.now_s += 2 * DAY
    assert platform.tick() == ()
    assert platform.left() == [("gone", "vanished"), ("never", "lost"), ("slow", "still arriving")]
    platform.partitions = set()  # somebody deleted them
    platform.tick()
    assert platform.left() == [("slow", "still arriving")]


def test_everybody_gets_a_turn_although_room_is_short() -> None:
    platform = Platform(**{f"k{n}": "1" for n in range(10)})
    asked: list[str] = []
    ended: list[EndedRun] = []
    for _ in range(40):
        requests = platform.tick(ended=ended, room=3)
        asked += [request.partition for request in requests]
        ended = [platform.end(r, "killed", error_kind="killed") for r in requests]
        platform.now_s += 30
    assert set(asked) == set(platform.settled)


def test_a_clock_that_was_wrong_delays_nothing_for_ever() -> None:
    platform = Platform(a="1")
    platform.now_s += 365 * DAY
    (request,) = platform.tick()
    platform.tick(ended=[platform.end(request, "failure", error_kind="item")])
    platform.now_s -= 365 * DAY
    assert len(platform.tick()) == 1


def test_a_heart_that_stopped_is_dead_and_a_machine_that_slept_is_not() -> None:
    signs: dict[str, str | None] = {"beats": "1", "stopped": "1", "starting": None}
    silences: dict[str, tuple[str, float]] = {}
    dead: list[str] = []
    for tick in range(8):
        signs["beats"] = str(tick)
        # one of the ticks comes an hour late, and one before the last, by the clock
        elapsed = {3: 3600.0, 5: -600.0}.get(tick, 30.0)
        silences, dead = stopped_hearts(signs, silences, elapsed_s=elapsed, silence_s=180.0)
        assert tick == 7 or not dead
    assert dead == ["stopped", "starting"]


def test_nothing_is_given_up_or_forgotten_by_kills_and_lost_requests_alone() -> None:
    fates = st.lists(st.sampled_from(["lost", "killed", "canceled", "machine"]), max_size=30)

    @given(fates)
    def holds(each: list[str]) -> None:
        platform = Platform(a="1")
        asked = platform.tick()
        for number, fate in enumerate(each):
            (request,) = asked
            kind = "canceled" if fate == "canceled" else "machine" if fate == "machine" else "killed"
            word = "failure" if fate == "machine" else fate
            end = platform.end(request, word, error_kind=kind, place=str(number))
            asked = platform.tick(ended=[] if fate == "lost" else [end])
            if not asked:
                platform.now_s += DELAYS[-1]
                asked = platform.tick()
        (request,) = asked
        platform.tick(ended=[platform.end(request)])
        assert platform.left() == []

    holds()


def test_the_table_comes_back_as_it_was_and_one_arrival_rewrites_one_shard(tmp_path: Any) -> None:
    tables = WorkingTables(open_storage(str(tmp_path)))
    rows = {f"k{n}": ArrivalRow(wanted=f"{n}", attempts=n % 3, error="Fehler: übel") for n in range(500)}
    ArrivalTable(tables).save(rows)
    table = ArrivalTable(tables)
    assert table.rows == rows
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "reconciled").iterdir()}
    rows["k7"] = replace(rows["k7"], achieved="7")
    table.save(rows)
    changed = [path for path, at in before.items() if path.stat().st_mtime_ns != at]
    assert len(changed) == 1
    assert ArrivalTable(tables).rows == rows
    table.save_tick(TickState(told="k", silences={"run": ("sign", 3.5)}))
    assert ArrivalTable(tables).tick().silences == {"run": ("sign", 3.5)}
    assert set(ArrivalTable(tables).rows) == set(rows)


@pytest.mark.parametrize("damage", ["{", "[]", "null", '{"a": 3}', ""])
def test_a_damaged_part_of_the_table_costs_another_look_and_no_other_row(tmp_path: Any, damage: str) -> None:
    tables = WorkingTables(open_storage(str(tmp_path)))
    ArrivalTable(tables).save({f"k{n}": ArrivalRow(wanted="1") for n in range(500)})
    first, *_ = sorted((tmp_path / "reconciled").iterdir())
    first.write_text(damage, encoding="utf-8")
    assert 400 < len(ArrivalTable(tables).rows) < 500
