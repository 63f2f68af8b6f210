"""BIDS folders: names become columns, sidecars are inherited, every file is accounted for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.nifti.bids import Name, parse
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

DATASET = DatasetSettings.model_validate(
    {
        "collections": {
            "t1w": {"match": {"files": "ses-*/anat/*_T1w.nii.gz"}},
            "bold": {"match": {"files": ["*_bold.nii.gz", "*_bold.nii"]}},
            "dwi": {"match": {"files": "*_dwi.nii.gz"}},
        }
    }
)


def image(path: Path, shape: tuple[int, ...] = (5, 6, 7)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    nib.save(nib.Nifti1Image(data, np.diag([2, 2, 2, 1.0])), path)
    return path


def note(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two subjects, two sessions, with sidecars at every level."""
    root = tmp_path / "study"
    note(root / "dataset_description.json", {"Name": "x", "BIDSVersion": "1.10.0"})
    note(root / "README", "about the study")
    note(root / "participants.tsv", "participant_id\tage\tname\nsub-01\t31\tJane Doe\nsub-02\t32\tn/a\n")
    note(root / "participants.json", {"age": {"Units": "years"}})
    note(root / "task-rest_bold.json", {"RepetitionTime": 2.0, "EchoTime": 0.030, "TaskName": "rest"})
    note(root / "task-faces_bold.json", {"RepetitionTime": 9.0})
    note(root / "T1w.json", {"MagneticFieldStrength": 3, "PatientName": "Jane Doe"})
    for subject in ("01", "02"):
        for session in ("a", "b"):
            stem = f"sub-{subject}_ses-{session}"
            folder = root / f"sub-{subject}" / f"ses-{session}"
            image(folder / "anat" / f"{stem}_T1w.nii.gz")
            image(folder / "func" / f"{stem}_task-rest_run-2_bold.nii.gz", (5, 6, 7, 3))
        image(root / f"sub-{subject}/ses-a/dwi/sub-{subject}_ses-a_dwi.nii.gz", (5, 6, 7, 2))
    note(root / "sub-01/sub-01_task-rest_bold.json", {"EchoTime": 0.031})
    note(root / "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-2_bold.json", {"EchoTime": 0.032})
    note(root / "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-2_events.tsv", "onset\tduration\n1\t2\n")
    note(root / "dwi.bval", "0 1000\n")
    return root


def ingest(source: Path, store: Path) -> IngestReport:
    return ingest_sources([source], str(store), DATASET, budget=MemoryBudget(512), compute=Compute(workers=1))


def rows(store: Path, name: str) -> dict[tuple[str, str], dict[Any, Any]]:
    obs = RadiObject(str(store)).collection(name).to_obs()
    return {(row["obs_subject_id"], row["session"]): row for row in obs.to_dict("records")}


def test_names_become_subjects_and_columns(study: Path, tmp_path: Path) -> None:
    report = ingest(study, tmp_path / "store")
    assert report.counts["written"] == 10
    found = rows(tmp_path / "store", "bold")
    assert sorted(found) == [(f"sub-{s}", e) for s in ("01", "02") for e in ("a", "b")]
    row = found["sub-02", "b"]
    assert (row["task"], row["run"], row["suffix"], row["datatype"]) == ("rest", 2, "bold", "func")
    assert row["modality"] == "MR"


def test_sidecars_are_inherited_and_the_nearest_counts(study: Path, tmp_path: Path) -> None:
    ingest(study, tmp_path / "store")
    found = rows(tmp_path / "store", "bold")
    echoes = {key: row["echo_time_ms"] for key, row in found.items()}
    assert echoes == {
        ("sub-01", "a"): 32.0, ("sub-01", "b"): 31.0, ("sub-02", "a"): 30.0, ("sub-02", "b"): 30.0,
    }  # fmt: skip
    assert {row["repetition_time_ms"] for row in found.values()} == {2000.0}
    assert {row["magnetic_field_strength_t"] for row in rows(tmp_path / "store", "t1w").values()} == {3.0}
    (values,) = {row["b_values_s_per_mm2"] for row in rows(tmp_path / "store", "dwi").values()}
    assert json.loads(values) == [0, 1000]


