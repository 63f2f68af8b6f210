"""Deliveries that share a partition and a run, in real passes: what is in the store does not tell."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from typer.testing import CliRunner

from radiobject_assets.cli.commands import app
from radiobject_assets.definitions import build_definitions
from radiobject_assets.forgetting.forget import forget_person
from radiobject_assets.landing.local_zone import arrival_key
from radiobject_assets.phantom.cohort import make_ct_series
from radiobject_assets.platform.arrivals.arrival_table import ArrivalTable
from radiobject_assets.platform.assets.collections import unsound
from radiobject_assets.platform.headless import Pass, open_instance, run_pass
from radiobject_assets.resources import WorkingTables
from radiobject_assets.store import RadiObject, forgetting_key, open_storage
from tests.forgetting.house import Home

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (16, 16, 3)
DATASET = """\
landing: landing
store: store
collections:
  ct: {{match: {{modality: CT}}}}
  nii: {{match: {{files: "*.nii.gz"}}}}
subjects: {{file_name: "(?P<subject>sub-[0-9]+)_.*"}}
arrivals: {{quiet_period_s: 0, retry_after_s: [0.1], share_run: {share_run}}}
"""


def make(home: Path, share_run: int = 100) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    (home / "dataset.yaml").write_text(DATASET.format(share_run=share_run), encoding="utf-8")
    (home / "landing").mkdir(exist_ok=True)
    return home


def deliver_ct(home: Path, name: str, seed: int) -> Path:
    folder = home / "landing" / name
    make_ct_series(folder / "ct", shape=SHAPE, seed=seed)
    for path in (folder / "ct").iterdir():  # two series a person
        with pydicom.dcmread(path) as read:
            read.PatientID = f"person-{seed // 2}"
            read.save_as(path)
    return folder


def deliver_nifti(home: Path, name: str, subject: str, value: int) -> Path:
    path = home / "landing" / name / f"{subject}_scan.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a file that is written over in its place is looked at a minute later
    image: Any = nib.Nifti1Image(np.full((8, 8, 8), value, np.int16), np.eye(4))  # type: ignore[no-untyped-call]  # nibabel
    nib.save(image, path)
    return path


def one_pass(home: Path) -> Pass:
    with open_instance(home / "dagster") as instance:
        return run_pass(build_definitions(home / "dataset.yaml"), instance)


def content(home: Path) -> dict[str, list[Any]]:
    """All rows but for when and under which token they were written."""
    store = RadiObject(str(home / "store"))
    left_out = ["volume", "written_at", "stored_bytes", "index_digest"]
    return {
        name: store.collection(name)
        .to_obs()
        .reset_index()
        .drop(columns=left_out)
        .sort_values("obs_id")
        .astype(str)
        .to_dict("records")
        for name in store.collection_names
    }


def tokens_of(home: Path) -> dict[str, str]:
    obs = RadiObject(str(home / "store")).collection("nii").to_obs().reset_index()
    return dict(zip(obs["obs_id"].astype(str), obs["volume"].astype(str), strict=True))


def rows_of(home: Path) -> ArrivalTable:
    return ArrivalTable(WorkingTables(open_storage(str(home / "work"))))


def key_of(name: str) -> str:
    return arrival_key(name, None)


def metadata_of(home: Path, asset: str) -> dict[str, Any]:
    with open_instance(home / "dagster") as instance:
        made = instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert made is not None
        assert made.asset_materialization is not None
        return {name: value.value for name, value in made.asset_materialization.metadata.items()}


def test_the_store_is_the_same_whether_arrivals_share_a_run_or_not(tmp_path: Path) -> None:
    homes = [make(tmp_path / "shared"), make(tmp_path / "apart", share_run=1)]
    for number in range(4):
        deliver_ct(homes[0], f"Doe^Jane {number}", seed=number)
    # the same series once more, the same person with two images under one name, and one name for two
    shutil.copytree(homes[0] / "landing" / "Doe^Jane 1", homes[0] / "landing" / "again")
    deliver_nifti(homes[0], "first", "sub-01", 3)
    deliver_nifti(homes[0], "second", "sub-01", 4)
    deliver_nifti(homes[0], "third", "sub-02", 5)
    shutil.copytree(homes[0] / "landing", homes[1] / "landing", dirs_exist_ok=True)
    done = [one_pass(home) for home in homes]
    shared, apart = done
    assert (len(shared.arrivals), len(apart.arrivals)) == (1, 8)
    assert not [*shared.failed, *apart.failed]
    assert content(homes[0]) == content(homes[1])
    assert {name: len(rows) for name, rows in content(homes[0]).items()} == {"ct": 4, "nii": 3}
    assert shared.arrivals[0].what.endswith("-001")
    assert not rows_of(homes[0]).rows.keys() & {shared.arrivals[0].what}
    assert "Doe" not in json.dumps([run.what for run in shared.runs])
    assert one_pass(homes[0]).runs == ()


def test_an_arrival_that_fails_by_itself_is_tried_alone_and_the_others_are_in(tmp_path: Path) -> None:
    home = make(tmp_path)
    for number in range(3):
        deliver_ct(home, f"d{number}", seed=number)
    bad = home / "landing" / "d1" / "participants.tsv"
    bad.write_bytes(b"\x00garbage\tx\n1\n")
    done = one_pass(home)
    (partition,) = {run.what for run in done.arrivals}
    assert [run.succeeded for run in done.arrivals][:2] == [False, True]
    assert not done.arrivals[-1].succeeded
    assert key_of("d1") in done.arrivals[0].problem
    rows = rows_of(home).rows
    assert [rows[key_of(f"d{n}")].is_achieved for n in range(3)] == [True, False, True]
    assert {row.partition for row in rows.values()} == {partition}
    listed = CliRunner().invoke(app, ["arrivals", "--dataset", str(home / "dataset.yaml"), "--json"])
    told = {line["arrival"]: line for line in json.loads(listed.stdout)["arrivals"]}
    assert told[key_of("d1")]["folder"].endswith("/d1")
    assert told[key_of("d1")]["state"] in ("tried again", "given up")
    assert told[key_of("d0")]["state"] == "taken in"
    assert told[key_of("d0")]["partition"] == partition
    bad.unlink()
    assert all(run.succeeded for run in one_pass(home).arrivals)
    assert all(row.is_achieved for row in rows_of(home).rows.values())


@pytest.mark.slow
def test_one_that_changes_later_is_read_alone_and_what_it_shares_a_partition_with_stays(
    tmp_path: Path,
) -> None:
    home = make(tmp_path)
    for number in range(3):
        deliver_nifti(home, f"d{number}", f"sub-{number:02d}", number + 1)
    (first,) = one_pass(home).arrivals
    before = tokens_of(home)
    deliver_nifti(home, "d1", "sub-01", 9)
    deliver_nifti(home, "d3", "sub-03", 7)
    done = {run.what: run.succeeded for run in one_pass(home).arrivals}
    assert done == {first.what: True, first.what.replace("-001", "-002"): True}
    after = tokens_of(home)
    changed = [obs_id for obs_id, token in before.items() if after[obs_id] != token]
    assert len(changed) == 1
    assert "sub-01" in changed[0]
    shutil.rmtree(home / "landing" / "d0")
    one_pass(home)
    listed = CliRunner().invoke(app, ["arrivals", "--dataset", str(home / "dataset.yaml"), "--json"])
    told = {line["arrival"]: line["state"] for line in json.loads(listed.stdout)["arrivals"]}
    assert told == {
        key_of("d0"): "vanished",
        **{key_of(f"d{number}"): "taken in" for number in (1, 2, 3)},
    }
    # its partition is deleted on purpose: those that share it come back, and nothing is run again
    with open_instance(home / "dagster") as instance:
        instance.delete_dynamic_partition("arrivals", first.what)
    assert one_pass(home).arrivals == ()
    assert set(rows_of(home).rows) == {key_of(f"d{number}") for number in (1, 2, 3)}
    with open_instance(home / "dagster") as instance:
        assert first.what in instance.get_dynamic_partitions("arrivals")


@pytest.mark.slow
def test_a_doubt_about_one_arrival_stays_when_another_of_its_partition_is_checked(tmp_path: Path) -> None:
    home = make(tmp_path)
    for number in range(3):
        deliver_nifti(home, f"d{number}", f"sub-{number:02d}", number + 1)
    one_pass(home)
    store = RadiObject(str(home / "store")).collection("nii").to_obs()
    token = store.loc[store["arrival"] == key_of("d0"), "volume"].iloc[0]
    shutil.rmtree(home / "store" / "collections" / "nii" / "volumes" / token)
    tables = WorkingTables(open_storage(str(home / "work")))
    (partition,) = {row.partition for row in rows_of(home).rows.values()}
    job = build_definitions(home / "dataset.yaml").resolve_implicit_global_asset_job_def()
    checks = {dg.AssetCheckKey(dg.AssetKey("nii"), "integrity")}
    with open_instance(home / "dagster") as instance:
        job.get_subset(asset_selection=set(), asset_check_selection=checks).execute_in_process(
            instance=instance, partition_key=partition, raise_on_error=False
        )
    assert unsound(tables, "nii") == {key_of("d0")}
    deliver_nifti(home, "d1", "sub-01", 9)
    done = one_pass(home)
    assert [run.succeeded for run in done.arrivals] == [True]
    assert unsound(tables, "nii") == {key_of("d0")}
    splits = pd.read_parquet(home / "work" / "splits.parquet")
    assert "sub-00" not in set(splits.loc[splits["is_current"].astype(bool), "obs_subject_id"])
    # somebody materializes the partition: all of it is made sound
    with open_instance(home / "dagster") as instance:
        made = (
            build_definitions(home / "dataset.yaml")
            .resolve_job_def("process_arrival")
            .execute_in_process(instance=instance, partition_key=partition, raise_on_error=False)
        )
    assert made.success
    assert metadata_of(home, "raw_dicom")["arrivals_of_this_run"] == 3
    assert unsound(tables, "nii") == set()


PASS = """
import sys, warnings; warnings.simplefilter("ignore")
from pathlib import Path
from tests.platform.test_shared_partitions import one_pass
one_pass(Path(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("share_run", [100, pytest.param(1, marks=pytest.mark.slow)])
def test_a_copy_keeps_its_volume_when_its_original_is_replaced_in_the_same_run(
    tmp_path: Path, share_run: int
) -> None:
    home = make(tmp_path, share_run)
    copy, original = sorted(["one", "two"], key=lambda name: arrival_key(name, None))
    moved = deliver_nifti(home, original, "sub-01", 3)
    deliver_nifti(home, copy, "sub-02", 9)
    assert one_pass(home).failed == ()
    moved.rename(home / "landing" / copy / moved.name)
    deliver_nifti(home, original, "sub-01", 5)
    assert one_pass(home).failed == ()
    volumes = RadiObject(str(home / "store")).collection("nii")
    rows = volumes.to_obs().reset_index()
    held = {(row.obs_subject_id, int(volumes.loc[row.obs_id][:].max())) for row in rows.itertuples()}
    assert held == {("sub-01", 3), ("sub-01", 5), ("sub-02", 9)}


@pytest.mark.slow
@pytest.mark.parametrize("share_run", [100, pytest.param(1, marks=pytest.mark.slow)])
def test_a_series_that_came_twice_follows_other_settings_without_a_conflict(
    tmp_path: Path, share_run: int
) -> None:
    home = make(tmp_path, share_run)
    folder = deliver_ct(home, "one", 1)
    shutil.copytree(folder, home / "landing" / "two")
    assert one_pass(home).failed == ()
    text = (home / "dataset.yaml").read_text(encoding="utf-8")
    (home / "dataset.yaml").write_text(
        text.replace("subjects: {", "subjects: {key: study, "), encoding="utf-8"
    )
    assert one_pass(home).failed == ()
    assert len(RadiObject(str(home / "store")).collection("ct")) == 1
    tables = WorkingTables(open_storage(str(home / "work")))
    for name in ("one", "two"):
        outcomes = tables.frame(tables.outcomes(arrival_key(name, None), "ct"))
        assert "subject_conflict" not in set(outcomes["reason"].dropna())


@pytest.mark.slow
def test_passes_that_are_killed_at_random_lose_nothing_and_take_nothing_in_twice(tmp_path: Path) -> None:
    chance, kills = random.Random(7), 2
    home = make(tmp_path, share_run=4)
    for number in range(6):
        deliver_ct(home, f"d{number}", seed=number)
    for number in range(kills):
        killed = subprocess.Popen([sys.executable, "-c", PASS, str(home)], cwd=ROOT)
        began = time.monotonic()
        while killed.poll() is None and not is_asked(home):
            time.sleep(0.2)  # the imports are of no interest
            assert time.monotonic() - began < 600
        time.sleep(chance.uniform(0, 15))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        deliver_ct(home, f"late {number}", seed=100 + number)
    for _ in range(2):
        one_pass(home)
    rows = rows_of(home).rows
    assert len(rows) == 6 + kills
    assert all(row.is_achieved for row in rows.values())
    obs = RadiObject(str(home / "store")).collection("ct").to_obs()
    assert sorted(obs["arrival"]) == sorted(rows)
    assert one_pass(home).runs == ()


def is_asked(home: Path) -> bool:
    return any(row.asked for row in rows_of(home).rows.values())


@pytest.mark.slow
def test_somebody_who_shares_a_partition_is_forgotten_and_the_others_stay(tmp_path: Path) -> None:
    home = make(tmp_path)
    for number in range(3):
        deliver_ct(home, f"d{number}", seed=2 * number)
    (run,) = one_pass(home).arrivals
    before = {row["obs_subject_id"]: row["voxel_digest"] for row in content(home)["ct"]}
    with Home(home).house() as house:
        done = forget_person(house, forgetting_key(str(home / "store")).mark("person-1"), landing=True)
    assert done.volumes == 1
    assert done.runs == 2  # in which all of them came, and whose profile named a volume of theirs
    after = {row["obs_subject_id"]: row["voxel_digest"] for row in content(home)["ct"]}
    assert after == {subject: digest for subject, digest in before.items() if subject != "person-1"}
    for path in (home / "dagster").rglob("*"):
        assert path.is_dir() or b"person-1" not in path.read_bytes()
    with open_instance(home / "dagster") as instance:
        assert instance.get_dynamic_partitions("arrivals") == [run.what]
        assert instance.get_materialized_partitions(dg.AssetKey("ct")) == {run.what}
    # what is there of the others is not taken in anew
    assert one_pass(home).arrivals == ()
    assert set(rows_of(home).rows) == {key_of("d0"), key_of("d2")}
