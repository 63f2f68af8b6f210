"""What a user of `radiobject-assets ingest` meets: odd files, mistakes, signals, closed pipes, budgets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.store import RadiObject

COMMAND = [sys.executable, "-m", "radiobject_assets.cli"]


def cli(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def arrival(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One phantom subject's files."""
    folder = tmp_path_factory.mktemp("arrival") / "arrival"
    make_subject(folder, 1, shape=(48, 48, 24))
    return folder


def write_nifti(path: Path, value: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full((3, 4, 5), value, np.int16), np.eye(4)), path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ingest"], "Missing argument 'SOURCE...'"),
        (["bogus"], "No such command 'bogus'"),
        (["describe", "store", "--bogus"], "No such option: --bogus"),
        (["ingest", "{folder}", "--store", "s", "--memory-mb", "abc"], "--memory-mb"),
        (["ingest", "", "--store", "s"], "a SOURCE is empty"),
        (["ingest", "s3://bucket/in", "--store", "s"], "s3://bucket/in: a SOURCE is a folder or file"),
        (["ingest", "{folder}"], "--store URI"),
        (["ingest", "{folder}", "--store", "http://server/store"], "not at http://"),
        (["ingest", "{folder}", "--store", "file://store"], "absolute path"),
        (["ingest", "{folder}", "--store", "s3://"], "bucket"),
        (["ingest", "{folder}", "--store", "s", "--workers", "0"], "use 1 or more"),
        (["ingest", "{folder}", "--store", "s", "--dataset", "none.yaml"], "no such file"),
        (["describe", "nowhere"], "no store at"),
        (["export", "store", "s3://bucket/out"], "local folder"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = cli(*(item.format(folder=tmp_path) for item in arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert told in done.stderr


def test_a_home_folder_is_found_where_no_shell_looks_for_it(tmp_path: Path) -> None:
    write_nifti(tmp_path / "in" / "a.nii.gz")
    done = cli("ingest", "~/in", "--store=~/store", "--json", HOME=str(tmp_path))
    assert report_of(done)["counts"]["written"] == 1
    assert len(RadiObject(str(tmp_path / "store")).collection("nifti")) == 1


def test_a_folder_named_in_several_ways_is_taken_in_once(arrival: Path, tmp_path: Path) -> None:
    write_nifti(tmp_path / "in" / "a.nii.gz")
    shutil.copytree(arrival, tmp_path / "in" / "dicom")
    (tmp_path / "link").symlink_to("in")
    files = sum(path.is_file() for path in (tmp_path / "in").rglob("*"))
    folder = tmp_path / "in"
    ways = [folder, f"{folder}/../in", tmp_path / "link", folder / "dicom", folder / "a.nii.gz"]
    report = report_of(cli("ingest", *ways, "--store", tmp_path / "store", "--json"))
    assert report["counts"]["files"] == files
    assert report["counts"]["written"] == report["counts"]["ingestable"] > 1


def test_copies_of_a_series_in_relative_and_absolute_folders_are_one_series(
    arrival: Path, tmp_path: Path
) -> None:
    shutil.copytree(arrival, tmp_path / "one")
    shutil.copytree(arrival, tmp_path / "two")
    done = subprocess.run(
        [*COMMAND, "ingest", "one", str(tmp_path / "two"), "--store", "store", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    report = report_of(done)
    assert report["counts"]["files"] == 2 * sum(path.is_file() for path in arrival.rglob("*"))
    assert str(tmp_path) in {item["source"] for item in report["series"] if item["series_uid"]}


def test_a_nifti_file_that_is_also_linked_to_is_one_volume_of_two_files(tmp_path: Path) -> None:
    write_nifti(tmp_path / "in" / "a_T1w.nii.gz")
    (tmp_path / "in" / "a_copy.nii.gz").symlink_to("a_T1w.nii.gz")
    report = report_of(cli("ingest", tmp_path / "in", "--store", tmp_path / "store", "--json"))
    assert [item["n_instances"] for item in report["series"]] == [2]
    assert report["counts"]["written"] == 1


def test_a_store_inside_the_source_is_not_taken_for_images(arrival: Path, tmp_path: Path) -> None:
    shutil.copytree(arrival, tmp_path / "data")
    files = sum(path.is_file() for path in (tmp_path / "data").rglob("*"))
    store = tmp_path / "data" / "store"
    for _ in range(2):
        report = report_of(cli("ingest", tmp_path / "data", "--store", store, "--json"))
        assert report["counts"]["files"] == files
    assert report["counts"]["unchanged"] == report["counts"]["ingestable"]


def test_file_names_that_are_no_text_are_reported_in_valid_json(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    odd = os.fsencode(tmp_path / "in") + b"/not \xff utf-8\nand two lines.dcm"
    with open(odd, "wb") as file:
        file.write(b"no image")
    for encoding in ("utf-8:strict", "ascii", "latin-1"):
        done = cli(
            "ingest", tmp_path / "in", "--store", tmp_path / "store", "--json", PYTHONIOENCODING=encoding
        )
        (item,) = report_of(done)["unreadable"]
        assert os.fsencode(item["path"]) == odd
        done = cli("ingest", tmp_path / "in", "--store", tmp_path / "store", PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (1, "")  # nothing was taken in


def test_a_patient_id_that_no_table_can_hold_quarantines_its_series_alone(
    arrival: Path, tmp_path: Path
) -> None:
    for path in arrival.rglob("*"):
        if path.is_file() and path.suffix in ("", ".dcm"):
            dataset = pydicom.dcmread(path, force=True)
            if dataset.get("Modality") == "CT":
                dataset.PatientID = "two\tparts"
                (tmp_path / "in").mkdir(exist_ok=True)
                dataset.save_as(tmp_path / "in" / path.name)
    write_nifti(tmp_path / "in" / "good.nii.gz")
    report = report_of(cli("ingest", tmp_path / "in", "--store", tmp_path / "store", "--json"))
    reasons = {item["reason"] for item in report["series"] if item["subject_id"] == "two\tparts"}
    assert "damaged_header" in reasons
    assert "worker_died" not in reasons
    assert report["counts"]["written"] == 1


def test_a_subjects_table_that_cannot_be_used_is_a_problem_and_the_volumes_are_in(tmp_path: Path) -> None:
    write_nifti(tmp_path / "in" / "a.nii.gz")
    table = tmp_path / "in" / "participants.tsv"
    table.write_text("person\tage\na\t7\n")
    done = cli("ingest", tmp_path / "in", "--store", tmp_path / "store", "--json")
    assert done.returncode == 1
    assert "participant_id" in report_of(done)["problems"][0]
    assert report_of(done)["counts"]["written"] == 1
    table.write_text("participant_id\tage\tPatient Name\tDate of Birth\na\t7\tPlanted^Name\t1999-01-02\n")
    done = cli("ingest", tmp_path / "in", "--store", tmp_path / "store", "--json")
    assert done.returncode == 0
    rows = RadiObject(str(tmp_path / "store")).obs_meta.read().to_dict("records")
    assert rows == [{"obs_subject_id": "a", "age": 7}]
    assert "Planted" not in done.stdout + cli("describe", tmp_path / "store", "--json").stdout


def test_who_stops_reading_gets_no_traceback(arrival: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "ingest", str(arrival), "--store", str(tmp_path / "store"), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(200) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_at_any_moment_ends_with_one_line_and_nothing_half_visible(
    cohort: tuple[Path, object], tmp_path: Path, number: signal.Signals
) -> None:
    store = tmp_path / "store"
    for moment_s in (0.4, 0.9, 1.3, 1.7, 2.2):
        process = subprocess.Popen(
            [*COMMAND, "ingest", str(cohort[0]), "--store", str(store), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        time.sleep(moment_s)
        os.killpg(process.pid, number)  # as a terminal does: the workers get it too
        _, stderr = process.communicate(timeout=200)
        # before the command itself runs, or when it is done, a signal ends Python in its own way
        if process.returncode == 128 + number:
            assert stderr.strip().splitlines() == [stderr.strip()]
            assert "does the rest" in stderr
        if (store / "collections").is_dir():
            radi = RadiObject(str(store))
            assert all(radi.collection(name).verify() == [] for name in radi.collection_names)
    report = report_of(cli("ingest", cohort[0], "--store", store, "--json"))
    counts = report["counts"]
    assert counts["written"] + counts["unchanged"] == counts["ingestable"]


def test_several_processes_may_ingest_into_one_new_store_at_once(arrival: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for number in range(4):
        write_nifti(tmp_path / f"in{number}" / f"s{number}.nii.gz", number)
    sources = [arrival, arrival, *(tmp_path / f"in{number}" for number in range(4))]
    processes = [
        subprocess.Popen(
            [*COMMAND, "ingest", str(source), "--store", str(store), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for source in sources
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=300)
        assert stderr == ""
        assert process.returncode in (0, 1)
    radi = RadiObject(str(store))
    radi.validate()
    values = {
        int(volume.to_numpy().flat[0]) for volume in radi.collection("nifti") if volume.shape == (3, 4, 5)
    }
    assert values == {0, 1, 2, 3}
    for name in radi.collection_names:
        ids = radi.collection(name).obs_ids
        assert len(ids) == len(set(ids))
        assert radi.collection(name).verify() == []


def test_workers_are_as_many_as_the_budget_has_room_for() -> None:
    from radiobject_assets.ingest.run import workers_that_fit
    from radiobject_assets.system.memory import MemoryBudget

    fitting = [workers_that_fit(8, MemoryBudget(total_mb)) for total_mb in (64, 512, 1024, 2048, 65536)]
    assert fitting == sorted(fitting)
    assert fitting[0] == fitting[1] == 1
    assert fitting[-1] == 8