def test_the_table_of_participants_describes_the_subjects_without_their_names(
    study: Path, tmp_path: Path
) -> None:
    ingest(study, tmp_path / "store")
    subjects = RadiObject(str(tmp_path / "store")).obs_meta.read()
    assert dict(zip(subjects["obs_subject_id"], subjects["age"], strict=True)) == {"sub-01": 31, "sub-02": 32}
    stored = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert "name" not in subjects
    assert b"Jane" not in stored


def _told(tmp_path: Path, table: bytes) -> tuple[dict[str, dict[Any, Any]], tuple[str, ...]]:
    """What a store says of two subjects after their table was read, and the problems."""
    root = tmp_path / "study"
    note(root / "dataset_description.json", {"Name": "x", "BIDSVersion": "1.10.0"})
    for subject in ("sub-01", "sub-02"):
        image(root / subject / "anat" / f"{subject}_T1w.nii.gz")
    (root / "participants.tsv").write_bytes(table)
    report = ingest_sources(
        [root],
        str(tmp_path / "store"),
        DatasetSettings(),
        budget=MemoryBudget(512),
        compute=Compute(workers=1),
    )
    assert report.counts["written"] == 2
    subjects = RadiObject(str(tmp_path / "store")).obs_meta.read()
    return {row["obs_subject_id"]: row for row in subjects.to_dict("records")}, report.problems


@pytest.mark.parametrize(
    "table",
    [
        "\ufeffparticipant_id\tdx\tage\r\nsub-01\tn/a\t3\r\nsub-02\tbäd\t4\r\n\r\n".encode(),
        "participant_id\tdx\tage\nsub-01\tn/a\t3\nsub-02\tbäd\t4\n".encode("utf-16"),
        " participant_id \t dx\tage \n sub-01\t\t3\nsub-02 \tbäd\t4".encode(),
        b"participant_id\tdx\tage\rsub-01\tn/a\t3\rsub-02\tb\xc3\xa4d\t4\r",
    ],
    ids=["mark and CRLF", "UTF-16", "blanks", "CR"],
)
def test_tables_of_spreadsheets_are_read(tmp_path: Path, table: bytes) -> None:
    rows, problems = _told(tmp_path, table)
    assert problems == ()
    assert (rows["sub-01"]["age"], rows["sub-02"]["age"], rows["sub-02"]["dx"]) == (3, 4, "bäd")


def test_a_quotation_mark_that_is_left_open_swallows_no_subject(tmp_path: Path) -> None:
    table = b'participant_id\tdx\tage\nsub-01\t"left sided\t3\nsub-02\tok"\t4\n'
    rows, _ = _told(tmp_path, table)
    assert [(row["dx"], row["age"]) for row in rows.values()] == [('"left sided', 3), ('ok"', 4)]
    quoted = b'participant_id\tdx\tage\nsub-01\t"a\tb"\t3\nsub-02\t"say ""x"""\t4\n'
    rows, _ = _told(tmp_path / "quoted", quoted)
    assert [(row["dx"], row["age"]) for row in rows.values()] == [("a\tb", 3), ('say "x"', 4)]


def test_numbers_of_any_size_and_truth_beside_nothing_are_kept_as_written(tmp_path: Path) -> None:
    table = (
        b"participant_id\tcode\tseen\tage\nsub-01\t99999999999999999999999\tTrue\t89+\nsub-02\t1\tn/a\t3\n"
    )
    rows, problems = _told(tmp_path, table)
    assert problems == ()
    first = rows["sub-01"]
    assert (first["code"], str(first["seen"]), first["age"]) == ("99999999999999999999999", "True", "89+")


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (b"participant_id\tage\nsub-01\t3\textra\nsub-02\t4\textra\n", "more cells"),
        (b"participant_id\tage\nsub-01\t3\nsub-02\t4\textra\n", "can't be read"),
        (b"participant_id\tobs_subject_id\nsub-01\tx\nsub-02\ty\n", "the store's own"),
        (b"participant_id\tage\n01\t3\n02\t4\n", "none of its 2 subjects"),
        ("participant_id\tcity\nsub-01\tMünchen\n".encode("latin-1"), "can't be read"),
        (b"participant_id,age\nsub-01,3\n", "no column"),
        (b"", "can't be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_a_problem_and_the_volumes_are_in(
    tmp_path: Path, table: bytes, problem: str
) -> None:
    rows, problems = _told(tmp_path, table)
    assert sorted(rows) == ["sub-01", "sub-02"]
    assert len(problems) == 1
    assert problem in problems[0]


