"""Names in several scripts, in everything that has a text: none in anything that the platform wrote."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import pandas as pd
import pydicom
import pytest
from planted import ASCII_WORD, SCRIPTS, SPELLED_UID, plant_scripts, written
from test_planted_identifiers import bytes_below, decoded

from radiobject_assets.cli.demo import DATASET_YAML
from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.headless import open_instance, run_pass
from tests.planted import said_complete

SECRET = "correct-horse-battery-staple"
CONFIDENTIAL = ("scan.parquet", "columns-left-out.txt")
"""Files of the work folder that name files or headings (docs/guide/privacy.md)."""


def hostile(landing: Path) -> list[Path]:
    """A folder and an archive with names in every text, in names of files, columns, keys and members."""
    made = []
    for number, name in enumerate((SCRIPTS[0], SCRIPTS[2]), start=1):
        make_subject(landing, number, arrival="late-001", shape=(48, 48, 24))
        folder = landing / name
        (landing / "late-001").rename(folder)
        plant_scripts(folder, patient_id=SCRIPTS[number])
        for path in list(folder.rglob("*.nii.gz")):
            image = nib.load(path)
            text = SCRIPTS[1].encode()[:20]
            image.header["descrip"] = image.header["aux_file"] = image.header["db_name"] = text[:16]
            image.header["intent_name"] = text[:14]
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", SCRIPTS[4].encode()))
            nib.save(image, path)
            sidecar = {word: word for word in SCRIPTS} | {"ProtocolName": SCRIPTS[3], "EchoTime": 0.003}
            path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
            path.rename(path.with_name(f"{SCRIPTS[0]}_T1w.nii.gz"))
        table = pd.read_csv(folder / "participants.tsv", sep="\t")
        for word in SCRIPTS:
            table[f"Name {word}"] = word
        table.to_csv(
            folder / "participants.tsv", sep="\t", index=False, encoding=("utf-8", "utf-16")[number - 1]
        )
        with zipfile.ZipFile(folder / f"{SCRIPTS[1]}.xlsx", "w") as book:
            book.writestr(f"xl/{SCRIPTS[1]}.xml", SCRIPTS[2])
        (folder / f"{SCRIPTS[4]}.txt").write_text(SCRIPTS[3])
        made.append(folder)
    archive = landing / f"{SCRIPTS[1]}.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(made[1].rglob("*")):
            packed.write(path, f"{SCRIPTS[3]}/{path.relative_to(made[1])}")
    shutil.rmtree(made[1])
    for delivery in (made[0], archive):
        said_complete(delivery)
    return [made[0], archive]


def places_of(folder: Path, needles: set[bytes]) -> set[str]:
    found = set()
    for path, data in bytes_below(folder):
        name = path.relative_to(folder).as_posix()
        if any(needle in data or needle in os.fsencode(name) for needle in needles):
            found.add(name)
    return found


def judged_by_dicognito(folder: Path) -> set[str]:
    """Texts that another tool holds for identifying: those that it changes in the same files."""
    from dicognito.anonymizer import Anonymizer

    judge = Anonymizer(seed="a")
    found: set[str] = set()
    for path in sorted(folder.rglob("*"))[::5]:
        with contextlib.suppress(pydicom.errors.InvalidDicomError, IsADirectoryError):
            before, after = (pydicom.dcmread(path, stop_before_pixels=True) for _ in range(2))
            judge.anonymize(after)
            told = (e for e in before if e.VR in ("PN", "LO", "SH", "LT", "ST", "UT", "UI") and e.value)
            for element in told:
                if element.tag not in after or after[element.tag].value != element.value:
                    found |= {str(v) for v in ([element.value] if element.VM < 2 else element.value)}
    return {text for text in found if len(text) >= 6}


@pytest.mark.slow
def test_no_name_of_any_script_is_in_anything_that_the_platform_wrote(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RADIOBJECT_PSEUDONYM_KEY", SECRET)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    yaml = DATASET_YAML.replace("subjects:\n", "subjects:\n  key: pseudonym\n  columns: [age, sex]\n")
    yaml += "attributes: [ProtocolName, SeriesDescription, SoftwareVersions, ReceiveCoilName]\n"
    (tmp_path / "dataset.yaml").write_text(yaml)
    folder, _ = hostile(tmp_path / "landing")
    judged = judged_by_dicognito(folder)
    assert len(judged) > 5
    needles = set().union(*map(written, (*SCRIPTS, SPELLED_UID, SECRET)), *map(written, judged))
    assert places_of(folder, needles)
    with caplog.at_level(logging.DEBUG):
        definitions = build_definitions(load_dataset(tmp_path / "dataset.yaml"))
        with open_instance(tmp_path / "dagster") as instance:
            done = run_pass(definitions, instance)
    assert [run.problem for run in done.runs if not run.succeeded] == []
    assert len(done.arrivals) == 1  # both share a run
    told = (caplog.text + "".join(capfd.readouterr()) + decoded(tmp_path / "store")).encode()
    assert not [needle for needle in needles if needle in told]
    for layout in ("nifti", "bids"):
        words = ("export", str(tmp_path / "store"), str(tmp_path / "exported" / layout), "--format", layout)
        said = subprocess.run(
            [sys.executable, "-m", "radiobject_assets.cli", *words], capture_output=True, check=True
        )
        assert not [needle for needle in needles if needle in said.stdout + said.stderr]
    for path in (tmp_path / "work").rglob("*"):
        if path.name in CONFIDENTIAL:
            path.unlink()
    for place in ("store", "work", "dagster", "exported", "temporary"):
        assert places_of(tmp_path / place, needles) == set(), place
    tables = [pd.read_parquet(path).to_csv().encode() for path in (tmp_path / "work").rglob("*.parquet")]
    assert len(tables) > 4
    assert not [needle for needle in needles for table in tables if needle in table]


def test_the_search_finds_a_name_in_every_encoding(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for start, encoding in enumerate(("utf-8", "utf-16-le", "utf-16-be")):
        for word in SCRIPTS:
            file.write_bytes(b"x" * start + word.encode(encoding))
            assert places_of(tmp_path, written(word)) == {"file"}
    file.write_text(json.dumps({"name": SCRIPTS[1]}))
    assert places_of(tmp_path, written(SCRIPTS[1])) == {"file"}
    file.write_text(ASCII_WORD.lower())
    assert places_of(tmp_path, set().union(*map(written, SCRIPTS))) == set()
