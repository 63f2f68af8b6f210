"""doctor on stores that were damaged in the ways in which stores are: each found once, mended, and clean."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from radiobject_assets.cli.commands import app
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics.findings import Finding
from radiobject_assets.diagnostics.findings_document import SCHEMA
from radiobject_assets.doctor.examination import examine
from radiobject_assets.doctor.examined import Examined
from radiobject_assets.doctor.mend_journal import Mended, read_journal
from radiobject_assets.doctor.mend_tasks import Remake, attempts
from radiobject_assets.doctor.mending import MendOptions, mend
from radiobject_assets.doctor.source_plans import FolderPlans
from radiobject_assets.doctor.voxel_rounds import voxel_round
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.store import (
    RadiObject,
    create_snapshot,
    delete_subjects,
    forgetting_key,
    get_radiobject_config,
    list_snapshots,
    note_forgotten,
)
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from tests.doctor import damage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of CT, SEG, T1w and a series in time, and the files that it was made from."""
    home = tmp_path_factory.mktemp("doctor")
    make_cohort(home / "landing", subjects=2, seed=7, shape=(48, 48, 24))
    random = np.random.default_rng(3)
    folder = home / "landing" / "more"
    folder.mkdir()
    bold = nib.Nifti1Image(random.integers(0, 900, (12, 12, 6, 6), dtype=np.int16), np.diag([3, 3, 4, 1]))
    bold.header.set_xyzt_units("mm", "sec")
    bold.header.set_zooms((3, 3, 4, 2))
    nib.save(bold, folder / "sub-09_task-rest_bold.nii.gz")
    ingest(home)
    create_snapshot(str(home / "store"), "before")
    return home


def ingest(home: Path) -> None:
    ingest_sources(
        [home / "landing"], str(home / "store"), DatasetSettings(),
        budget=MemoryBudget(512), compute=Compute(workers=1),
    )  # fmt: skip


@pytest.fixture
def home(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "home"))


def found_in(store: str, grace_s: float = 0.0) -> list[Finding]:
    return [one for report in examine(Examined(store, grace_s=grace_s)) for one in report.findings]


def fix(home: Path, *delete: str, grace_s: float = 0.0) -> None:
    store = str(home / "store")
    options = MendOptions(sources=(home / "landing",), delete=frozenset(delete), workers=1, memory_mb=1024)
    mend(Examined(store, grace_s=grace_s), found_in(store, grace_s), options)


def by_name(store: str, *kinds: str) -> list[str]:
    return [f"{one.kind.code}:{one.id}" for one in found_in(store) if one.kind.code in kinds]


def damage_all(home: Path) -> Counter[str]:
    """Every kind of damage to a store, several at once; how many there are of each kind."""
    store = str(home / "store")
    damage.copy_under_another_id(store, "nifti", 0)
    damage.remove_array(store, "ct", 0)
    damage.cut_off(damage.data_file(store, "ct", 1))
    damage.set_columns(store, "ct", 2, slope=2.0)
    damage.flip(damage.data_file(store, "nifti", 0))
    damage.set_columns(store, "nifti", 2, affine_00=float("nan"))
    # an export that lost the third volume, and was numbered anew
    damage.set_columns(store, "nifti", 3, fourth_axis_values="[0.0, 2.0, 4.0, 8.0, 10.0, 12.0]")
    damage.set_columns(store, "seg", 0, kind="mask")
    damage.set_columns(store, "seg", 1, affine_03=500.0)
    damage.orphan(store, "ct")
    damage.set_columns(store, "seg", 1, patient_name="Doe^Jane", rated_by="reader 2")
    damage.staged_file(Path(store) / "tmp")
    damage.many_commits(store, "ct")
    return Counter(
        {
            "same_image_twice": 1, "missing": 1, "unreadable": 2, "row_changed": 1, "geometry": 1,
            "sequence_gap": 1, "field_invalid": 1, "labels_on_grid": 1, "orphan_array": 1, "identifiers": 1,
            "left_overs": 1, "fragments": 1,
        }
    )  # fmt: skip


def test_a_sound_store_has_nothing(pristine: Path) -> None:
    assert found_in(str(pristine / "store")) == []


