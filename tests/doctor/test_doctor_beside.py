"""doctor on what is beside a store: profiles, patch caches, pictures, notes and tables of a data set."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from typer.testing import CliRunner

from radiobject_assets.cli.commands import app
from radiobject_assets.curation.divided_snapshot import divide_snapshot
from radiobject_assets.curation.kept import keep_snapshot
from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.definitions import build_resources
from radiobject_assets.diagnostics.findings import Finding
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.doctor.examination import examine
from radiobject_assets.doctor.examined import Beside, Examined
from radiobject_assets.doctor.mending import MendOptions, mend
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.platform.headless import open_instance
from radiobject_assets.profiling.kept_profiles import keep_profiles
from radiobject_assets.resources import WorkingTables
from radiobject_assets.store import RadiObject, create_snapshot
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.training.cache.build import build_patch_cache
from tests.doctor import damage
from tests.platform.small_home import QUIET, Home

DATASET = """\
landing: landing
store: store
collections:
  ct: {match: {modality: CT}}
  seg: {match: {modality: SEG}, kind: labels, labels_of: ct}
  t1w: {match: {files: "*_T1w.nii.gz"}}
arrivals: {quiet_period_s: 0, trusted_names: "[a-z0-9-]+"}
split: {fractions: {train: 0.5, test: 0.5}}
patches: {image: ct, labels: seg, size_voxels: [16, 16, 8], per_volume: 4, foreground_fraction: 0.5}
"""


def beside(home: Path) -> Beside:
    resources = build_resources(load_dataset(home / "dataset.yaml"))
    return Beside(resources["dataset"], resources["storage"])


def tables(home: Path) -> WorkingTables:
    one = beside(home)
    return one.dataset.tables(one.storage)


def examined(home: Path) -> Examined:
    return Examined(str(home / "store"), beside(home), grace_s=0.0)


def found_in(home: Path, *, voxels: bool = False) -> list[Finding]:
    return [one for report in examine(examined(home), voxels=voxels) for one in report.findings]


def fix(home: Path, *delete: str) -> None:
    options = MendOptions(workers=1, memory_mb=1024, delete=frozenset(delete))
    mend(examined(home), found_in(home, voxels=True), options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects in a store, and what is made of them, by the functions that the assets call."""
    home = tmp_path_factory.mktemp("beside")
    make_cohort(home / "landing", subjects=2, seed=7, shape=(48, 48, 24))
    (home / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    settings = load_dataset(home / "dataset.yaml")
    uri = settings.store_uri
    ingest_sources([home / "landing"], uri, settings, budget=MemoryBudget(512), compute=Compute(workers=1))
    one = create_snapshot(uri, "snapshot-1")
    kept = tables(home)
    note = {
        "name": one.name, "timestamp_ms": one.timestamp_ms, "digest": one.digest,
        "counts": dict(one.counts), "distrusted_arrivals": [],
    }  # fmt: skip
    kept.put_text(kept.snapshot, json.dumps(note))
    divided = divide_snapshot(settings, one.name, known=None)
    kept.put_frame(kept.splits, divided.kept)
    keep_profiles(kept.storage, uri, read_inventory(uri))
    keep_snapshot(kept.storage, uri, one.name, settings=settings)
    assert settings.patches is not None
    for split in settings.split.shares:
        mine = divided.kept.loc[divided.kept["split"] == split, "obs_subject_id"].tolist()
        build_patch_cache(
            uri, snapshot=one.name, subjects=mine, patches=settings.patches,
            out_dir=home / "work" / "patches" / split, budget=MemoryBudget(256), allow_empty=True,
        )  # fmt: skip
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


def test_what_is_sound_beside_a_store_has_nothing(made: Path) -> None:
    assert found_in(made) == []


def test_what_is_derived_is_found_once_and_made_again(home: Path) -> None:
    work, kept = home / "work", tables(home)
    damage.cut_off(next((work / "profile" / "ct").glob("*.signatures.parquet")))
    caches = sorted((work / "patches").glob("*/patches-*"))
    damage.cut_off(next(caches[0].glob("*.image.npy")))
    damage.flip(next(caches[1].glob("*.image.npy")))
    shutil.copytree(caches[0].parent, work / "patches" / "fold_7")  # of settings that were changed since
    picture = work / "previews" / "ct" / "gone.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"\x89PNG")
    kept.put_text(kept.snapshot, kept.text(kept.snapshot).replace("snapshot-1", "snapshot-9"))
    kept.put_text(f"arrivals/nobody/{'x' * 4}.json", "{}")
    (work / "verified").mkdir()
    (work / "verified" / "ct.parquet").write_bytes(b"")  # a disk that was full
    stale = next((work / "manifests").glob("*.jsonl"))
    shutil.copy(stale, stale.with_name("0123456789abcdef.jsonl"))

    found = found_in(home)

    assert Counter((one.kind.code, one.about.split(" ")[0]) for one in found) == {
        ("derived_invalid", "profile"): 1,
        ("derived_invalid", "patch"): 1,
        ("patches_damaged", "patch"): 1,
        ("derived_orphaned", "patch"): 1,
        ("derived_orphaned", "picture"): 1,
        ("pin_broken", "note"): 1,
        ("derived_orphaned", "tables"): 1,
        ("derived_invalid", "table"): 1,
        ("derived_orphaned", "manifest"): 1,
    }
    fix(home)
    assert found_in(home, voxels=True) == []
    assert "snapshot-1" in kept.text(kept.snapshot)
    assert (work / "doctor" / "aside" / "verified" / "ct.parquet").exists()


@pytest.mark.slow
def test_profiles_of_earlier_volumes_are_made_anew_and_no_others(home: Path) -> None:
    store = str(home / "store")
    part = next((home / "work" / "profile" / "t1w").glob("*[0-9a-f].parquet"))
    rows = pd.read_parquet(part)
    rows["state"] = ["another", *rows["state"].iloc[1:]]
    rows.to_parquet(part)
    assert [(one.kind.code, one.collection) for one in found_in(home)] == [("derived_stale", "t1w")]
    others = {path: path.stat().st_mtime_ns for path in (home / "work" / "profile" / "ct").iterdir()}
    fix(home)
    assert found_in(home) == []
    assert all(path.stat().st_mtime_ns == at for path, at in others.items())
    assert len(RadiObject(store).collection("t1w")) == len(rows)


@pytest.mark.slow
def test_a_subject_in_two_splits_is_told_and_put_right_by_name(home: Path) -> None:
    kept = tables(home)
    was = kept.frame(kept.splits)
    kept.put_frame(kept.splits, damage.twice(was))
    twice = [one for one in found_in(home) if one.kind.code == "subject_in_two_splits"]
    assert len(twice) == 1
    fix(home)
    assert kept.frame(kept.splits)["obs_subject_id"].duplicated().any()
    fix(home, f"subject_in_two_splits:{twice[0].id}")
    assert found_in(home) == []
    after = kept.frame(kept.splits)
    pd.testing.assert_frame_equal(after.sort_values("obs_subject_id", ignore_index=True), was)


@pytest.mark.slow
def test_in_dagster_the_job_tells_it_on_the_page_of_dataset_and_mends_what_came_with_arrivals(
    tmp_path: Path,
) -> None:
    make_cohort(tmp_path / "landing", subjects=4, seed=7, shape=(48, 48, 24))
    (tmp_path / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    home = Home(tmp_path)
    assert not home.run_pass().failed
    store = home.store_uri
    before = damage.voxels(store)
    assert found_in(tmp_path, voxels=True) == []
    damage.remove_array(store, "ct", 0)
    damage.set_columns(store, "seg", 0, affine_03=500.0)
    damage.cut_off(next((tmp_path / "work" / "arrivals").glob("*/scan.parquet")))
    damage.cut_off(next((tmp_path / "work" / "previews").rglob("*.png")))
    told = run_job(home, fix=False)
    assert told["findings"] == 4
    assert "phantom" not in str(told)
    mended = run_job(home, fix=True)
    assert mended["findings"] == 0
    assert damage.voxels(store) == before
    assert found_in(tmp_path, voxels=True) == []
    about_volumes = ("store_is_whole", "rows_and_snapshots", "volumes_verified", "images_once")
    assert [
        one.check_name for one in home.standing() if one.check_name in about_volumes and not one.passed
    ] == []


def run_job(home: Home, *, fix: bool) -> dict[str, object]:
    job = home.definitions().resolve_job_def("doctor")
    config = {**QUIET, "ops": {"examine_data_set": {"config": {"fix": fix}}}}
    with open_instance(home.folder / "dagster") as instance:
        assert job.execute_in_process(instance=instance, run_config=config).success
        (seen,) = instance.fetch_observations(dg.AssetKey("dataset"), limit=1).records
        observation = seen.asset_observation
        assert observation is not None
        return {name: value.value for name, value in observation.metadata.items()}


def test_the_command_leaves_alone_for_as_long_as_dataset_yaml_says(home: Path) -> None:
    description = home / "dataset.yaml"
    description.write_text(DATASET + "upkeep: {keep_arrays_hours: 720}\n", encoding="utf-8")
    damage.staged_file(home / "store" / "tmp")
    call = ["doctor", str(home / "store"), "--dataset", str(description), "--quick", "--json"]
    told = json.loads(CliRunner().invoke(app, call).stdout)
    assert "left_overs" not in told["totals"]
    told = json.loads(CliRunner().invoke(app, [*call, "--grace-hours", "24"]).stdout)
    assert told["totals"]["left_overs"] == 1
