"""Archives that fail in one study, are silent, or forget: nothing is lost or blocked without a word."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from radiobject_assets.archives.deliveries import Delivery, uid_token
from radiobject_assets.archives.fetching import fetch
from radiobject_assets.archives.open_studies import open_studies
from radiobject_assets.archives.source_pass import SourcePass
from radiobject_assets.archives.study_notes import read_last_pass
from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.dataset.source_section import SourceConfig
from radiobject_assets.diagnostics.arrival_rules import archives_sent_all
from radiobject_assets.errors import ConfigurationError
from tests.archives.conftest import arrivals, assert_same, uids
from tests.archives.faulty_proxy import Answer, Asked, Proxy, faulty_proxy
from tests.archives.orthanc import Orthanc

DAY_S = 24 * 3600.0


@pytest.fixture
def proxy(orthanc: Orthanc) -> Iterator[Proxy]:
    with faulty_proxy(orthanc.url) as one:
        yield one


class Source:
    """A source whose clock the test sets."""

    def __init__(self, url: str, landing: Path, **settings: Any) -> None:
        self.config = SourceConfig(url=url, **{"quiet_period_s": 0, **settings})
        self.landing, self.now_s = landing, 1e9

    def ask(self, later_s: float = 60.0, **settings: Any) -> SourcePass:
        self.now_s += later_s
        return fetch("pacs", self.config.model_copy(update=settings), self.landing, clock=lambda: self.now_s)

    @property
    def settings(self) -> DatasetSettings:
        path = self.landing.parent / "dataset.yaml"
        path.write_text(json.dumps({"sources": {"pacs": {"url": self.config.url}}}), encoding="utf-8")
        return load_dataset(path)

    def told(self) -> list[str]:
        report = archives_sent_all(open_studies(self.settings, self.now_s))
        return [one.kind.code for one in report.findings]


@pytest.fixture
def source(proxy: Proxy, landing: Path) -> Source:
    return Source(proxy.url, landing)


def copies(files: list[Path], folder: Path, number: int) -> list[Path]:
    """So many studies of one image each."""
    folder.mkdir()
    for n in range(number):
        one = pydicom.dcmread(files[0])
        one.StudyInstanceUID, one.SeriesInstanceUID = f"1.2.{n + 1}", f"1.2.{n + 1}.1"
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.{n + 1}.1.1"
        one.save_as(folder / f"{n}.dcm")
    return sorted(folder.iterdir())


def silent_about_numbers(asked: Asked, answer: Answer) -> None:
    def change(content: list[dict[str, Any]]) -> None:
        for one in content:
            for tag in ("00201206", "00201208", "00201209"):
                one.pop(tag, None)

    if not asked.is_retrieval and answer.status == 200:
        answer.change_json(change)


@pytest.mark.parametrize("secret", ["key\n", " key", "ke\x00y"])
def test_a_token_that_no_header_can_have_is_never_said(
    secret: str, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", {"PACS_TOKEN": secret})
    with pytest.raises(ConfigurationError, match="PACS_TOKEN") as caught:
        Source("http://127.0.0.1:9/", landing, token_env="PACS_TOKEN").ask()
    assert secret.strip() not in str(caught.value)


def test_studies_whose_listing_fails_hold_up_no_other(
    source: Source, proxy: Proxy, orthanc: Orthanc, phantoms: list[list[Path]], tmp_path: Path
) -> None:
    orthanc.add(copies(phantoms[0], tmp_path / "few", 5))
    source.ask(quiet_period_s=1000)
    bad = [f"1.2.{n}" for n in (1, 2, 3)]

    def page(asked: Asked, answer: Answer) -> None:
        if asked.lists_series and asked.path.split("/")[-2] in bad:
            answer.body = b"<html>log in</html>"

    proxy.after = page
    passes = [source.ask(2000) for _ in range(3)]
    assert all("an answer can't be read" in one.problem for one in passes)
    assert "None" not in str(read_last_pass(source.landing, "pacs")["problem"])
    assert {one.name for one in arrivals(source.landing)} == {f"pacs-{uid_token(f'1.2.{n}')}" for n in (4, 5)}
    assert "archive_silent" in source.told()
    proxy.after = lambda asked, answer: None
    assert source.ask().delivered == 3
    assert source.told() == []


def test_a_study_that_can_not_be_delivered_holds_up_no_other(
    source: Source, orthanc: Orthanc, phantoms: list[list[Path]], tmp_path: Path
) -> None:
    orthanc.add(copies(phantoms[0], tmp_path / "few", 3))
    in_the_way = source.landing / f"pacs-{uid_token('1.2.1')}"
    in_the_way.mkdir()
    (in_the_way / uid_token("1.2.1.1")).write_bytes(b"a file where the series' folder goes")
    with pytest.raises(OSError):
        source.ask()
    assert len(list(source.landing.glob("pacs-*/_COMPLETE"))) == 2
    shutil.rmtree(in_the_way)
    assert source.ask().delivered == 1


def test_what_is_delivered_is_not_asked_about_in_every_pass_where_no_number_is_told(
    source: Source, proxy: Proxy, orthanc: Orthanc, phantoms: list[list[Path]], tmp_path: Path
) -> None:
    orthanc.add(copies(phantoms[0], tmp_path / "few", 3))
    proxy.after = silent_about_numbers
    assert [source.ask(1, studies_at_once=2).left for _ in range(3)] == [1, 0, 0]
    before = proxy.count(lambda asked: asked.lists_series)
    source.ask(1)
    assert proxy.count(lambda asked: asked.lists_series) == before
    source.ask(1000)
    assert proxy.count(lambda asked: asked.lists_series) > before


def test_what_stays_short_is_asked_for_once_by_one_command(
    source: Source, proxy: Proxy, orthanc: Orthanc, phantoms: list[list[Path]], tmp_path: Path
) -> None:
    orthanc.add(copies(phantoms[0], tmp_path / "few", 3))

    def none(asked: Asked, answer: Answer) -> None:
        if asked.lists_instances:
            answer.change_json(lambda content: [])

    proxy.after = none
    began_s, left = time.time(), []
    for _ in range(3):
        config = source.config.model_copy(update={"studies_at_once": 2})
        left.append(fetch("pacs", config, source.landing, anew_since_s=began_s).left)
    assert left == [1, 0, 0]
    before = len(proxy.seen)
    assert fetch("pacs", source.config, source.landing, anew_since_s=began_s).short == 3
    assert len(proxy.seen) - before <= 2  # the list of studies alone


def test_a_study_that_the_query_no_longer_lists_is_asked_for_by_its_uid(
    source: Source, proxy: Proxy, orthanc: Orthanc, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])
    assert source.ask(quiet_period_s=1000).settling == 1

    def of_today(asked: Asked, answer: Answer) -> None:
        if asked.path.endswith("/studies") and "StudyInstanceUID" not in asked.query:
            answer.change_json(lambda content: [])

    proxy.after = of_today
    assert source.ask(2000, quiet_period_s=1000).delivered == 1
    assert_same(uids(phantoms[0]), uids(source.landing))


def test_a_study_that_the_archive_deletes_while_it_waits_is_told_until_it_is_back(
    source: Source, orthanc: Orthanc, phantoms: list[list[Path]]
) -> None:
    known = orthanc.add(phantoms[0])
    source.ask(quiet_period_s=1000)
    for one in known:
        orthanc.remove(one["ID"])
    for _ in range(2):
        done = source.ask(2000, quiet_period_s=1000)
        assert (done.left_query, done.delivered, done.is_sound) == (1, 0, False)
        assert "left the query" in done.sentence()
        assert source.told() == ["study_left_query"]
    assert arrivals(source.landing) == []
    orthanc.add(phantoms[0])
    assert source.ask(2000, quiet_period_s=1000).delivered == 1
    assert source.told() == []


def test_a_swap_that_was_killed_is_finished_though_the_archive_no_longer_has_the_study(
    source: Source, orthanc: Orthanc, phantoms: list[list[Path]]
) -> None:
    known = orthanc.add(phantoms[0])
    source.ask()
    (arrival,) = arrivals(source.landing)
    for one in known:
        orthanc.remove(one["ID"])
    # as `Delivery.deliver` leaves it between its two renames
    arrival.rename(source.landing / ".archives" / "pacs" / f"{arrival.name.removeprefix('pacs-')}.last")
    source.ask()
    assert_same(uids(phantoms[0]), uids(source.landing))


def test_an_attribute_of_series_that_the_archive_does_not_list_is_read_from_an_instance(
    source: Source, proxy: Proxy, orthanc: Orthanc, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])

    def untold(asked: Asked, answer: Answer) -> None:
        if asked.lists_series:
            answer.change_json(
                lambda content: [{k: v for k, v in one.items() if k != "00080060"} for one in content]
            )
        if asked.path.endswith("/metadata") and is_mute:
            answer.status = 404

    proxy.after, is_mute = untold, True
    done = source.ask(query={"Modality": "CT"})
    assert "does not list Modality" in done.problem
    assert arrivals(source.landing) == []
    is_mute = False
    assert source.ask(query={"Modality": "CT"}).delivered == 1
    wanted = {uid: one for uid, one in uids(phantoms[0]).items() if one.Modality == "CT"}
    assert wanted
    assert_same(wanted, uids(source.landing))


def test_a_bracket_in_a_query_is_a_bracket(
    source: Source, orthanc: Orthanc, phantoms: list[list[Path]], tmp_path: Path
) -> None:
    for n, file in enumerate(copies(phantoms[0], tmp_path / "few", 2)):
        one = pydicom.dcmread(file)
        one.SeriesDescription = ("HEAD [1]", "HEAD 1")[n]
        one.save_as(file)
        orthanc.add([file])
    source.ask(query={"SeriesDescription": "HEAD [1]*"})
    assert {str(one.SeriesDescription) for one in uids(source.landing).values()} == {"HEAD [1]"}


def test_an_archive_that_is_not_asked_any_more_is_told_of(source: Source, orthanc: Orthanc) -> None:
    source.ask()
    assert source.told() == []
    source.now_s += 4000
    assert source.told() == ["archive_silent"]


@pytest.mark.parametrize("kept", [0, 1])
def test_what_was_taken_away_does_not_come_again_whatever_the_archive_loses_or_gets(
    kept: int, source: Source, orthanc: Orthanc, phantoms: list[list[Path]]
) -> None:
    files = phantoms[0]
    known = orthanc.add(files[:-2])
    source.ask()
    (arrival,) = arrivals(source.landing)
    for file in sorted(arrival.rglob("*.dcm"))[kept:]:
        file.unlink()
    if not kept:
        shutil.rmtree(arrival)
    for change in (lambda: None, lambda: orthanc.remove(known[0]["ID"])):
        change()
        done = source.ask(DAY_S + 1)
        assert (done.fetched, done.short, done.problem) == (0, 0, "")
        assert len(uids(source.landing)) == kept
    orthanc.add(files[-2:])
    assert source.ask(DAY_S + 1).fetched == 2
    assert len(uids(source.landing)) == kept + 2


def test_a_series_that_the_query_no_longer_wants_is_not_delivered_in_part(
    source: Source, proxy: Proxy, orthanc: Orthanc, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])
    source.ask(quiet_period_s=1000)
    part = {uid for uid, one in uids(phantoms[0]).items() if one.Modality == "CT"}
    source.ask(2000, query={"Modality": "CT"})
    source.ask(2000, query={"Modality": "CT"})
    assert uids(source.landing).keys() == part


def test_an_arrival_whose_last_step_was_killed_is_marked(
    source: Source, proxy: Proxy, orthanc: Orthanc, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])
    source.ask(quiet_period_s=1000)
    token = uid_token(str(pydicom.dcmread(phantoms[0][0]).StudyInstanceUID))
    delivery = Delivery(source.landing, "pacs", token)
    delivery.deliver()
    (delivery.visible / "_COMPLETE").unlink()
    source.ask(2000)
    assert (delivery.visible / "_COMPLETE").is_file()