def test_who_is_forgotten_while_a_doctor_reads_their_files_is_not_taken_in_anew(home: Path) -> None:
    store = str(home / "store")
    damage.remove_array(store, "ct", 0)
    (finding,) = [one for one in found_in(store) if one.kind.code == "missing"]
    plan = FolderPlans(store, [home / "landing"]).plan("")
    assert plan is not None
    (one,) = [one for one in plan.selected(["ct"]) if one.obs_id == finding.obs_id]
    notes = Examined(store).notes
    remake = Remake(
        store, replace(plan, planned=(one,), unreadable=()), "ct", finding.obs_id, one.subject_id, False, "",
        one.series_token,
        Mended.begin(notes, finding, one.series_token), notes, get_radiobject_config(),
        one.series.decoded_bytes, refuse_forgotten=True,
    )  # fmt: skip
    note_forgotten(store, [forgetting_key(store).mark(one.subject_id)])
    delete_subjects(store, [one.subject_id])
    ((_, attempt),) = attempts([remake], MemoryBudget(1024), Compute(workers=1))
    assert not attempt.is_mended
    assert "subject_forgotten" in attempt.told
    assert one.subject_id not in set(RadiObject(store).obs_meta.read()["obs_subject_id"])


def test_each_damage_is_found_once_and_mended(home: Path) -> None:
    store = str(home / "store")
    before = damage.voxels(store)
    expected = damage_all(home)
    found = found_in(store)
    assert Counter(one.kind.code for one in found) == expected
    assert not any("phantom" in one.problem + one.about for one in found)

    fix(home)

    left = found_in(store)
    assert {one.kind.code for one in left} == {"same_image_twice", "identifiers"}
    fix(home, *by_name(store, "same_image_twice", "identifiers"))
    assert found_in(store) == []
    assert damage.voxels(store) == before
    # what people had added to a row that was written anew is there still
    assert damage.value(store, "seg", 1, "rated_by") == "reader 2"
    stages = Counter(note.stage for note in read_journal(Examined(store).notes))
    assert stages == {"mended": sum(expected.values())}
    notes = "".join(path.read_text() for path in (home / "store.doctor").rglob("*.json"))
    assert "phantom" not in notes
    assert "Jane" not in notes


def test_a_snapshot_gets_the_array_that_took_the_place_of_its_own(home: Path) -> None:
    store = str(home / "store")
    before = RadiObject(store, timestamp="before").collection("ct")
    row = damage.rows(store, "ct")[0]
    was = before.loc[row["obs_id"]].to_numpy()
    digest = list_snapshots(store)[0].digest
    old = damage.array(store, "ct", 0)
    RadiObject(store).collection("ct").delete([row["obs_id"]])
    ingest(home)
    shutil.rmtree(old)  # somebody tidied by the dates of folders
    assert [one.kind.code for one in found_in(store)] == ["snapshot_damaged"]

    fix(home)

    assert found_in(store) == []
    assert list_snapshots(store)[0].digest == digest
    now = RadiObject(store, timestamp="before").collection("ct").loc[row["obs_id"]]
    assert np.array_equal(now.to_numpy(), was)


def test_a_snapshot_that_cannot_be_helped_goes_by_name_alone(home: Path) -> None:
    store = str(home / "store")
    row = damage.rows(store, "ct")[0]
    old = damage.array(store, "ct", 0)
    RadiObject(store).collection("ct").delete([row["obs_id"]])
    shutil.rmtree(old)
    fix(home)
    assert [one.name for one in list_snapshots(store)] == ["before"]
    fix(home, *by_name(store, "snapshot_damaged"))
    assert found_in(store) == []
    assert list_snapshots(store) == []


def test_what_cannot_be_made_again_is_set_aside_and_kept(home: Path) -> None:
    store = str(home / "store")
    obs_id = damage.set_columns(store, "ct", 0, slope=2.0)
    shutil.rmtree(home / "landing")
    done = mend(Examined(store), found_in(store), MendOptions(workers=1))
    (note,) = done.notes
    assert note.stage == "left"
    assert "set aside" in note.result
    assert found_in(store) == []
    assert obs_id not in RadiObject(store).collection("ct").obs_ids
    (aside,) = [one.name for one in list_snapshots(store) if one.name.startswith("set-aside-")]
    assert RadiObject(store, timestamp=aside).collection("ct").loc[obs_id].slope == 2.0


def test_volumes_of_a_newer_version_are_told_and_left(home: Path) -> None:
    store = str(home / "store")
    damage.set_columns(store, "ct", 0, writer_version="radiobject-assets 99.1.0")
    (finding,) = found_in(store)
    assert finding.kind.code == "version_skew"
    fix(home)
    assert [one.kind.code for one in found_in(store)] == ["version_skew"]


