"""Several landing zones of one data set: keys, clashes, and what becomes of a zone that is not there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import IngestError
from radiobject_assets.landing.local_zone import Landing, arrival_key
from radiobject_assets.landing.watching import look
from radiobject_assets.platform.arrivals.arrival_table import ArrivalRow
from radiobject_assets.platform.arrivals.left_behind import LeftBehind, left_behind
from radiobject_assets.platform.arrivals.looking import look_at_landing
from radiobject_assets.platform.arrivals.reconciling import observe
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource

LATER = time.time() + 86_400


def zones(folder: Path, *places: str) -> Landing:
    settings = {"landing": list(places), "folder": folder, "arrivals": {"trusted_names": "[a-z]+"}}
    dataset = DatasetResource.of(DatasetSettings.model_validate(settings))
    return dataset.landing(StorageResource(memory=MemoryBudgetResource()))


def deliver(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "IM1").write_bytes(name.encode())


def test_a_second_zone_leaves_the_keys_of_the_first_as_they_were(tmp_path: Path) -> None:
    deliver(tmp_path / "in", "one", "Doe^Jane")
    alone = zones(tmp_path, "in")
    first = look(alone, {}, now_s=LATER)
    deliver(tmp_path / "more", "two", "Doe^Jane")
    both = zones(tmp_path, "in", "more")
    second = look(both, first.seen, now_s=LATER)
    assert set(first.settled) < set(second.settled)
    assert set(second.settled) - set(first.settled) == {"two", arrival_key("Doe^Jane", None, "more")}
    for key in second.settled:
        assert both.fetch(key).place.is_dir()
        assert both.held(key).place == both.find(key).place


def test_one_trusted_name_in_two_zones_is_said_and_neither_takes_the_others_place(tmp_path: Path) -> None:
    deliver(tmp_path / "in", "one", "two")
    (tmp_path / "more").mkdir()
    both = zones(tmp_path, "in", "more")
    first = look_at_landing(both, {}, now_s=LATER)
    assert sorted(first.settled) == ["one", "two"]
    deliver(tmp_path / "more", "two")
    second = look_at_landing(both, first.seen, now_s=LATER + 100)
    assert sorted(second.settled) == ["one"]
    assert "two" in second.present
    assert "two: several deliveries go by this key" in "; ".join(second.summary())
    with pytest.raises(IngestError, match="rename one of them"):
        both.fetch("two")
    (tmp_path / "more" / "two").rename(tmp_path / "more" / "three")
    third = look_at_landing(both, second.seen, now_s=LATER + 200)
    assert sorted(third.settled) == ["one", "three", "two"]


def test_what_several_deliveries_would_go_by_from_the_first_is_left_behind(tmp_path: Path) -> None:
    for place in ("in", "more"):
        deliver(tmp_path / place, "two")
    both = zones(tmp_path, "in", "more")

    def left(rows: Mapping[str, ArrivalRow], now_s: float) -> tuple[dict[str, ArrivalRow], LeftBehind]:
        seen = look_at_landing(both, {}, now_s=now_s)
        known = observe(rows, seen, settings="", images={}, partitions=(), now_s=now_s)
        return known, left_behind(known, now_s, (60.0,))

    rows, first = left({}, LATER)
    assert first.is_nothing  # it may be put right at once
    rows, later = left(rows, LATER + 90_000)
    assert not later.is_nothing
    assert "rename one of them" in later.advice()
    (tmp_path / "more" / "two").rename(tmp_path / "more" / "three")
    rows, last = left(rows, LATER + 180_000)
    assert last.is_nothing
    assert set(rows) == {"two", "three"}


def test_files_that_belong_to_no_arrival_are_counted_over_all_zones(tmp_path: Path) -> None:
    for place in ("in", "more"):
        deliver(tmp_path / place, f"of{place}")
        (tmp_path / place / "stray.dcm").write_bytes(b"x")
    assert zones(tmp_path, "in", "more").loose_files().kinds == {".dcm": 2}


def test_a_zone_that_is_not_there_is_named_and_no_arrival_counts_as_gone(tmp_path: Path) -> None:
    deliver(tmp_path / "in", "one")
    problem = zones(tmp_path, "in", "more").problem()
    assert str(tmp_path / "more") in problem
    assert str(tmp_path / "in") not in problem
