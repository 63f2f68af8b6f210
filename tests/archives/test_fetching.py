"""Studies from a real archive, through a network and an archive that do what they do."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from radiobject_assets.archives.deliveries import uid_token
from radiobject_assets.archives.fetching import fetch
from radiobject_assets.archives.source_pass import SourcePass
from radiobject_assets.dataset.source_section import SourceConfig
from radiobject_assets.errors import ConfigurationError
from tests.archives.conftest import arrivals, assert_same, uids
from tests.archives.faulty_proxy import Answer, Asked, Proxy, faulty_proxy
from tests.archives.orthanc import Orthanc


@pytest.fixture
def proxy(orthanc: Orthanc) -> Iterator[Proxy]:
    with faulty_proxy(orthanc.url) as one:
        yield one


def ask(url: str, landing: Path, **settings: Any) -> SourcePass:
    return fetch(
        "pacs", SourceConfig(url=url, **{"quiet_period_s": 0, **settings}), landing, anew_since_s=time.time()
    )


def test_what_an_archive_has_becomes_one_arrival_a_study_bit_for_bit(
    orthanc: Orthanc, landing: Path, real_series: list[Path], phantoms: list[list[Path]]
) -> None:
    sent = [*real_series, *phantoms[0]]
    orthanc.add(sent)
    done = ask(orthanc.url, landing)
    assert done.is_sound
    studies = {str(one.StudyInstanceUID) for one in uids(sent).values()}
    assert done.delivered == done.studies == len(studies) == len(arrivals(landing))
    assert_same(uids(sent), uids(landing))
    for arrival in arrivals(landing):
        assert (arrival / "_COMPLETE").is_file()
        assert len({str(one.StudyInstanceUID) for one in uids(arrival).values()}) == 1
    again = ask(orthanc.url, landing)
    assert (again.delivered, again.fetched, again.is_sound) == (0, 0, True)


def test_no_name_or_note_holds_an_identifier(
    orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])
    ask(orthanc.url, landing)
    said = "\n".join(str(path) for path in landing.rglob("*"))
    said += "".join(path.read_text() for path in landing.rglob("*.json"))
    for one in uids(phantoms[0]).values():
        for element in (
            "PatientID",
            "PatientName",
            "StudyInstanceUID",
            "SeriesInstanceUID",
            "SOPInstanceUID",
        ):
            assert str(one[element].value) not in said


def test_a_series_whose_connection_breaks_again_and_again_comes_whole_and_no_part_is_seen(
    proxy: Proxy, orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])
    times: dict[str, int] = {}

    def cut(asked: Asked, answer: Answer) -> None:
        times[asked.path] = times.get(asked.path, 0) + 1
        if asked.is_retrieval and times[asked.path] == 1:
            answer.cut_at = len(answer.body) * 2 // 3

    proxy.after = cut
    passes = []
    for _ in range(20):
        passes.append(ask(proxy.url, landing))
        if passes[-1].delivered:
            break
        assert arrivals(landing) == []
    assert passes[-1].delivered == 1
    assert len(passes) > 1
    # what came before the connection broke was not asked for again
    assert sum(one.fetched for one in passes) == len(phantoms[0])
    assert_same(uids(phantoms[0]), uids(landing))


def test_an_archive_that_gives_three_results_whatever_it_is_asked_for_is_asked_for_the_rest(
    proxy: Proxy, orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])

    def three(asked: Asked) -> None:
        if "limit" in asked.query:
            asked.query["limit"] = "3"

    proxy.before = three
    assert ask(proxy.url, landing).delivered == 1
    assert_same(uids(phantoms[0]), uids(landing))


def test_a_list_that_ends_too_early_and_has_no_more_pages_is_never_the_whole(
    proxy: Proxy, orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])

    def first_three(asked: Asked, answer: Answer) -> None:
        if asked.lists_instances:
            answer.change_json(lambda content: content[:3] if asked.query.get("offset") == "0" else [])

    proxy.after = first_three
    for _ in range(4):
        done = ask(proxy.url, landing)
        assert done.short == 1
        assert not done.delivered
    assert arrivals(landing) == []
    assert re.search(r"series [0-9a-f]{24}: announces \d+, lists 3, ", done.examples[0])
    proxy.after = lambda asked, answer: None
    assert ask(proxy.url, landing).delivered == 1
    assert_same(uids(phantoms[0]), uids(landing))


def test_a_list_of_series_that_ends_too_early_is_never_the_whole(
    proxy: Proxy, orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])

    def one_series(asked: Asked, answer: Answer) -> None:
        if asked.lists_series:
            answer.change_json(lambda content: content[:1] if asked.query.get("offset") == "0" else [])

    proxy.after = one_series
    done = ask(proxy.url, landing)
    assert (done.short, arrivals(landing)) == (1, [])
    assert "all its series" in done.examples[0]


def test_an_archive_that_passes_over_pages_is_told_of(
    proxy: Proxy, orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])

    def no_pages(asked: Asked) -> None:
        asked.query.pop("offset", None)

    proxy.before = no_pages
    done = ask(proxy.url, landing)
    assert done.delivered == 1  # all that it lists has been counted
    assert "same results on every page" in done.problem


@pytest.mark.parametrize("wrong", [+2, -2])
def test_counts_that_lie_hold_a_study_back_until_they_agree(
    wrong: int, proxy: Proxy, orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])

    def lie(asked: Asked, answer: Answer) -> None:
        def change(content: list[dict[str, Any]]) -> None:
            for one in content:
                one["00201209"]["Value"][0] += wrong

        if asked.lists_series:
            answer.change_json(change)

    proxy.after = lie
    done = ask(proxy.url, landing)
    assert (done.short, done.delivered, arrivals(landing)) == (1, 0, [])
    if wrong > 0:  # somebody says that they are known to be wrong
        assert ask(proxy.url, landing, numbers="pass_over").delivered == 1
    else:
        proxy.after = lambda asked, answer: None
        assert ask(proxy.url, landing).delivered == 1


def test_counts_that_an_archive_does_not_give_are_those_of_its_list(
    proxy: Proxy, orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])

    def silent(asked: Asked, answer: Answer) -> None:
        def change(content: list[dict[str, Any]]) -> None:
            for one in content:
                for tag in ("00201206", "00201208", "00201209"):
                    one.pop(tag, None)

        if not asked.is_retrieval:
            answer.change_json(change)

    proxy.after = silent
    assert ask(proxy.url, landing).delivered == 1
    assert ask(proxy.url, landing).is_sound
    assert_same(uids(phantoms[0]), uids(landing))


def test_instances_that_come_twice_are_there_once(
    proxy: Proxy, orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])

    def double(asked: Asked, answer: Answer) -> None:
        if answer.kind.startswith("multipart"):
            boundary = re.search(r'boundary="?([^";]+)', answer.kind)
            assert boundary is not None
            mark = b"--" + boundary[1].encode()
            parts = answer.body.split(mark)[1:-1]
            answer.body = b"".join(mark + part for part in parts for _ in range(2)) + mark + b"--"

    proxy.after = double
    done = ask(proxy.url, landing)
    assert done.delivered == 1
    assert done.duplicates > 0
    assert_same(uids(phantoms[0]), uids(landing))


def test_an_archive_that_is_killed_and_comes_back_is_asked_for_the_rest(
    orthanc: Orthanc, proxy: Proxy, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])

    def kill(asked: Asked) -> None:
        if asked.is_retrieval and orthanc.process is not None and len(proxy.seen) > 6:
            orthanc.stop(signal.SIGKILL)

    proxy.before = kill
    done = ask(proxy.url, landing)
    assert done.problem
    assert arrivals(landing) == []
    assert ask(proxy.url, landing).problem  # still down: that is told, and nothing is made of it
    proxy.before = lambda asked: None
    orthanc.start()
    done = ask(proxy.url, landing)
    assert (done.delivered, done.problem) == (1, "")
    assert_same(uids(phantoms[0]), uids(landing))


def test_an_archive_that_gives_no_answer_is_given_up_for_this_time(
    orthanc: Orthanc, proxy: Proxy, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])
    proxy.before = lambda asked: time.sleep(3) if asked.is_retrieval else None
    done = ask(proxy.url, landing, timeout_s=0.5)
    assert "no answer" in done.problem
    assert not done.delivered
    proxy.before = lambda asked: None
    assert ask(proxy.url, landing).delivered == 1


def test_a_study_that_grows_gives_only_what_is_new_and_its_arrival_is_never_seen_in_between(
    orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    files = phantoms[0]
    orthanc.add(files[:-5])
    assert ask(orthanc.url, landing).delivered == 1
    (arrival,) = arrivals(landing)
    (arrival / "participants.tsv").write_text("participant_id\n", encoding="utf-8")
    inodes = {path.name: path.stat().st_ino for path in arrival.rglob("*.dcm")}
    orthanc.add(files[-5:])
    stop, seen = threading.Event(), set()

    def watch() -> None:
        while not stop.is_set():
            try:
                seen.add(sum(1 for _ in arrival.rglob("*.dcm")))
            except OSError:
                continue  # it was exchanged while we looked

    watcher = threading.Thread(target=watch)
    watcher.start()
    done = ask(orthanc.url, landing)
    stop.set()
    watcher.join()
    assert (done.delivered, done.fetched) == (1, 5)
    assert arrivals(landing) == [arrival]
    assert_same(uids(files), uids(landing))
    now = {path.name: path.stat().st_ino for path in arrival.rglob("*.dcm")}
    assert {name: now[name] for name in inodes} == inodes  # the old ones are the same files
    assert (arrival / "participants.tsv").is_file()  # what others put there stays


def test_a_study_that_may_still_be_coming_in_there_waits(
    orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    files, now = phantoms[0], [1000.0]
    source = SourceConfig(url=orthanc.url, quiet_period_s=100)

    def look() -> SourcePass:
        return fetch("pacs", source, landing, clock=lambda: now[0])

    orthanc.add(files[:10])
    first = look()
    assert (first.settling, first.delivered, first.wait_s) == (1, 0, 100)
    now[0] += 60
    orthanc.add(files[10:])
    assert look().delivered == 0
    now[0] += 60
    assert look().delivered == 0  # quiet for 60 s only
    now[0] += 41
    assert look().delivered == 1
    assert_same(uids(files), uids(landing))


def test_what_the_archive_deletes_later_stays_and_is_told(
    orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    known = orthanc.add(phantoms[0])
    ask(orthanc.url, landing)
    orthanc.remove(known[0]["ID"])
    done = ask(orthanc.url, landing)
    assert (done.withdrawn, done.short) == (1, 0)
    assert_same(uids(phantoms[0]), uids(landing))


def test_an_arrival_that_was_taken_away_is_not_fetched_again(
    orthanc: Orthanc, landing: Path, phantoms: list[list[Path]], tmp_path: Path
) -> None:
    orthanc.add(phantoms[0])
    ask(orthanc.url, landing)
    arrivals(landing)[0].rename(tmp_path / "elsewhere")
    assert ask(orthanc.url, landing).fetched == 0
    assert arrivals(landing) == []


def test_only_what_the_query_asks_for_comes(
    orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add([*phantoms[0], *phantoms[1]])
    person = uids(phantoms[1])
    patient = str(next(iter(person.values())).PatientID)
    done = ask(orthanc.url, landing, query={"Modality": ["CT", "PT"], "PatientID": patient})
    assert done.delivered == 1
    wanted = {uid: one for uid, one in person.items() if one.Modality in ("CT", "PT")}
    assert_same(wanted, uids(landing))


def test_some_studies_at_once_and_the_next_pass_goes_on(
    orthanc: Orthanc, landing: Path, phantoms: list[list[Path]]
) -> None:
    orthanc.add([*phantoms[0], *phantoms[1]])
    first = ask(orthanc.url, landing, studies_at_once=1)
    assert (first.delivered, first.left) == (1, 1)
    second = ask(orthanc.url, landing, studies_at_once=1)
    assert (second.delivered, second.left) == (1, 0)


def test_a_fetch_that_is_killed_goes_on_and_nothing_is_delivered_in_part(
    orthanc: Orthanc, proxy: Proxy, landing: Path, phantoms: list[list[Path]], tmp_path: Path
) -> None:
    orthanc.add([*phantoms[0], *phantoms[1]])
    everything = uids([*phantoms[0], *phantoms[1]])
    by_study: dict[str, set[str]] = {}
    for uid, one in everything.items():
        by_study.setdefault(f"pacs-{uid_token(str(one.StudyInstanceUID))}", set()).add(uid)
    proxy.before = lambda asked: time.sleep(0.02)
    (tmp_path / "dataset.yaml").write_text(
        f"sources: {{pacs: {{url: '{proxy.url}', quiet_period_s: 0}}}}\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "radiobject_assets.cli", "fetch", "--dataset", "dataset.yaml"]
    fetched = 0
    for number in (3, 7, 11):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
        until = len(proxy.seen) + 4 + 3 * number
        while process.poll() is None and len(proxy.seen) < until:
            time.sleep(0.01)
        process.kill()
        process.wait()
        for arrival in arrivals(landing):
            assert uids(arrival).keys() == by_study[arrival.name]
        fetched = max(fetched, len(list((landing / ".archives").rglob("[0-9a-f]*.dcm"))))
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert fetched > 0
    assert_same(everything, uids(landing))
    assert not list((landing / ".archives").rglob("[0-9a-f]*.dcm"))


def test_a_password_is_taken_from_the_environment_and_told_to_nobody(
    landing: Path, phantoms: list[list[Path]], monkeypatch: pytest.MonkeyPatch, orthanc: Orthanc
) -> None:
    orthanc.stop()
    orthanc.settings = {"AuthenticationEnabled": True, "RegisteredUsers": {"reader": "open sesame"}}
    orthanc.start()
    names = {"username_env": "PACS_USER", "password_env": "PACS_PASSWORD"}
    monkeypatch.setenv("PACS_USER", "reader")
    monkeypatch.delenv("PACS_PASSWORD", raising=False)
    with pytest.raises(ConfigurationError, match="PACS_PASSWORD"):
        ask(orthanc.url, landing, **names)
    monkeypatch.setenv("PACS_PASSWORD", "wrong guess")
    done = ask(orthanc.url, landing, **names)
    assert "does not let us in" in done.problem
    assert "wrong" not in done.sentence()
    monkeypatch.setenv("PACS_PASSWORD", "open sesame")
    assert ask(orthanc.url, landing, **names).problem == ""


def test_an_instance_that_is_not_what_was_asked_for_is_not_received(
    orthanc: Orthanc, proxy: Proxy, landing: Path, phantoms: list[list[Path]]
) -> None:
    """An archive that renumbers what it sends, or sends another's."""
    orthanc.add(phantoms[0])
    uid = str(pydicom.dcmread(phantoms[0][0]).StudyInstanceUID).encode()

    def other(asked: Asked, answer: Answer) -> None:
        if asked.is_retrieval:
            answer.body = answer.body.replace(uid, uid[:-1] + (b"1" if uid[-1:] != b"1" else b"2"))

    proxy.after = other
    done = ask(proxy.url, landing)
    assert (done.fetched, done.short, arrivals(landing)) == (0, 1, [])
