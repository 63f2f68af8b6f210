"""The data-set sheet: what it says, that it needs nothing else and names nobody."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from radiobject_assets.cli.commands import app
from radiobject_assets.curation.sheet import MOST_BYTES
from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.profiling.kept_profiles import keep_profiles, profiles_of, read_profiles
from radiobject_assets.store import RadiObject, create_snapshot, open_storage, upsert_subjects
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

DATASET = """\
name: phantoms
description: Phantom chests <with> lesions & more
collections:
  ct: {match: {modality: CT}}
  seg: {kind: labels, labels_of: ct, match: {modality: SEG}}
  t1w: {match: {files: "*_T1w.nii.gz"}}
patches: {image: ct, labels: seg, size_voxels: [16, 16, 16]}
"""
_VOID = {"meta", "img", "br", "line", "rect", "link"}


class Page(HTMLParser):
    """Tags that open and close each other, the text, and all that is fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.headings: list[str] = []
        self.fetched: list[str] = []
        self.images = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        assert tag != "script"
        links = [value or "" for name, value in attrs if name in ("src", "href")]
        self.fetched += [link for link in links if not link.startswith("data:")]
        if tag == "img":
            self.images += 1
            assert told["alt"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _VOID

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr", "thead", "li"):  # may be left open in HTML
            while self.open and self.open[-1] != tag:
                self.open.pop()
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sheet")
    make_cohort(home / "landing", subjects=4, seed=7, shape=(48, 48, 24))
    (home / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    settings = load_dataset(home / "dataset.yaml")
    create = {"budget": MemoryBudget(512), "compute": Compute(workers=1)}
    ingest_sources([home / "landing"], settings.store_uri, settings, **create)
    create_snapshot(settings.store_uri, "first")
    ids = RadiObject(settings.store_uri).obs_subject_ids
    splits = [["train", "validation", "test"][i % 3] for i in range(len(ids))]
    upsert_subjects(settings.store_uri, pd.DataFrame({"obs_subject_id": ids, "assigned_split": splits}))
    create_snapshot(settings.store_uri, "second")
    return home


def _sheet(home: Path, source: str, *options: str) -> str:
    out = home / "out.html"
    done = CliRunner().invoke(app, ["sheet", str(home / source), "-o", str(out), *options])
    assert done.exit_code == 0, done.output
    return out.read_text(encoding="utf-8")


@pytest.mark.parametrize("source", ["dataset.yaml", "store"])
def test_the_sheet_is_one_page_that_needs_nothing_and_names_nobody(home: Path, source: str) -> None:
    text = _sheet(home, source)
    page = Page(text)
    assert page.open == []
    assert page.fetched == []
    assert "http" not in re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]*", "", text)
    assert len(text.encode()) < MOST_BYTES
    assert page.images >= 4
    assert {"Checks", "What is in it", "Splits", "ct", "seg", "t1w"} <= {*page.headings}
    rows = read_inventory(str(home / "store"))
    for column in ("obs_subject_id", "obs_id", "series_uid", "study_uid", "source_digest"):
        for value in filter(None, rows[column].dropna().astype(str)):
            assert value not in text, column


def test_the_sheet_of_a_data_set_says_what_its_settings_say(home: Path) -> None:
    page = Page(_sheet(home, "dataset.yaml"))
    said = " ".join(" ".join(page.texts).split())
    assert "Phantom chests <with> lesions & more" in said
    assert "have no labels in seg" in said or "All images of ct have labels in seg" in said
    assert "Since first" in said or "Nothing since first" in said
    assert "images once" in said
    rows = read_inventory(str(home / "store"))
    assert f"{len(rows)} volumes" in said
    # kept for the next time
    assert list((home / "work" / "profile" / "ct").glob("*.parquet"))


def test_a_sheet_of_an_older_snapshot_leaves_the_profiles_of_newer_volumes(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    settings = load_dataset(tmp_path / "dataset.yaml")
    for seed, name in ((7, "first"), (8, "second")):
        make_cohort(tmp_path / name, subjects=1, seed=seed, shape=(48, 48, 24))
        ingest_sources(
            [tmp_path / name], settings.store_uri, settings,
            budget=MemoryBudget(512), compute=Compute(workers=1),
        )  # fmt: skip
        create_snapshot(settings.store_uri, name)
    _sheet(tmp_path, "dataset.yaml")
    kept = read_profiles(open_storage(str(tmp_path / "work"), None))
    assert len(kept) == len(read_inventory(settings.store_uri))
    assert len(kept) > len(read_inventory(settings.store_uri, snapshot="first")) > 0
    _sheet(tmp_path, "dataset.yaml", "--snapshot", "first")
    assert len(read_profiles(open_storage(str(tmp_path / "work"), None))) == len(kept)


def test_classes_have_the_voxels_and_millilitres_that_numpy_counts(home: Path) -> None:
    uri = str(home / "store")
    tables = open_storage(str(home / "tables"), None)
    rows = read_inventory(uri, collections=["seg"])
    keep_profiles(tables, uri, rows)
    found = profiles_of(tables, rows)
    assert len(found) == len(rows) > 0
    for index, row in rows.iterrows():
        volume = RadiObject(uri).collection("seg").loc[row["obs_id"]]
        values, counts = np.unique(volume.to_numpy(), return_counts=True)
        classes = json.loads(found.at[index, "classes"])
        assert {one["value"]: one["voxels"] for one in classes} == dict(
            zip(values[1:].tolist(), counts[1:].tolist(), strict=True)
        )
        ml = float(np.prod(volume.spacing_mm)) / 1000
        assert all(one["ml"] == pytest.approx(one["voxels"] * ml, abs=1e-5) for one in classes)
        assert all(one["name"] for one in classes)


def test_a_rare_scanner_is_not_named(tmp_path: Path) -> None:
    make_cohort(tmp_path / "d", subjects=2, seed=7, shape=(48, 48, 24))
    uri = str(tmp_path / "store")
    ingest_sources(
        [tmp_path / "d"], uri, DatasetSettings(), budget=MemoryBudget(512), compute=Compute(workers=1)
    )
    rows = read_inventory(uri, columns=["model_name"])
    text = _sheet(tmp_path, "store")
    assert str(rows["model_name"].dropna().iloc[0]) not in text
    assert "of fewer than 5 subjects" in text
