"""Forgetting a person: nothing of them is left in any byte, and everybody else's history stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from house import Home, digests_without, make_home, places_of, put_back, traces_of

from radiobject_assets.forgetting.forget import forget, would_go
from radiobject_assets.store import RadiObject, create_snapshot, forgetting_key, list_snapshots


@pytest.fixture(scope="module", params=["plain", "pseudonyms"])
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Home]:
    import os

    os.environ["RADIOBJECT_PSEUDONYM_KEY"] = "correct-horse-battery-staple"
    folder = tmp_path_factory.mktemp("forgetting")
    home = make_home(folder / "home", pseudonyms=request.param == "pseudonyms")
    create_snapshot(home.store, "named")
    shutil.copytree(home.path, folder / "pristine")
    return folder / "pristine", home


@pytest.fixture
def home(pristine: tuple[Path, Home], monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("RADIOBJECT_PSEUDONYM_KEY", "correct-horse-battery-staple")
    put_back(*pristine)
    return pristine[1]


def mark_of(home: Home, subject: str) -> str:
    return forgetting_key(home.store).mark(subject)


def test_nothing_of_a_person_is_left_and_everybody_else_stays(home: Home) -> None:
    subject, *others = home.subjects()
    texts, pieces = traces_of(home, subject)
    assert len(pieces) > 20
    assert {Path(name).parts[0] for name in places_of(home, texts, pieces)} >= {"store", "work"}
    before = digests_without(home, subject)
    with home.house() as house:
        told = would_go(house, mark_of(home, subject))
        assert told.volumes > 0
        assert told.runs > 0
        assert home.subjects() == [subject, *others]
        done = forget(house, mark_of(home, subject))
        assert done.volumes == told.volumes
    assert places_of(home, texts, pieces) == set()
    assert home.subjects() == others
    assert digests_without(home, subject) == before
    assert {s.name for s in list_snapshots(home.store)} >= {"named", "snapshot-0001"}
    # the files are still in the landing zone: another pass takes in nothing of theirs
    assert not home.run().failed
    assert places_of(home, texts, pieces) == set()
    assert home.subjects() == others
