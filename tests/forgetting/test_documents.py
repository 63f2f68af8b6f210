"""A person is taken out of every table and document, and nobody else is."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from radiobject_assets.doctor.snapshot_mends import move_aside
from radiobject_assets.errors import StorageError
from radiobject_assets.forgetting.documents import clear_documents, documents_with
from radiobject_assets.forgetting.traces import Traces
from radiobject_assets.store import open_storage

UID = "1.2.840.1.7"


def traces(subject: str = "sub-1") -> Traces:
    volumes = {f"{subject}_ct_0a1b2c3d"}
    return Traces(lambda one: one == subject, {subject}, volumes, {UID, "4f3e2d1c0b"})


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        ("sub-1", True), ("a/sub-1/b.nii", True), ("sub-1_T1w.nii.gz", True), ("['sub-1', 'x']", True),
        ("sub-10", False), ("sub-1-2", False), ("xsub-1", False), ("my-sub-1", False),
        (UID, True), (f"({UID})", True), (f"{UID}.3", False), (f"9{UID}", False), ("4f3e2d1c0b", True),
    ],
)  # fmt: skip
def test_an_id_within_another_is_another(text: str, is_there: bool) -> None:
    assert traces().in_text(text) == is_there


def test_an_id_of_few_letters_is_looked_for_where_ids_are_alone() -> None:
    short = Traces(lambda one: one == "12", {"12"})
    assert not short.in_text("12 slices of 12 mm")
    assert short.in_value({"subject_id": "12"})
    assert short.in_value(["12"])
    assert not short.in_value({"slices": 12, "text": "12 slices"})


def test_rows_entries_lines_and_files_go_and_the_others_stay(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"who": ["sub-1", "sub-10", "sub-2"], "sources": [[UID], ["1.2.840.1.70"], [UID]], "n": [1, 2, 3]}
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    entries = [
        {"labels": {"subject_id": one, "files": [f"/in/{one}.dcm"]}, "tried": ""}
        for one in ("sub-1", "sub-2")
    ]
    (tmp_path / "waiting.json").write_text(json.dumps({"format": 1, "waiting": entries}))
    by_name = {"sub-1": {"split": "train"}, "sub-2": {"split": "test"}}
    document = {"subjects": by_name, "train": ["sub-1", "sub-3"], "counts": {"ct": 3}}
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    (tmp_path / "list.tsv").write_text("id\tage\nsub-1\t4\nsub-10\t5\n")
    (tmp_path / "sheet.html").write_text("<p>sub-1</p>")
    (tmp_path / "other.html").write_text("<p>sub-10</p>")
    storage = open_storage(str(tmp_path), None)
    named = ["list.tsv", "manifest.json", "rows.parquet", "sheet.html", "waiting.json"]
    assert sorted(documents_with(storage, traces())) == named
    assert clear_documents(storage, traces()) == 5
    assert list(pd.read_parquet(tmp_path / "rows.parquet")["who"]) == ["sub-10"]
    assert json.loads((tmp_path / "waiting.json").read_text())["waiting"] == entries[1:]
    assert json.loads((tmp_path / "manifest.json").read_text()) == {
        "subjects": {"sub-2": {"split": "test"}}, "train": ["sub-3"], "counts": {"ct": 3},
    }  # fmt: skip
    assert (tmp_path / "list.tsv").read_text() == "id\tage\nsub-10\t5\n"
    assert not (tmp_path / "sheet.html").exists()
    assert (tmp_path / "other.html").exists()
    assert clear_documents(storage, traces()) == 0


def test_a_torn_table_goes_where_it_was_set_aside_and_is_told_elsewhere(tmp_path: Path) -> None:
    place = tmp_path / "arrivals" / "a-1"
    place.mkdir(parents=True)
    pd.DataFrame({"obs_subject_id": ["sub-1", "sub-2"]}).to_parquet(place / "series.parquet")
    content = (place / "series.parquet").read_bytes()
    (place / "series.parquet").write_bytes(content[:-20])
    storage = open_storage(str(tmp_path), None)
    with pytest.raises(StorageError, match=r"doctor STORE --dataset dataset\.yaml --fix"):
        clear_documents(storage, traces())
    with pytest.raises(StorageError, match=r"a-1/series\.parquet can't be read"):
        list(documents_with(storage, traces()))
    move_aside(storage, "arrivals/a-1/series.parquet")
    assert list(documents_with(storage, traces())) == []  # nobody can tell
    assert clear_documents(storage, traces()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"sub-1" in path.read_bytes()]