def test_without_collections_an_image_goes_to_that_of_its_suffix(study: Path, tmp_path: Path) -> None:
    image(study / "sub-01/ses-a/anat/sub-01_ses-a_JaneDoe.nii.gz")
    store = tmp_path / "store"
    ingest_sources(
        [study], str(store), DatasetSettings(), budget=MemoryBudget(512), compute=Compute(workers=1)
    )
    assert RadiObject(str(store)).collection_names == ("bold", "dwi", "nifti", "t1w")


def test_every_file_is_accounted_for_and_none_of_them_asks_for_attention(study: Path, tmp_path: Path) -> None:
    report = ingest(study, tmp_path / "store")
    files = [path for path in study.rglob("*") if path.is_file()]
    assert report.counts["files"] == len(files)
    assert {str(item.reason) for item in report.unreadable} == {"sidecar"}
    assert not report.needs_attention


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_a_packed_study_gives_the_same_rows(study: Path, tmp_path: Path, kind: str) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), kind, study.parent, study.name))
    report = ingest(archive, tmp_path / "store")
    assert report.counts["written"] == 10
    subjects = RadiObject(str(tmp_path / "store")).obs_meta.read()
    assert dict(zip(subjects["obs_subject_id"], subjects["age"], strict=True)) == {"sub-01": 31, "sub-02": 32}
    ingest(study, tmp_path / "plain")
    for name in ("bold", "t1w", "dwi"):
        packed, plain = rows(tmp_path / "store", name), rows(tmp_path / "plain", name)
        assert packed.keys() == plain.keys()
        for key, row in packed.items():
            for column in ("echo_time_ms", "repetition_time_ms", "voxel_digest", "source_digest", "suffix"):
                assert row.get(column) == plain[key].get(column) or row.get(column) != row.get(column)


def test_a_folder_without_a_description_is_recognised_by_its_subjects(tmp_path: Path) -> None:
    image(tmp_path / "in/sub-7/anat/sub-7_acq-fast_T1w.nii.gz")
    note(tmp_path / "in/acq-fast_T1w.json", {"EchoTime": 0.004})
    (nifti,) = scan([tmp_path / "in"]).niftis
    assert nifti.attributes["acquisition"] == "fast"
    assert nifti.attributes["echo_time_ms"] == 4.0


def test_a_sidecar_of_another_study_is_not_inherited(tmp_path: Path) -> None:
    for name in ("one", "two"):
        note(tmp_path / name / "dataset_description.json", {"Name": name})
        image(tmp_path / name / "sub-1/anat/sub-1_T1w.nii.gz")
    note(tmp_path / "one/T1w.json", {"EchoTime": 0.001})
    note(tmp_path / "T1w.json", {"FlipAngle": 9})
    one, two = scan([tmp_path]).niftis
    assert one.attributes["echo_time_ms"] == 1.0
    assert "echo_time_ms" not in two.attributes
    assert "flip_angle_deg" not in one.attributes


@pytest.mark.parametrize(
    "name", ["brain.nii.gz", "sub-1_sub-2_T1w.nii", "_T1w.nii", "sub-1_T1w", "a b_T1w.nii"]
)
def test_names_that_are_not_of_bids_say_nothing(name: str) -> None:
    found = parse(name)
    assert found is None or found.entities == ()


def test_a_name_is_its_entities_suffix_and_extension() -> None:
    expected = Name((("sub", "01"), ("run", "2")), "bold", ".nii.gz")
    assert parse("sub-01_run-2_bold.nii.gz") == expected
