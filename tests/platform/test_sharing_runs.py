"""Many small arrivals share partitions and runs: which, how they are named, and whose fault a failure is."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings, strategies as st

from radiobject_assets.landing.local_zone import arrival_key, is_token
from radiobject_assets.platform.arrivals.reconciling import EndedRun, LivingRun, Request
from radiobject_assets.platform.arrivals.shared_runs import UNDER_WAY, Sharing
from tests.platform.test_reconciling import DELAYS, Platform

DAY = "2026-11-30"


def tokens(number: int) -> list[str]:
    return [arrival_key(f"delivery {n}", None) for n in range(number)]


def platform_of(number: int) -> Platform:
    return Platform(**dict.fromkeys(tokens(number), "1"))


def work_off(
    platform: Platform, outcome: Callable[[Request], list[EndedRun]], *, passes: int = 200
) -> list[Request]:
    """Tick until nothing is asked for any more, each run with the outcome that the function gives it."""
    asked: list[Request] = []
    ended: list[EndedRun] = []
    for _ in range(passes):
        requests = platform.tick(ended=ended)
        partitions = [request.partition for request in requests]
        assert len(partitions) == len(set(partitions))  # one run for a partition at a time
        asked += requests
        ended = [end for request in requests for end in outcome(request)]
        platform.now_s += 30 if requests else max(DELAYS)
    return asked


def test_what_waits_together_shares_a_run_up_to_a_bound_and_is_named_after_the_day() -> None:
    platform = platform_of(25)
    requests = platform.tick(sharing=Sharing(10))
    assert [(r.partition, len(r.keys)) for r in requests] == [
        (f"{DAY}-001", 10),
        (f"{DAY}-002", 10),
        (f"{DAY}-003", 5),
    ]
    assert sorted(key for r in requests for key in r.keys) == sorted(tokens(25))
    platform.tick(ended=[end for r in requests for end in platform.ends(r)])
    assert platform.left() == []
    platform.settled[arrival_key("another", None)] = "1"
    (request,) = platform.tick()
    assert request.partition == f"{DAY}-004"


def test_a_large_arrival_has_a_run_of_its_own() -> None:
    platform = platform_of(6)
    large = tokens(6)[2]
    sizes = {key: 5_000 if key == large else 10 for key in platform.settled}
    requests = platform.tick(sizes=sizes, sharing=Sharing(100, 1_000))
    assert (large,) in [request.keys for request in requests]
    assert sum(len(request.keys) for request in requests) == 6


def test_names_that_may_be_told_and_partitions_of_before_stay_as_they_are() -> None:
    platform = Platform(**{"batch-001": "1", "batch-002": "1", **dict.fromkeys(tokens(3), "1")})
    before = tokens(3)[0]
    platform.partitions = {before, f"{DAY}-007"}
    requests = platform.tick()
    assert sorted(r.partition for r in requests) == sorted(["batch-001", "batch-002", before, f"{DAY}-008"])


def test_a_trusted_delivery_is_not_taken_for_the_partition_that_others_share() -> None:
    platform = platform_of(3)
    (first,) = platform.tick()
    platform.tick(ended=platform.ends(first))
    platform.settled[arrival_key(first.partition, ".*")] = "1"
    (second,) = platform.tick()
    assert second.keys == (arrival_key(first.partition, ".*"),)
    assert second.partition == f"{DAY}-002"


def test_names_as_we_give_them_are_no_keys_although_they_are_trusted() -> None:
    shared, token = f"{DAY}-003", arrival_key("somebody", None)
    assert is_token(arrival_key(shared, ".*"))
    assert arrival_key(token, ".*") != token
    assert arrival_key(f"{DAY}-03", ".*") == f"{DAY}-03"
    assert arrival_key(f"{shared}.zip", ".*") == f"{shared}.zip"


def test_an_arrival_that_changes_is_worked_on_alone_in_its_partition() -> None:
    platform = platform_of(5)
    (first,) = platform.tick()
    platform.tick(ended=platform.ends(first))
    changed = tokens(5)[3]
    platform.settled[changed] = "2"
    (second,) = platform.tick()
    assert (second.partition, second.keys) == (first.partition, (changed,))
    # while that run lives, nobody else of the partition is asked for
    platform.settled[tokens(5)[1]] = "2"
    living = [LivingRun(second.partition, "r", second.token, second.keys)]
    assert platform.tick(living=living) == ()
    (third,) = platform.tick(ended=platform.ends(second))
    assert (third.partition, third.keys) == (first.partition, (tokens(5)[1],))


def test_many_wait_until_they_fill_a_run_while_runs_are_under_way() -> None:
    platform = platform_of(30)
    living = [LivingRun(f"p{n}", f"r{n}") for n in range(UNDER_WAY)]
    (full,) = platform.tick(living=living, sharing=Sharing(20))
    assert len(full.keys) == 20
    living += [LivingRun(full.partition, "r", full.token, full.keys)]
    assert platform.tick(living=living, sharing=Sharing(20)) == ()
    platform.now_s += 301
    (rest,) = platform.tick(living=living, sharing=Sharing(20))
    assert len(rest.keys) == 10


def test_an_arrival_that_names_itself_as_the_fault_never_holds_up_the_others() -> None:
    platform = platform_of(40)
    bad = {tokens(40)[7], tokens(40)[30]}

    def outcome(request: Request) -> list[EndedRun]:
        if not bad & set(request.keys):
            return platform.ends(request)
        return [
            end
            for key in request.keys
            for end in platform.ends(request, "failure" if key in bad else "others")
            if end.key == key
            for end in [
                EndedRun(
                    key,
                    end.run_id,
                    end.fate,
                    end.asked,
                    error="table" if key in bad else "",
                    error_kind="item" if key in bad else "",
                )
            ]
        ]

    asked = work_off(platform, outcome)
    assert {key for key, kind in platform.left() if kind == "given up"} == bad
    assert len(platform.left()) == 2
    assert len(asked[1].keys) == 38  # the second run has all the others
    assert all(len(request.keys) == 1 for request in asked[2:])


def test_whose_fault_a_failure_is_comes_out_and_only_that_one_is_given_up() -> None:
    for fate, kind in (("failure", "item"), ("killed", "killed")):
        platform = platform_of(60)
        bad = tokens(60)[11]

        def outcome(
            request: Request,
            platform: Platform = platform,
            bad: str = bad,
            fate: str = fate,
            kind: str = kind,
        ) -> list[EndedRun]:
            if bad in request.keys:
                return platform.ends(request, fate, error_kind=kind, place="ct")
            return platform.ends(request)

        asked = work_off(platform, outcome)
        assert platform.left() == [(bad, "given up")]
        assert sum(row.is_achieved for row in platform.rows.values()) == 59
        assert len(asked) < 30  # not one run for each of the others


def test_one_that_the_machine_can_not_read_does_not_hold_up_the_others_for_ever() -> None:
    platform = platform_of(20)
    bad = tokens(20)[5]

    def outcome(request: Request) -> list[EndedRun]:
        if bad in request.keys:  # it is not known whose fault it is: storage gave no answer
            return platform.ends(request, "failure", error_kind="machine")
        return platform.ends(request)

    asked = work_off(platform, outcome, passes=30)
    assert {key for key, row in platform.rows.items() if not row.is_achieved} == {bad}
    assert len({request.keys for request in asked}) < 15  # not one run for each of the others


def test_what_each_run_made_counts_for_the_arrivals_that_it_worked_on_alone() -> None:
    platform = platform_of(3)
    (request,) = platform.tick()
    one, other, third = platform.ends(request)
    platform.tick(ended=[one])
    assert [platform.rows[end.key].is_achieved for end in (one, other, third)] == [True, False, False]


def test_kills_lost_requests_and_a_lost_table_lose_nothing_that_shares_runs() -> None:
    steps = st.lists(
        st.sampled_from(["done", "killed", "lost", "machine", "table lost", "changed", "more"]), max_size=25
    )

    @settings(max_examples=60, deadline=None)
    @given(steps, st.integers(0, 10_000))
    def holds(each: list[str], seed: int) -> None:
        chance = random.Random(seed)
        platform = platform_of(12)
        living: list[Request] = []
        for number, step in enumerate(each):
            ended: list[EndedRun] = []
            if step == "more":
                platform.settled[arrival_key(f"late {number}", None)] = "1"
            elif step == "changed":
                platform.settled[chance.choice(sorted(platform.settled))] = f"{number}"
            elif step == "table lost":
                platform.rows = {}
            elif living:
                request = living.pop(chance.randrange(len(living)))
                if step in ("killed", "machine"):
                    fate = "killed" if step == "killed" else "failure"
                    ended = platform.ends(request, fate, error_kind=step, place=str(number))
                elif step == "done":
                    ended = platform.ends(request)
            runs = [LivingRun(r.partition, r.token, r.token, r.keys) for r in living]
            requests = platform.tick(living=runs, ended=ended)
            working = [request.partition for request in (*living, *requests)]
            assert len(working) == len(set(working))
            both = [key for request in (*living, *requests) for key in request.keys]
            assert len(both) == len(set(both))  # no arrival is in two runs at once
            living += requests
            platform.now_s += 30
        ended = [end for request in living for end in platform.ends(request)]
        for _ in range(60):
            requests = platform.tick(ended=ended)
            ended = [end for request in requests for end in platform.ends(request)]
            platform.now_s += max(DELAYS)
        assert platform.left() == []
        assert all(platform.rows[key].is_achieved for key in platform.settled)

    holds()
