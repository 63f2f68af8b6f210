"""A word planted in every text of a data set is nowhere to be found after it was taken in."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import pandas as pd
import pyarrow as pa
import pydicom
import pytest
from planted import plant_in_files

from radiobject_assets.cli.demo import DATASET_YAML
from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.definitions import build_definitions
from radiobject_assets.imaging.dicom.terms import FREE
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from tests.planted import said_complete

WORD = "ZZPLANTEDZZ"
SECRET = "correct-horse-battery-staple"
COLLECTIONS = {
    "ct": {"match": {"modality": "CT"}},
    "seg": {"match": {"modality": "SEG"}, "kind": "labels", "labels_of": "ct"},
    "t1w": {"match": {"files": "*_T1w.nii.gz"}},
}


def hostile_arrival(landing: Path, *, patient_id: str | None) -> Path:
    """A phantom subject with the word in every DICOM and NIfTI text, in tables, file and folder names."""
    make_subject(landing, 1, arrival="late-001", shape=(48, 48, 24))
    folder = landing / f"{WORD}_Jane_1937"
    (landing / "late-001").rename(folder)
    assert plant_in_files(folder, lambda keyword: WORD, patient_id=patient_id) > 10_000
    for path in list(folder.rglob("*.nii.gz")):
        image = nib.load(path)
        image.header["descrip"], image.header["aux_file"] = WORD.encode(), WORD.encode()
        image.header["intent_name"], image.header["db_name"] = WORD.encode(), WORD.encode()
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", WORD.encode()))
        nib.save(image, path)
        sidecar = {"PatientName": WORD, "InstitutionName": WORD, "ProtocolName": WORD, "EchoTime": 0.003}
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    for heading in ("name", "PatientName", "Last Name", "address", "comments", "referring_physician"):
        table[heading] = WORD
    table["birth_date"] = "1937-09-11"
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    (folder / f"letter to {WORD}.txt").write_text(f"Dear {WORD}")
    for number, path in enumerate(sorted(folder.rglob("*"))[:20]):
        if path.is_file() and path.suffix == "" and not path.name.startswith("_"):
            path.rename(path.with_name(f"{WORD}^{number}"))
    said_complete(folder)
    return folder


def bytes_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file's bytes, unpacked as well where they are gzip or zstd."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        yield path, data
        if data[:2] == b"\x1f\x8b":
            yield path, gzip.decompress(data)
        start = data.find(b"\x28\xb5\x2f\xfd")
        while start >= 0:  # obs and its strings are stored compressed
            unpacked = bytearray()
            with contextlib.suppress(OSError):  # what follows the frame is none
                stream = pa.CompressedInputStream(pa.BufferReader(data[start:]), "zstd")
                while piece := stream.read(4096):
                    unpacked += piece
            yield path, bytes(unpacked)
            start = data.find(b"\x28\xb5\x2f\xfd", start + 1)


def places_of(folder: Path, *words: str) -> set[str]:
    found = set()
    for path, data in bytes_below(folder):
        for word in words:
            if word.encode() in data or word in path.relative_to(folder).as_posix():
                found.add(path.relative_to(folder).as_posix())
    return found


def decoded(store: Path) -> str:
    radi = RadiObject(str(store))
    parts = [radi.obs_meta.read().to_csv()]
    for name in radi.collection_names:
        collection = radi.collection(name)
        parts.append(collection.to_obs().to_csv())
        parts += [json.dumps([*volume.sources, volume.obs_id]) for volume in collection]
    return "\n".join(parts)


def test_the_search_finds_a_word_that_is_there(tmp_path: Path) -> None:
    config = DatasetSettings.model_validate({"collections": COLLECTIONS})
    make_subject(tmp_path / "in", 1, shape=(48, 48, 24))
    plant_in_files(tmp_path / "in", lambda keyword: WORD, patient_id="ZZKNOWNZZ")
    _ingest(tmp_path / "in", tmp_path / "store", config)
    assert places_of(tmp_path / "store", "ZZKNOWNZZ")
    assert "ZZKNOWNZZ" in decoded(tmp_path / "store")


def _ingest(source: Path, store: Path, config: DatasetSettings) -> str:
    report = ingest_sources(
        [source], str(store), config, budget=MemoryBudget(512), compute=Compute(workers=1)
    )
    assert report.counts["written"] == 4
    return json.dumps(report.to_json())


def test_nothing_planted_reaches_store_logs_or_exports(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = hostile_arrival(tmp_path / "in", patient_id="research-7")
    config = DatasetSettings.model_validate({"collections": COLLECTIONS})
    with caplog.at_level(logging.DEBUG):
        _ingest(folder, tmp_path / "store", config)
    assert places_of(tmp_path / "store", WORD, "19370911", "1937-09-11") == set()
    assert WORD not in decoded(tmp_path / "store")
    assert WORD not in caplog.text
    exported = tmp_path / "exported"
    for layout in ("nifti", "bids"):
        done = _command("export", str(tmp_path / "store"), str(exported / layout), "--format", layout)
        assert WORD not in done.stdout + done.stderr
    assert places_of(exported, WORD, "19370911", "1937-09-11") == set()


def _command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_only_attributes_of_the_allow_list_can_carry_a_text_into_the_store(tmp_path: Path) -> None:
    source = tmp_path / "in"
    make_subject(source, 1, shape=(48, 48, 24))
    words: dict[str, str] = {}

    def word(keyword: str) -> str:  # another one for each attribute: none repeats the patient's name
        return words.setdefault(keyword, f"Q{len(words):05d}Q")

    plant_in_files(source, word, patient_id="research-7")
    config = DatasetSettings.model_validate({"collections": COLLECTIONS})
    _ingest(source, tmp_path / "store", config)
    text = decoded(tmp_path / "store")
    there = {keyword for keyword, planted in words.items() if planted in text}
    free = {pydicom.datadict.keyword_for_tag(tag) for tag in FREE}  # others are limited to known terms
    assert {"Manufacturer", "ConvolutionKernel"} <= there <= free


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADIOBJECT_PSEUDONYM_KEY", SECRET)


@pytest.mark.usefixtures("secret")
def test_with_pseudonyms_no_identifier_leaves_in_any_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    yaml = DATASET_YAML.replace("subjects:\n", "subjects:\n  key: pseudonym\n")
    (tmp_path / "dataset.yaml").write_text(yaml.replace("trusted_names", "# trusted_names"))
    arrival = hostile_arrival(tmp_path / "landing", patient_id=WORD)
    uids = _uids_below(arrival)
    with caplog.at_level(logging.DEBUG):
        definitions = build_definitions(load_dataset(tmp_path / "dataset.yaml"))
        with open_instance(tmp_path / "dagster") as instance:
            done = run_pass(definitions, instance)
    assert [run.problem for run in done.runs if not run.succeeded] == []
    told = caplog.text + "".join(capfd.readouterr())
    _check_tables(tmp_path / "work", [WORD, SECRET, *uids])
    for path in (tmp_path / "work").rglob("scan.parquet"):
        path.unlink()  # its paths are where the files lie, and nothing else of it names anybody
    for place in ("store", "work", "dagster"):
        assert places_of(tmp_path / place, WORD, SECRET, "19370911", *uids) == set(), place
    assert not [word for word in (WORD, SECRET, *uids) if word in told + decoded(tmp_path / "store")]


def _uids_below(folder: Path) -> list[str]:
    found: set[str] = set()
    for path in folder.rglob("*"):
        if path.is_file() and path.read_bytes()[128:132] == b"DICM":
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            found |= {dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID}
    assert len(found) > 20
    return sorted(found)


def _check_tables(work: Path, words: list[str]) -> None:
    """Decode every table: only the paths of the scan's may say where a file lies."""
    tables = list(work.rglob("*.parquet"))
    assert len(tables) >= 4
    for path in tables:
        table = pd.read_parquet(path)
        if "record" in table:
            table["record"] = table["record"].map(_without_paths, na_action="ignore")
        text = table.drop(columns=["path"], errors="ignore").to_csv()
        assert not [word for word in words if word in text], path


def _without_paths(record: str) -> str:
    paths = ("path", "files", "name", "data_file")
    return json.dumps({key: value for key, value in json.loads(record).items() if key not in paths})


@pytest.mark.slow
@pytest.mark.usefixtures("secret")
def test_the_command_line_tells_pseudonyms_only(tmp_path: Path) -> None:
    arrival = hostile_arrival(tmp_path / "in", patient_id=WORD)
    plain = tmp_path / "drop"
    shutil.move(arrival, plain)
    (tmp_path / "dataset.yaml").write_text("subjects: {key: pseudonym}\nstore: store\n")
    done = _command("ingest", str(plain), "--dataset", str(tmp_path / "dataset.yaml"), "--json")
    document = json.loads(done.stdout)
    for entry in (*document["series"], *document["unreadable"]):
        entry.pop("source", None)
        entry.pop("path", None)
    assert len(document["series"]) == 4
    assert WORD not in json.dumps(document) + done.stderr
    assert not [uid for uid in _uids_below(plain) if uid in json.dumps(document)]
