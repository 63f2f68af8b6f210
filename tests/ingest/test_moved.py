"""An arrival whose series dataset.yaml places elsewhere, or that corrects itself: no second copy stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.ingest import IngestReport, plan_ingest, run_ingest
from radiobject_assets.ingest.dataset_release import release_of
from radiobject_assets.ingest.stored.moved import Moved, withdraw_moved
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.store import RadiObject
from radiobject_assets.store.storage.context import get_tiledb_ctx
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

BROAD = {"ct": {"match": {"modality": "CT"}}, "other": {"match": {"modality": "NM"}}}
NARROW = {"ct": {"match": {"modality": "NM"}}, "other": {"match": {"modality": "CT"}}}


def take_in(
    folder: Path, store: Path, collections: dict[str, object], arrival: str = "a"
) -> tuple[IngestReport, Moved]:
    dataset = DatasetSettings.model_validate({"collections": collections})
    plan = plan_ingest(release_of(dataset).scan(scan([folder])), dataset, arrival=arrival)
    report = run_ingest(plan, str(store), budget=MemoryBudget(512), compute=Compute(workers=1))
    return report, withdraw_moved(plan, str(store), None, get_tiledb_ctx())


def sizes(store: Path) -> dict[str, int]:
    radi = RadiObject(str(store))
    return {name: len(radi.collection(name)) for name in radi.collection_names}


def test_volumes_go_where_the_new_conditions_place_them(tmp_path: Path) -> None:
    make_subject(tmp_path / "in", 1, shape=(48, 48, 24))
    store = tmp_path / "store"
    assert take_in(tmp_path / "in", store, BROAD)[1] == Moved(0, 0)
    assert sizes(store) == {"ct": 2}
    _, moved = take_in(tmp_path / "in", store, NARROW)
    assert moved.withdrawn == 2
    assert sizes(store) == {"ct": 0, "other": 2}
    assert take_in(tmp_path / "in", store, NARROW)[1] == Moved(0, 0)


def test_volumes_that_no_condition_wants_any_more_are_withdrawn(tmp_path: Path) -> None:
    make_subject(tmp_path / "in", 1, shape=(48, 48, 24))
    take_in(tmp_path / "in", tmp_path / "store", BROAD)
    none = {"mr": {"match": {"modality": "MR"}}}
    assert take_in(tmp_path / "in", tmp_path / "store", none)[1].withdrawn == 2
    assert sizes(tmp_path / "store") == {"ct": 0}


def test_other_arrivals_and_the_command_line_are_left_alone(tmp_path: Path) -> None:
    make_subject(tmp_path / "in", 1, shape=(48, 48, 24))
    take_in(tmp_path / "in", tmp_path / "store", BROAD)
    assert take_in(tmp_path / "in", tmp_path / "store", NARROW, arrival="b")[1].withdrawn == 0
    assert take_in(tmp_path / "in", tmp_path / "store", NARROW, arrival="")[1].withdrawn == 0
    assert sizes(tmp_path / "store") == {"ct": 2, "other": 2}


def test_an_arrival_may_correct_whose_images_it_has(tmp_path: Path) -> None:
    make_subject(tmp_path / "in", 1, shape=(48, 48, 24))
    take_in(tmp_path / "in", tmp_path / "store", BROAD)
    for path in sorted((tmp_path / "in").rglob("*")):
        if path.is_file() and pydicom.misc.is_dicom(path):
            header = pydicom.dcmread(path)
            header.PatientID = "corrected"
            header.save_as(path)
    # another arrival that says so contradicts, the same one corrects
    refused, _ = take_in(tmp_path / "in", tmp_path / "store", BROAD, arrival="b")
    assert set(refused.quarantined_by_reason) >= {"subject_conflict"}
    _, moved = take_in(tmp_path / "in", tmp_path / "store", BROAD)
    assert moved.withdrawn == 2
    assert set(RadiObject(str(tmp_path / "store")).collection("ct").obs_subject_ids) == {"corrected"}


MR = {"mr": {"match": {"modality": "MR"}}}


def test_volumes_that_are_joined_once_their_scan_is_whole_do_not_stay_behind(
    tmp_path: Path, shared_data: Path
) -> None:
    """Siemens' split series: the second volume of four came last."""
    source = shared_data / "cases" / "r02_xa30i_mfsplit_fmri" / "input"
    if not source.is_dir():
        pytest.skip("the reference data has no split scan")
    folder = tmp_path / "in"
    folder.mkdir()
    for path in source.iterdir():
        if not path.name.startswith("7002"):
            shutil.copyfile(path, folder / path.name)
    take_in(folder, tmp_path / "store", MR)
    assert sizes(tmp_path / "store") == {"mr": 3}
    for path in source.glob("7002*"):
        shutil.copyfile(path, folder / path.name)
    report, moved = take_in(folder, tmp_path / "store", MR)
    assert moved == Moved(0, 0)  # taking in the whole has withdrawn its parts
    assert sizes(tmp_path / "store") == {"mr": 1}
    (series,) = report.outcomes
    assert series.detail.startswith("2 volumes of its parts")
    assert series.shape == (64, 64, 4, 4)
    again, moved = take_in(folder, tmp_path / "store", MR)
    assert moved == Moved(0, 0)
    assert [outcome.status for outcome in again.outcomes] == ["unchanged"]


@pytest.mark.parametrize("gone", ["first", "middle", "last"])
def test_slices_that_go_away_leave_the_volume_as_it_was(tmp_path: Path, gone: str) -> None:
    truth = make_subject(tmp_path / "in", 1, shape=(48, 48, 24))
    store = tmp_path / "store"
    report, _ = take_in(tmp_path / "in", store, BROAD)
    (taken,) = [o for o in report.outcomes if o.series_uid == truth.ct_series_uid]
    found = scan([Path(taken.source)]).instances
    slices = sorted(found, key=lambda instance: instance.frames[0].position[2])
    where = {"first": 0, "middle": len(slices) // 2, "last": -1}[gone]
    slices[where].path.unlink()
    report, _ = take_in(tmp_path / "in", store, BROAD)
    (held,) = [o for o in report.outcomes if o.series_uid == truth.ct_series_uid]
    assert held.status == "quarantined"
    assert RadiObject(str(store)).collection("ct")[taken.obs_id].shape == truth.ct.shape
    again, _ = take_in(tmp_path / "in", store, BROAD)
    assert [o.reason for o in again.outcomes] == [o.reason for o in report.outcomes]


def test_a_copy_of_a_slice_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    truth = make_subject(tmp_path / "in", 1, shape=(48, 48, 24))
    folder = next(
        i.path.parent for i in scan([tmp_path / "in"]).instances if i.series_uid == truth.ct_series_uid
    )
    first = sorted(folder.iterdir())[0]
    shutil.copy(first, folder / "copy.dcm")
    take_in(tmp_path / "in", tmp_path / "store", BROAD)
    (folder / "copy.dcm").unlink()
    report, _ = take_in(tmp_path / "in", tmp_path / "store", BROAD)
    (kept,) = [o for o in report.outcomes if o.series_uid == truth.ct_series_uid]
    assert kept.status != "quarantined"
