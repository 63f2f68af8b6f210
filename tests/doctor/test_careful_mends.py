"""doctor where a mend could lose or mix up something: it leaves what it can't make safe."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.definitions import build_resources
from radiobject_assets.diagnostics.findings import Finding
from radiobject_assets.doctor.examination import examine
from radiobject_assets.doctor.examined import Beside, Examined
from radiobject_assets.doctor.mend_journal import Mended
from radiobject_assets.doctor.mending import MendOptions, mend
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.ingest.dataset_release import release_of
from radiobject_assets.ingest.plan import plan_ingest
from radiobject_assets.ingest.run import run_ingest
from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.store import RadiObject, list_snapshots, vacuum
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from tests.doctor import damage

BUDGET, COMPUTE = MemoryBudget(512), Compute(workers=1)
DATASET = """\
landing: landing
store: store
collections:
  t1w: {match: {files: "*_T1w.nii.gz"}}
  lab: {match: {files: "*_mask*.nii.gz"}, kind: labels, labels_of: t1w}
arrivals: {quiet_period_s: 0, trusted_names: "[a-z0-9-]+"}
"""


def image(path: Path, seed: int, *, labels: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 2 if labels else 900, (16, 16, 12), dtype=np.int16)
    nib.save(nib.Nifti1Image(voxels.astype(np.uint8 if labels else np.int16), np.eye(4)), path)


def ingest(home: Path, **settings: Any) -> str:
    store = str(home / "store")
    made_by = DatasetSettings.model_validate(settings)
    ingest_sources([home / "landing"], store, made_by, budget=BUDGET, compute=COMPUTE)
    return store


def found(of: Examined) -> list[Finding]:
    return [one for report in examine(of) for one in report.findings]


def mended(of: Examined, home: Path | None = None, *delete: str) -> list[Mended]:
    sources = () if home is None else (home / "landing",)
    options = MendOptions(sources=sources, workers=1, memory_mb=1024, delete=frozenset(delete))
    return mend(of, found(of), options).notes


def examined(store: str) -> Examined:
    return Examined(store, grace_s=0.0)


def beside(home: Path) -> Examined:
    resources = build_resources(load_dataset(home / "dataset.yaml"))
    return Examined(str(home / "store"), Beside(resources["dataset"], resources["storage"]), grace_s=0.0)


def ids(store: str, collection: str) -> list[str]:
    return sorted(RadiObject(store).collection(collection).obs_ids)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cohort")
    make_cohort(home / "landing", subjects=2, seed=7, shape=(48, 48, 24))
    ingest(home)
    return home


@pytest.fixture
def of_series(cohort: Path, tmp_path: Path) -> Path:
    """A store of DICOM series, and their files."""
    return Path(shutil.copytree(cohort, tmp_path / "home"))


@pytest.fixture(scope="module")
def arrived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("arrived")
    (home / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    image(home / "landing/a/sub-1_T1w.nii.gz", 1)
    image(home / "landing/a/sub-1_mask-a.nii.gz", 2, labels=True)
    image(home / "landing/a/sub-1_mask-b.nii.gz", 3, labels=True)
    settings = load_dataset(home / "dataset.yaml")
    seen = release_of(settings).scan(scan([home / "landing/a"]))
    plan = plan_ingest(seen, settings, arrival="a")
    run_ingest(plan, settings.store_uri, budget=BUDGET, compute=COMPUTE)
    return home


@pytest.fixture
def of_arrival(arrived: Path, tmp_path: Path) -> Path:
    """A data set with one arrival: an image and two labels on it."""
    return Path(shutil.copytree(arrived, tmp_path / "home"))


@pytest.mark.parametrize("is_empty", [False, True])
def test_while_the_landing_zone_is_away_nothing_is_set_aside(of_arrival: Path, is_empty: bool) -> None:
    store = str(of_arrival / "store")
    before = ids(store, "lab")
    damage.set_columns(store, "lab", 0, slope=2.0)
    (of_arrival / "landing").rename(of_arrival / "elsewhere")
    if is_empty:  # where a disk is not mounted its folder is there
        (of_arrival / "landing").mkdir()

    notes = [one for one in mended(beside(of_arrival)) if one.about.startswith("volume")]

    assert [one.stage for one in notes] == ["left"]
    assert "landing zone" in notes[0].result
    assert ids(store, "lab") == before
    assert list_snapshots(store) == []


def test_labels_that_were_deleted_do_not_come_back_with_those_beside_them(of_arrival: Path) -> None:
    store = str(of_arrival / "store")
    deleted, kept = ids(store, "lab")
    RadiObject(store).collection("lab").delete([deleted])
    damage.cut_off(damage.data_file(store, "lab", 0))
    notes = [one for one in mended(beside(of_arrival)) if one.about.startswith("volume")]
    assert [one.stage for one in notes] == ["mended"]
    assert ids(store, "lab") == [kept]
    assert not [one for one in found(beside(of_arrival)) if one.about.startswith("volume")]


def test_a_store_of_pseudonyms_is_not_mended_without_its_dataset_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADIOBJECT_PSEUDONYM_KEY", "a secret of the tests")
    for number, name in enumerate(("SmithOttokar", "DoeJane")):
        image(tmp_path / f"landing/sub-{name}_T1w.nii.gz", number)
    store = ingest(tmp_path, subjects={"key": "pseudonym"})
    (name,) = RadiObject(store).collection_names
    before = ids(store, name)
    damage.cut_off(damage.data_file(store, name, 0))
    with pytest.raises(ConfigurationError, match="--dataset"):
        mended(examined(store), tmp_path)
    assert ids(store, name) == before


def test_a_file_that_was_renamed_moves_no_volume_to_another_subject(tmp_path: Path) -> None:
    for number in (1, 2):
        image(tmp_path / f"landing/sub-0{number}_T1w.nii.gz", number)
    store = ingest(tmp_path)
    (name,) = RadiObject(store).collection_names
    before = damage.voxels(store), RadiObject(store).obs_subject_ids
    number = next(k for k, row in enumerate(damage.rows(store, name)) if row["obs_subject_id"][-1] == "1")
    damage.flip(damage.data_file(store, name, number))
    (tmp_path / "landing/sub-01_T1w.nii.gz").rename(tmp_path / "landing/sub-77_T1w.nii.gz")
    assert [one.stage for one in mended(examined(store), tmp_path)] == ["mended"]
    assert (damage.voxels(store), RadiObject(store).obs_subject_ids) == before
    assert damage.rows(store, name)[number]["obs_subject_id"][-1] == "1"


def test_a_row_that_was_given_to_another_subject_is_that_of_its_files_again(tmp_path: Path) -> None:
    for number in (1, 2):
        image(tmp_path / f"landing/sub-0{number}_T1w.nii.gz", number)
    store = ingest(tmp_path)
    (name,) = RadiObject(store).collection_names
    before = damage.voxels(store), RadiObject(store).obs_subject_ids
    owner, other = (row["obs_subject_id"] for row in damage.rows(store, name))
    damage.give_to(store, name, 0, other)
    assert [one.evidence for one in found(examined(store))] == ["it is another subject's"]
    assert [one.stage for one in mended(examined(store), tmp_path)] == ["mended"]
    assert (damage.voxels(store), RadiObject(store).obs_subject_ids) == before
    assert [row["obs_subject_id"] for row in damage.rows(store, name)] == [owner, other]
    assert list_snapshots(store) == []
    assert [one.kind.code for one in found(examined(store))] == ["orphan_array"]  # until vacuum


def test_a_volume_whose_series_another_subject_has_too_is_kept_when_it_is_set_aside(of_series: Path) -> None:
    store = str(of_series / "store")
    rows = damage.rows(store, "ct")
    other = next(k for k, row in enumerate(rows) if row["obs_subject_id"] != rows[0]["obs_subject_id"])
    damage.set_columns(store, "ct", other, series_uid=rows[0]["series_uid"])
    damage.set_columns(store, "ct", 0, spacing_x_mm=9.0)
    damage.orphan(store, "ct")

    notes = [one for one in mended(examined(store), of_series) if one.kind == "geometry"]

    assert {one.stage for one in notes} == {"left"}
    aside = [one.name for one in list_snapshots(store)]
    assert [name for name in aside if name in notes[-1].result] == aside
    vacuum(store, grace_s=0)
    volume = RadiObject(store, timestamp=aside[0]).collection("ct").loc[rows[0]["obs_id"]]
    assert volume.to_numpy().any()


@pytest.mark.slow
def test_of_two_copies_the_sound_one_is_not_deleted(of_series: Path) -> None:
    store = str(of_series / "store")
    name = next(one for one in RadiObject(store).collection_names if one not in ("ct", "seg"))
    damage.copy_under_another_id(store, name, 0)
    (twice,) = found(examined(store))
    number = [row["obs_id"] for row in damage.rows(store, name)].index(twice.obs_id)
    before = ids(store, name)
    damage.cut_off(damage.data_file(store, name, number))
    by_name = f"same_image_twice:{twice.id}"

    every = found(examined(store))
    assert {one.kind.code for one in every} == {"same_image_twice", "unreadable"}
    refuse = MendOptions(delete=frozenset({by_name}), agrees=lambda kind, found: False)
    (note,) = mend(examined(store), every, refuse).notes
    assert note.stage == "left"
    assert ids(store, name) == before
    quick = MendOptions(delete=frozenset({by_name}), agrees=lambda kind, found: False, voxels_read=False)
    (note,) = mend(examined(store), [twice], quick).notes
    assert note.stage == "left"
    assert ids(store, name) == before

    assert "mended" in {one.stage for one in mended(examined(store), of_series)}
    (twice,) = found(examined(store))  # the damaged one has another array now
    by_name = f"same_image_twice:{twice.id}"
    assert {one.stage for one in mended(examined(store), of_series, by_name)} == {"mended"}
    assert len(ids(store, name)) == len(before) - 1
    assert found(examined(store)) == []


def test_a_volume_of_a_series_that_two_subjects_have_is_read_as_well(of_series: Path) -> None:
    store = str(of_series / "store")
    rows = damage.rows(store, "ct")
    other = next(k for k, row in enumerate(rows) if row["obs_subject_id"] != rows[0]["obs_subject_id"])
    damage.set_columns(store, "ct", other, series_uid=rows[0]["series_uid"])
    damage.cut_off(damage.data_file(store, "ct", 0))
    assert {one.kind.code for one in found(examined(store))} == {"same_series_twice", "unreadable"}


def test_an_affine_that_cannot_be_inverted_ends_no_examination_of_its_labels(of_series: Path) -> None:
    store = str(of_series / "store")
    labelled = {row["labels_of"] for row in damage.rows(store, "seg")}
    number = next(k for k, row in enumerate(damage.rows(store, "ct")) if row["obs_id"] in labelled)
    nothing = {f"affine_{i}{j}": 0.0 for i in range(3) for j in range(3)}
    damage.set_columns(store, "ct", number, **nothing)
    codes = {one.kind.code for one in found(examined(store))}
    assert "geometry" in codes
    assert "labels_on_grid" in codes


def test_what_is_kept_of_a_round_and_cannot_be_read_is_begun_anew(of_series: Path) -> None:
    store = str(of_series / "store")
    for kept in ("[]", "{}", '{"at": 4e12, "last": "ff", "findings": [["missing", "volume 1"]]}'):
        examined(store).notes.write("doctor/round.json", kept.encode())
        assert found(examined(store)) == []
