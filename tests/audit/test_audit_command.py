"""The command: what a person sees, JSON, the page, exit codes, and nobody's name where none may be."""

from __future__ import annotations

import hashlib
import html.parser
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

from radiobject_assets.cli.commands import app
from radiobject_assets.diagnostics.findings_document import SCHEMA
from tests.audit.cohorts import body, dicom_dump, nnunet, organs, save, write_ct

_CANARY = "Kowalczyk"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nnU-Net folder that is full of a person's name, and wrong in several ways."""
    at = tmp_path_factory.mktemp("home") / f"{_CANARY}_Barbara"
    nnunet(at)
    shutil.copy(at / "imagesTr/trunk_003_0000.nii.gz", at / f"imagesTs/{_CANARY}_Barbara_0000.nii.gz")
    shutil.copy(at / "imagesTr/trunk_003_0001.nii.gz", at / f"imagesTs/{_CANARY}_Barbara_0001.nii.gz")
    save(at / "labelsTr/trunk_004.nii.gz", organs(4)[2:], descrip=f"{_CANARY}^Barbara")
    save(at / f"extra/sub-{_CANARY}_{_CANARY}.nii.gz", np.full((9, 9, 9), np.nan, np.float32))
    (at / f"imagesTr/{_CANARY}.nii.gz").write_bytes(b"")
    (at / "labelsTr/trunk_004.json").write_text(json.dumps({f"{_CANARY}": f"{_CANARY}^Barbara"}))
    write_ct(at / f"dicom/{_CANARY}", 3, PatientName=f"{_CANARY}^Barbara", SeriesDescription=_CANARY)
    (at / f"dicom/{_CANARY}/I0004").unlink()
    return at


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["audit", *arguments])


def _digest(folder: Path) -> str:
    told = [(path.relative_to(folder), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def test_the_document_fits_the_schema_and_the_folder_stays_as_it_was(folder: Path) -> None:
    before = _digest(folder)
    done = _run(str(folder), "--json")
    assert done.exit_code == 1, done.output
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert {"image_in_two_splits", "labels_shape", "image_not_finite", "header_identifiers"} <= set(
        document["totals"]
    )
    assert document["contents"]["layout"] == "nnunet"
    named = {one["kind"]: one["where"] for one in document["findings"]}
    assert named["labels_shape"] == "labelsTr/trunk_004.nii.gz; imagesTr/trunk_004_0000.nii.gz"
    assert _digest(folder) == before


class _Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


def test_the_page_stands_alone_and_has_pictures_of_what_is_named(folder: Path, tmp_path: Path) -> None:
    done = _run(str(folder), "--html", str(tmp_path / "audit.html"))
    assert done.exit_code == 1, done.output
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert "script" not in page.tags
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "url(" not in text
    assert "labelsTr/trunk_004.nii.gz" in text
    assert "labels have another shape than their image" in done.stdout


def test_without_paths_neither_text_nor_page_nor_document_names_anybody(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = _run(str(folder), "--no-paths")
    document = _run(str(folder), "--no-paths", "--json")
    assert (tmp_path / "audit.html").is_file()
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    for text in (told.output, document.output, page):
        assert _CANARY.lower() not in text.lower()
        assert "barbara" not in text.lower()
        assert "imagesTs/" not in text
    with_paths = _run(str(folder), "--json")
    assert _CANARY in with_paths.stdout
    # the owner finds what a token means
    tokens = {one["about"] for one in json.loads(document.stdout)["findings"]}
    assert tokens == {one["about"] for one in json.loads(with_paths.stdout)["findings"]}


def test_what_has_no_paths_has_no_digest_of_a_persons_number_or_name(tmp_path: Path) -> None:
    for number, name in enumerate(("one", "two"), 1):
        write_ct(tmp_path / f"data/{_CANARY}_{name}/S1", number, PatientName=f"{_CANARY}^Barbara")
    document = _run(str(tmp_path / "data"), "--no-paths", "--json").stdout
    about = sorted(one["about"] for one in json.loads(document)["findings"])
    assert about == ["name 1", "name 2", "person 1", "person 2"]


def test_what_labels_could_lie_on_is_told_without_words_of_names(tmp_path: Path) -> None:
    for case in ("01", "02", "03"):
        folder = tmp_path / f"data/sub-{case}/anat"
        for number, name in enumerate((f"acq-a_{_CANARY}", f"acq-b_{_CANARY}", "dseg")):
            voxels = np.random.default_rng(int(case) * 3 + number).integers(0, 2, (16, 16, 12))
            save(
                folder / f"sub-{case}_{name}.nii.gz", voxels.astype(np.uint8 if name == "dseg" else np.int16)
            )
    document = _run(str(tmp_path / "data"), "--no-paths", "--json").stdout
    assert "refused_reference_ambiguous" in {one["kind"] for one in json.loads(document)["findings"]}
    assert _CANARY.lower() not in document.lower()


def test_a_json_file_that_is_nested_too_deep_ends_no_audit(tmp_path: Path) -> None:
    dicom_dump(tmp_path / "data")
    (tmp_path / "data/notes.json").write_text('{"a":' * 3000 + "1" + "}" * 3000)
    done = _run(str(tmp_path / "data"), "--html", str(tmp_path / "audit.html"))
    assert done.exit_code == 0, done.output


def test_a_clean_folder_ends_with_0_and_what_is_no_folder_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dicom_dump(tmp_path / "data")
    done = _run(str(tmp_path / "data"))
    assert done.exit_code == 0, done.output
    assert "Nothing found" in done.stdout
    assert (tmp_path / "audit-data.html").is_file()
    assert _run(str(tmp_path / "data"), "--html", str(tmp_path / "data/x.html")).exit_code != 0
    assert not (tmp_path / "data/x.html").exists()
    for absent in (tmp_path / "nothing", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        error = _run(str(absent)).exception
        assert "name " in str(error)


def test_headers_alone_say_nothing_of_voxels(folder: Path) -> None:
    document = json.loads(_run(str(folder), "--json", "--headers-only").stdout)
    assert "labels_shape" in document["totals"]
    assert "image_in_two_splits" not in document["totals"]
    assert "image_not_finite" not in document["totals"]


def test_members_of_archives_are_judged_too(tmp_path: Path) -> None:
    dicom_dump(tmp_path / "data")
    save(
        tmp_path / "data/nii/one.nii.gz",
        np.full(body(1).shape, np.nan, np.float32),
        descrip=f"{_CANARY}^Barbara",
    )
    shutil.rmtree(tmp_path / "data/TR-03/S1")
    write_ct(tmp_path / "data/TR-03/S1", 3, PatientName=f"{_CANARY}^Barbara")
    (tmp_path / "data/TR-03").rename(tmp_path / f"data/{_CANARY}_Barbara")
    shutil.make_archive(str(tmp_path / "packed/all"), "zip", tmp_path / "data")
    found = json.loads(_run(str(tmp_path / "packed"), "--json").stdout)
    assert sorted(one["kind"] for one in found["findings"]) == [
        "header_identifiers", "image_not_finite", "name_identifiers", "text_identifiers",
    ]  # fmt: skip
