"""What happens to a home over time: additions, damage, interruptions, mistakes."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pandas as pd
import pydicom
import pytest

from radiobject_assets.cli.demo import DATASET_YAML, run_demo
from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.definitions import build_definitions
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.arrivals.arrival_table import ArrivalTable
from radiobject_assets.platform.arrivals.left_behind import left_behind
from radiobject_assets.platform.arrivals.runs import DATA_SET_TAG
from radiobject_assets.platform.headless import Pass, open_instance, run_pass
from radiobject_assets.resources import HEART_TAG, Heartbeat, WorkingTables
from radiobject_assets.store import RadiObject, open_storage
from tests.planted import said_complete

SHAPE = (48, 48, 24)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "dataset.yaml").write_text(DATASET_YAML, encoding="utf-8")
    (tmp_path / "landing").mkdir()
    return tmp_path


def add(home: Path, number: int, arrival: str | None = None) -> None:
    make_subject(home / "landing", number, arrival=arrival, shape=SHAPE)


def one_pass(home: Path, dataset: DatasetSettings | None = None) -> Pass:
    definitions = build_definitions(dataset or load_dataset(home / "dataset.yaml"))
    with open_instance(home / "dagster") as instance:
        return run_pass(definitions, instance)


def taken_in(done: Pass) -> list[str]:
    return [run.what for run in done.arrivals]


def ct_subjects(home: Path) -> list[str]:
    return sorted(set(RadiObject(str(home / "store")).collection("ct").obs_subject_ids))


def ct_tokens(home: Path) -> set[str]:
    return set(RadiObject(str(home / "store")).collection("ct").to_obs()["volume"])


def materializations(home: Path, name: str) -> list[str | None]:
    with open_instance(home / "dagster") as instance:
        records = instance.fetch_materializations(dg.AssetKey(["demo", name]), limit=100).records
    return [record.partition_key for record in records]


def test_an_added_subject_is_the_only_one_that_is_processed(home: Path) -> None:
    add(home, 1)
    add(home, 2)
    one_pass(home)
    rows = RadiObject(str(home / "store")).collection("ct").to_obs().reset_index()
    tokens = set(rows["volume"])
    split = pd.read_parquet(home / "work" / "splits.parquet").set_index("obs_subject_id")["split"]

    add(home, 3)
    done = one_pass(home)

    assert taken_in(done) == ["late-003"]
    assert done.follow_ups[0].what == "demo/dataset"
    assert "demo/splits" in done.follow_ups[1].what
    assert materializations(home, "ct").count("late-001") == 1
    after = RadiObject(str(home / "store")).collection("ct").to_obs().reset_index()
    assert tokens < set(after["volume"])
    later = pd.read_parquet(home / "work" / "splits.parquet").set_index("obs_subject_id")["split"]
    assert (later[split.index] == split).all()
    assert ct_subjects(home) == ["phantom-001", "phantom-002", "phantom-003"]


@pytest.mark.slow
def test_a_corrupted_arrival_does_not_stop_the_others(home: Path) -> None:
    add(home, 1)
    add(home, 2)
    for path in (home / "landing" / "late-001").rglob("*"):
        if path.is_file() and path.name != "_COMPLETE":
            path.write_bytes(b"\x00garbage" * 9)
    (home / "landing" / "late-001" / "_COMPLETE").touch()
    done = one_pass(home)
    assert [(run.what, run.succeeded) for run in done.arrivals] == [("late-001", False), ("late-002", True)]
    assert all(run.succeeded for run in done.follow_ups)
    assert "participants" not in done.arrivals[0].problem
    assert ct_subjects(home) == ["phantom-002"]


@pytest.mark.slow
def test_a_file_added_later_makes_only_its_arrival_run_again(home: Path) -> None:
    add(home, 1)
    add(home, 2)
    one_pass(home)
    (home / "landing" / "late-002" / "readme.txt").write_text("a note", encoding="utf-8")
    assert one_pass(home).runs == ()  # the marker was written before it
    (home / "landing" / "late-002" / "_COMPLETE").touch()
    done = one_pass(home)
    assert taken_in(done) == ["late-002"]
    # the images are the same, so the data set is, and nothing follows from it
    assert [run.what for run in done.follow_ups] == ["demo/dataset"]
    again = one_pass(home)
    assert again.runs == ()


@pytest.mark.slow
def test_an_interrupted_pass_is_completed_by_the_next(home: Path) -> None:
    add(home, 1)
    add(home, 2)

    def interrupt(what: str, number: int, total: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    definitions = build_definitions(home / "dataset.yaml")
    with open_instance(home / "dagster") as instance, pytest.raises(KeyboardInterrupt):
        run_pass(definitions, instance, on_run=interrupt)
    done = one_pass(home)
    assert taken_in(done) == ["late-002"]
    assert ct_subjects(home) == ["phantom-001", "phantom-002"]


def test_a_killed_run_does_not_count_as_running_for_ever(home: Path) -> None:
    shutil.rmtree(home / "landing")  # a landing zone without an answer is no reason either
    definitions = build_definitions(home / "dataset.yaml")
    with open_instance(home / "dagster") as instance:
        run = instance.create_run_for_job(
            definitions.resolve_job_def("process_arrival"),
            tags={DATA_SET_TAG: "demo", HEART_TAG: str(replace(Heartbeat.of_this_process(), pid=2**22))},
            status=dg.DagsterRunStatus.STARTED,
        )
        run_pass(definitions, instance)
        ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.FAILURE


@pytest.mark.slow
def test_what_is_left_behind_stands_as_a_check_and_can_be_asked_for_again(home: Path) -> None:
    add(home, 1)
    for path in (home / "landing" / "late-001").rglob("*"):
        if path.is_file() and path.name != "_COMPLETE":
            path.write_bytes(b"\x00garbage" * 9)
    said_complete(home / "landing" / "late-001")
    one_pass(home)
    key = dg.AssetCheckKey(dg.AssetKey(["demo", "raw_dicom"]), "nothing_left_behind")
    definitions = build_definitions(home / "dataset.yaml")
    with open_instance(home / "dagster") as instance:
        told = instance.get_latest_asset_check_evaluation_record(key)  # by the tick, without anybody's click
        assert told is not None
        assert told.event is not None
        assert told.event.dagster_event is not None
        assert "0 of 1 arrivals are taken in" in told.event.dagster_event.event_specific_data.description

        shutil.rmtree(home / "landing" / "late-001")
        run_pass(definitions, instance)
        job = definitions.resolve_implicit_global_asset_job_def()
        asked = job.get_subset(asset_selection=set(), asset_check_selection={key})
        result = asked.execute_in_process(instance=instance)
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert "1 lost" in (evaluation.description or "")
    assert "delete its partition" in (evaluation.description or "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_damaged", "kind"), [(True, "lost"), pytest.param(False, "vanished", marks=pytest.mark.slow)]
)
def test_an_emptied_folder_is_told_though_what_was_seen_of_it_is_lost_too(
    home: Path, is_damaged: bool, kind: str
) -> None:
    add(home, 1)
    folder = home / "landing" / "late-001"
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "_COMPLETE"]
    if is_damaged:
        for path in files:
            path.write_bytes(b"\x00garbage" * 9)
    said_complete(folder)
    one_pass(home)
    for path in files:
        path.unlink()
    said_complete(folder)
    (home / "work" / "looked.json").unlink()
    one_pass(home)
    rows = ArrivalTable(WorkingTables(open_storage(str(home / "work")))).rows
    assert [(item.key, item.kind) for item in left_behind(rows, 0.0, (60.0,)).items] == [("late-001", kind)]


@pytest.mark.slow
def test_a_lost_table_or_instance_repeats_no_voxel_work(home: Path) -> None:
    add(home, 1)
    one_pass(home)
    tokens = ct_tokens(home)
    for path in (home / "work" / "reconciled").iterdir():
        path.write_text("{ damaged", encoding="utf-8")
    assert one_pass(home).runs == ()  # the instance still knows
    shutil.rmtree(home / "dagster")
    assert one_pass(home).arrivals == ()  # the table still knows
    shutil.rmtree(home / "work" / "reconciled")
    shutil.rmtree(home / "dagster")
    assert taken_in(one_pass(home)) == ["late-001"]
    assert ct_tokens(home) == tokens


@pytest.mark.slow
def test_a_damaged_volume_is_found_kept_out_of_the_splits_and_written_anew(home: Path) -> None:
    add(home, 1)
    add(home, 2)
    one_pass(home)
    _damage_ct_of(home, "phantom-001")

    (home / "landing" / "late-001" / "readme.txt").write_text("look again", encoding="utf-8")
    said_complete(home / "landing" / "late-001")
    found = one_pass(home)
    assert [(run.what, run.succeeded) for run in found.arrivals] == [("late-001", False)]
    assert "ct_integrity" in found.arrivals[0].problem
    split = pd.read_parquet(home / "work" / "splits.parquet")
    assert list(split.loc[split["is_current"], "obs_subject_id"]) == ["phantom-002"]

    mended = one_pass(home)
    assert [(run.what, run.succeeded) for run in mended.arrivals] == [("late-001", True)]
    split = pd.read_parquet(home / "work" / "splits.parquet")
    assert list(split.loc[split["is_current"], "obs_subject_id"]) == ["phantom-001", "phantom-002"]
    assert RadiObject(str(home / "store")).collection("ct").verify() == []


def _damage_ct_of(home: Path, subject: str) -> None:
    for volume in RadiObject(str(home / "store")).collection("ct").sel(subject=subject):
        (data,) = list(Path(volume.uri.removeprefix("file://")).glob("__fragments/*/a0.tdb"))
        content = bytearray(data.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(64)
        data.write_bytes(bytes(content))


def test_a_store_uri_that_is_something_else_is_told_and_left_alone(home: Path) -> None:
    add(home, 1)
    other = home / "store"
    other.mkdir()
    (other / "thesis.docx").write_bytes(b"precious")
    done = one_pass(home)
    (run,) = done.arrivals
    assert not run.succeeded
    assert "already holds something else" in run.problem
    assert [path.name for path in other.iterdir()] == ["thesis.docx"]


def test_a_missing_landing_zone_is_waited_for(home: Path) -> None:
    shutil.rmtree(home / "landing")
    done = one_pass(home)
    assert done.runs == ()
    assert "not there yet" in done.sensor_says


def test_two_processes_do_not_run_one_home(home: Path) -> None:
    with (
        open_instance(home / "dagster"),
        pytest.raises(ConfigurationError, match="another process"),
        open_instance(home / "dagster"),
    ):
        pass


def test_a_typo_in_dataset_yaml_is_named_with_its_line(home: Path) -> None:
    text = (home / "dataset.yaml").read_text(encoding="utf-8").replace("labels_of: ct", "labels_of: tc")
    (home / "dataset.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"labels_of.*'tc' is no collection"):
        run_demo(home, shape=SHAPE)


@pytest.mark.slow
def test_without_configured_collections_every_modality_gets_its_own(home: Path) -> None:
    add(home, 1)
    dataset = DatasetSettings(folder=home, arrivals={"trusted_names": "late-[0-9]+"})  # type: ignore[arg-type]
    done = one_pass(home, dataset)
    assert done.failed == ()
    assert RadiObject(str(home / "store")).collection_names == ("ct", "nifti", "seg")


@pytest.mark.slow
def test_an_untrusted_folder_name_stays_out_of_dagster(home: Path) -> None:
    add(home, 1, arrival="Doe_Jane_19700101")
    done = one_pass(home)
    assert done.failed == ()
    (partition,) = taken_in(done)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-001", partition)
    for path in (home / "dagster").rglob("*"):
        if path.is_file():
            assert b"Doe_Jane" not in path.read_bytes()


@pytest.mark.slow
def test_labels_that_come_after_their_image_find_it(home: Path) -> None:
    add(home, 1)
    late = home / "landing" / "late-002"
    late.mkdir()
    for path in _dicom_of(home / "landing" / "late-001", "SEG"):
        path.rename(late / path.name)
    (late / "_COMPLETE").touch()
    done = one_pass(home)
    assert done.failed == ()
    labels = RadiObject(str(home / "store")).collection("seg").to_obs().reset_index()
    assert list(labels["arrival"]) == ["late-002"]
    assert labels["labels_of"][0] in RadiObject(str(home / "store")).collection("ct").obs_ids


def _dicom_of(folder: Path, modality: str) -> list[Path]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and pydicom.misc.is_dicom(path):
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            if header.get("Modality", "") == modality:
                found.append(path)
    return found


@pytest.mark.slow
def test_labels_without_their_image_are_quarantined_with_a_reason(home: Path) -> None:
    add(home, 1)
    for path in _dicom_of(home / "landing" / "late-001", "CT"):
        path.unlink()
    done = one_pass(home)
    assert [run.succeeded for run in done.arrivals] == [True]
    outcomes = pd.read_parquet(home / "work" / "arrivals" / "late-001" / "outcomes-seg.parquet")
    assert list(outcomes["reason"]) == ["reference_missing"]