def test_reading_goes_on_where_it_stopped(home: Path) -> None:
    store = str(home / "store")
    damage.flip(damage.data_file(store, "ct", 0))
    every = damage.inventory(store)
    notes = Examined(store).notes
    round_ = voxel_round(store, every, notes, at_once=2)
    first = [next(round_) for _ in range(2)]
    round_.close()
    rest = list(voxel_round(store, every, notes, at_once=2))
    assert rest[0].looked_at == 4
    assert "interrupted" in rest[0].said
    assert [one.looked_at for one in rest[1:]] == [6, 8]
    codes = [one.kind.code for report in rest for one in report.findings]
    assert codes == ["unreadable"], first
    assert not notes.exists("doctor/round.json")


@pytest.mark.slow
def test_writers_at_work_lose_nothing(home: Path) -> None:
    store = str(home / "store")
    before = damage.voxels(store)
    damage_all(home)
    written: list[str] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set() and len(written) < 40:
            written.append(damage.new_volume(store, "ct", len(written)))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        fix(home, grace_s=86_400.0)
    finally:
        stop.set()
        writer.join()
    fix(home, *by_name(store, "same_image_twice", "identifiers"))
    assert written
    assert found_in(store) == []
    after = damage.voxels(store)
    assert before.items() <= after.items()
    assert {obs_id for _, obs_id in after} >= set(written)


@pytest.mark.slow
def test_a_worker_that_dies_is_tried_alone_and_the_rest_go_on() -> None:
    tasks = [damage.Dies(), damage.Lives(), damage.Full()]
    results = dict(attempts(tasks, MemoryBudget(2048), Compute(workers=2)))  # type: ignore[arg-type]
    assert [results[number].is_mended for number in range(3)] == [False, True, False]
    # neither says anything of a volume, which is not set aside for it
    assert [results[number].is_error for number in range(3)] == [True, False, True]
    assert "alone" in results[0].told
    assert "declared 64 MB" in results[0].told


KILLED = """
import sys
from pathlib import Path
from tests.doctor.test_doctor import fix
fix(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("kills", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_a_fix_that_is_killed_is_ended_by_the_same_call(home: Path, kills: int) -> None:
    store = str(home / "store")
    before = damage.voxels(store)
    expected = damage_all(home)
    random = np.random.default_rng(kills)
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(home)], cwd=ROOT)
        notes, until = home / "store.doctor" / "doctor" / "mends", time.monotonic() + 120
        while not notes.is_dir() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(float(random.uniform(0, 4)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert damage.openable(store)
    fix(home)
    left = Counter(one.kind.code for one in found_in(store))
    assert set(left) <= {"same_image_twice", "identifiers"}, expected
    fix(home, *by_name(store, *left))
    assert found_in(store) == []
    assert damage.voxels(store) == before
    assert not any(note.is_open for note in read_journal(Examined(store).notes))


def test_the_command_tells_the_same_to_people_programs_and_ci(home: Path) -> None:
    store, runner = str(home / "store"), CliRunner()
    damage.remove_array(store, "ct", 0)
    told = runner.invoke(app, ["doctor", store, "--format", "json"])
    document = json.loads(told.stdout)
    jsonschema.validate(document, dict(SCHEMA))
    assert told.exit_code == 1
    assert document["totals"] == {"missing": 1}
    assert "phantom" not in told.stdout
    checked = runner.invoke(app, ["doctor", store, "--check"])
    assert checked.exit_code == 1
    assert checked.stdout.strip().endswith("1 findings")
    assert "where" in runner.invoke(app, ["doctor", store, "--quick"]).stdout
    wrong = runner.invoke(app, ["doctor", store, "--fix", "--yes", "--delete", "missing:0123"])
    assert isinstance(wrong.exception, ConfigurationError)
    asked = runner.invoke(app, ["doctor", store, "--fix", "--source", str(home / "landing")], input="n\n")
    assert asked.exit_code == 1
    mended = runner.invoke(
        app,
        ["doctor", store, "--fix", "--yes", "--json", "--source", str(home / "landing"), "--workers", "1"],
    )
    assert mended.exit_code == 0, mended.output
    assert json.loads(mended.stdout)["mends"][0]["stage"] == "mended"
    assert isinstance(runner.invoke(app, ["doctor", str(home / "none")]).exception, ConfigurationError)
