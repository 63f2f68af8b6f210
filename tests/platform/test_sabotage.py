"""Damage of every sort is found by a check that says what, where and how to mend it; health is green.

Each test damages a copy of a small home, and evaluates the checks as Dagster does.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.diagnostics.verification_portions import Progress, unsound_arrivals, verify_portion
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.headless import open_instance
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource
from radiobject_assets.store import RadiObject, commit_volumes, ensure_collection, stage_volume, update_obs
from radiobject_assets.training.cache.verify import compare_digests
from tests.platform.small_home import DATASET, Home, restore


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home of two arrivals that was run, as a copy and the place that it belongs to."""
    place = tmp_path_factory.mktemp("sabotage") / "home"
    (place / "landing").mkdir(parents=True)
    (place / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    for arrival, number in (("one", 4), ("two", 5)):
        make_subject(place / "landing", number, arrival=arrival, shape=(48, 48, 24))
    done = Home(place).run_pass()
    assert done.failed == ()
    copy = place.with_name("pristine")
    shutil.copytree(place, copy)
    return copy, place


@pytest.fixture
def home(pristine: tuple[Path, Path]) -> Home:
    return restore(*pristine)


def found(
    evaluation: dg.AssetCheckEvaluation, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> str:
    """The text of a failed check."""
    assert not evaluation.passed
    assert evaluation.severity == severity
    assert "phantom" not in (evaluation.description or "")
    return evaluation.description or ""


def change_row(home: Home, name: str, **values: object) -> None:
    """Change the first row of a collection through the store's own API."""
    row = home.obs(name)[0]
    uri = f"{home.store_uri}/collections/{name}"
    update_obs(uri, {(str(row["obs_subject_id"]), str(row["obs_id"])): values})


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_what_is_healthy_is_green_each_time(home: Home, rounds: int) -> None:
    for _ in range(rounds):
        assert [(one.check_name, one.description) for one in home.standing() if not one.passed] == []
    for asset in ("series", "ct", "seg", "dataset", "splits", "patch_cache"):
        evaluated = home.check(asset)
        assert evaluated
        assert [(name, one.description) for name, one in evaluated.items() if not one.passed] == []


def test_a_deleted_array_is_found(home: Home) -> None:
    shutil.rmtree(home.array("ct"))
    text = found(home.check("dataset", "store_is_whole")["store_is_whole"])
    assert "array that is not there" in text
    assert "materialize ct for the partition one again" in text
    assert "array that is not there" in found(home.check("ct", "volumes_verified")["volumes_verified"])


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x01
    path.write_bytes(bytes(content))


def test_a_byte_flipped_in_voxels_is_found_and_mended_by_the_mend(home: Home) -> None:
    data = max(home.array("ct").rglob("*.tdb"), key=lambda path: path.stat().st_size)
    flip(data, data.stat().st_size // 2)
    text = found(home.check("ct", "volumes_verified")["volumes_verified"])
    assert "materialize ct for the partition one again" in text
    assert home.materialize("ct", partition="one")
    assert home.check("ct", "volumes_verified")["volumes_verified"].passed


def test_a_byte_flipped_in_a_table_is_named_and_the_advice_is_right(home: Home) -> None:
    segment = next((home.folder / "store" / "collections" / "ct" / "obs").glob("*.parquet"))
    flip(segment, segment.stat().st_size // 2)
    text = found(home.check("dataset", "store_is_whole")["store_is_whole"])
    assert segment.name in text
    assert "backup" in text
    for asset, name in (("dataset", "read_performance"), ("splits", "no_leakage")):
        passed, told = home.told_by_a_new_process(asset, name)
        assert not passed
        assert "restore it from a backup" in told
        assert "one person" not in told
        assert "nothing is wrong" not in told.lower()


def test_swapped_arrays_are_found(home: Home) -> None:
    one, two = home.array("ct", 0), home.array("ct", 1)
    one.rename(one.with_name("aside"))
    two.rename(one)
    one.with_name("aside").rename(two)
    text = found(home.check("ct", "volumes_verified")["volumes_verified"])
    assert "belongs to another volume" in text or "not what was written" in text or "can't be read" in text


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"affine_03": 1030.0}, "affine is not that of its array"),
        ({"affine_00": "mirrored"}, "affine is not that of its array"),
        ({"slope": 2.0}, "slope 2"),
        ({"series_uid": "1.2.3"}, "provenance changed since"),
        ({"study_uid": "1.2.3"}, "provenance changed since"),
        ({"source_digest": "another"}, "provenance changed since"),
    ],
    ids=["moved", "mirrored", "rescaled", "series", "study", "source"],
)
def test_a_row_that_was_changed_is_found_although_nothing_contradicts_it(
    home: Home, changed: dict[str, object], word: str
) -> None:
    # no label lies on it any more that would contradict
    seg = RadiObject(home.store_uri).collection("seg")
    seg.delete(seg.obs_ids)
    row = home.obs("ct")[0]
    values = {
        name: -float(str(row[name])) if value == "mirrored" else value for name, value in changed.items()
    }
    change_row(home, "ct", **values)
    text = found(home.check("ct", "volumes_verified")["volumes_verified"])
    assert word in text
    assert "materialize ct for the partition one again" in text
    assert home.materialize("ct", partition="one")
    assert home.check("ct", "volumes_verified")["volumes_verified"].passed
    assert {k: v for k, v in home.obs("ct")[0].items() if k in changed} == {k: row[k] for k in changed}


def test_a_ct_moved_under_its_label_is_found(home: Home) -> None:
    change_row(home, "ct", affine_03=1030.0)
    text = found(home.check("dataset", "store_is_whole")["store_is_whole"])
    assert "labels do not lie on their image" in text


@pytest.mark.parametrize("what", ["row", "array"])
def test_labels_that_are_gone_are_found(home: Home, what: str) -> None:
    if what == "array":
        shutil.rmtree(home.array("seg"))
        text = found(home.check("dataset", "store_is_whole")["store_is_whole"])
        assert "array that is not there" in text
        return
    seg = RadiObject(home.store_uri).collection("seg")
    seg.delete(seg.obs_ids[:1])
    text = found(home.check("seg", "volumes_verified")["volumes_verified"])
    assert "not in the store any more" in text
    assert "materialize seg for the partition one again" in text
    assert home.materialize("dataset")
    text = found(home.check("dataset", "labels_complete")["labels_complete"], dg.AssetCheckSeverity.WARN)
    assert "1 of 2: no_labels" in json.dumps(
        _table(home.check("dataset", "labels_complete")["labels_complete"])
    )
    assert home.materialize("seg", partition="one")
    assert home.check("seg", "volumes_verified")["volumes_verified"].passed


def _table(evaluation: dg.AssetCheckEvaluation) -> list[dict[str, object]]:
    value = evaluation.metadata["found"]
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


def test_an_unsound_arrival_is_kept_out_of_the_next_splits(home: Home) -> None:
    change_row(home, "ct", slope=2.0)
    found(home.check("ct", "volumes_verified")["volumes_verified"])
    assert home.materialize("dataset")
    assert home.materialize("splits")
    kept = pd.read_parquet(home.folder / "work" / "splits.parquet")
    assert list(kept.loc[kept["is_current"], "obs_subject_id"]) == ["phantom-005"]


def test_an_orphan_array_is_told_as_a_warning(home: Home) -> None:
    orphan = home.array("ct").with_name("f" * 32)
    shutil.copytree(home.array("ct"), orphan)
    for schema in (orphan / "__schema").glob("__[0-9]*"):  # as if its writer had died yesterday
        old = schema.name.strip("_").split("_")[0]
        schema.rename(schema.with_name(schema.name.replace(old, str(int(old) - 86_400_000))))
    text = found(home.check("dataset", "store_is_whole")["store_is_whole"], dg.AssetCheckSeverity.WARN)
    assert "no row names" in text
    assert "vacuum" in text


def test_a_table_of_splits_that_was_changed_is_found_with_the_right_advice(home: Home) -> None:
    path = home.folder / "work" / "splits.parquet"
    rows = pd.read_parquet(path)
    pd.concat([rows, rows.head(1).assign(split="test")]).to_parquet(path)
    text = found(home.check("splits", "no_leakage")["no_leakage"])
    assert "a subject is in two splits" in text
    assert "splits.parquet" in text


@pytest.mark.parametrize(
    ("file", "asset", "name", "severity", "words"),
    [
        (
            *("splits.parquet", "splits", "no_leakage", dg.AssetCheckSeverity.ERROR),
            ("table of splits is not there", "Materialize splits"),
        ),
        (
            *("snapshot.json", "dataset", "read_performance", dg.AssetCheckSeverity.WARN),
            ("no snapshot is known", "Materialize dataset"),
        ),
    ],
)
def test_a_deleted_table_is_told_with_what_makes_it_again(
    home: Home, file: str, asset: str, name: str, severity: dg.AssetCheckSeverity, words: tuple[str, ...]
) -> None:
    (home.folder / "work" / file).unlink()
    text = found(home.check(asset, name)[name], severity)
    assert all(word in text for word in words)


def test_reads_that_became_slower_than_the_machine_explains_are_told(home: Home) -> None:
    kept = home.folder / "work" / "read_performance.json"
    for _ in range(2):
        assert home.check("dataset", "read_performance")["read_performance"].passed
    past = json.loads(kept.read_text())
    assert len(past["ct"]["times_plain_read"]) >= 2
    past["ct"]["times_plain_read"] = [ratio / 1000 for ratio in past["ct"]["times_plain_read"]] * 8
    kept.write_text(json.dumps(past))
    text = found(home.check("dataset", "read_performance")["read_performance"], dg.AssetCheckSeverity.WARN)
    assert "much slower than they used to" in text
    assert "seg" not in text


def test_what_training_reads_and_is_not_there_is_not_green(home: Home) -> None:
    seg = RadiObject(home.store_uri).collection("seg")
    seg.delete(seg.obs_ids)
    assert home.materialize("dataset")
    text = found(home.check("dataset", "read_performance")["read_performance"], dg.AssetCheckSeverity.WARN)
    assert "no volume to measure" in text


def change_splits(home: Home, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = home.folder / "work" / "splits.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def test_a_subject_with_volumes_that_is_in_no_split_is_found(home: Home) -> None:
    change_splits(home, lambda rows: rows[rows["obs_subject_id"] != "phantom-004"])
    text = found(home.check("splits", "no_leakage")["no_leakage"])
    assert "subjects with volumes that are in no split" in text
    assert "Materialize splits" in text


def test_a_group_in_two_splits_is_told_as_what_it_is(home: Home) -> None:
    change_splits(home, lambda rows: rows.assign(groups='["family=1"]'))
    text = found(home.check("splits", "no_leakage")["no_leakage"])
    assert "a group (a family, a site)" in text
    assert "one person" not in text


def test_a_patch_cache_of_people_who_are_in_another_split_now_is_found(home: Home) -> None:
    assert home.check("patch_cache", "patches_match_volumes")["patches_match_volumes"].passed
    other = {"train": "test", "test": "train"}
    change_splits(home, lambda rows: rows.assign(split=rows["split"].map(other)))
    text = found(home.check("patch_cache", "patches_match_volumes")["patches_match_volumes"])
    assert "subjects that are not in its split" in text
    assert "Materialize patch_cache for the partition train" in text


def test_a_patch_cache_is_of_the_snapshot_that_was_divided(home: Home) -> None:
    """Between the two assets another snapshot is made: it has volumes of somebody whom nobody divided."""
    first = RadiObject(home.store_uri).collection("ct").iloc[0]
    add_volume(home, "newer", first.to_numpy(stored=True) + 1)
    assert home.materialize("dataset")
    for split in ("train", "test"):
        assert home.materialize("patch_cache", partition=split)
    assert home.check("patch_cache", "patches_match_volumes")["patches_match_volumes"].passed
    # the cache is as good as the splits, and both are of an earlier data set
    evaluation = home.check("patch_cache", "patches_are_there")["patches_are_there"]
    assert "earlier data set" in found(evaluation, dg.AssetCheckSeverity.WARN)
    assert home.check("splits", "no_leakage")["no_leakage"].passed
    with open_instance(home.folder / "dagster") as instance:
        made = instance.get_latest_materialization_event(dg.AssetKey("patch_cache"))
    assert made is not None
    assert made.asset_materialization is not None
    assert made.asset_materialization.metadata["snapshot"].value == "snapshot-0001"


def test_what_a_verification_saw_before_an_arrival_was_made_again_does_not_come_back(home: Home) -> None:
    """A portion looks at a damaged row; while it goes on, the arrival is mended; then the portion ends."""
    change_row(home, "ct", slope=2.0)
    tables = DatasetResource.of(load_dataset(home.folder / "dataset.yaml")).tables(
        StorageResource(memory=MemoryBudgetResource())
    )
    name = tables.verified("ct")
    found(home.check("ct", "volumes_verified")["volumes_verified"])  # so that the arrival's next run mends it
    arrival = str(home.obs("ct")[0]["arrival"])
    rows = read_inventory(home.store_uri, collections=["ct"])

    def keep(merge: Progress) -> None:
        assert home.materialize("ct", partition=arrival)
        tables.change_frame(name, merge)

    report = verify_portion(
        home.store_uri,
        rows,
        tables.frame(name),
        collection="ct",
        arrivals=sorted(set(rows["arrival"])),
        outcomes_of=lambda key: tables.frame(tables.outcomes(key, "ct")),
        now_ms=lambda: int(time.time() * 1000),
        out_of_time=lambda: False,
        keep=keep,
    )
    assert not [one for one in report.findings if one.arrival == arrival]
    assert unsound_arrivals(tables.frame(name)) == set()
    assert home.check("ct", "volumes_verified")["volumes_verified"].passed


def test_a_damaged_patch_is_found(home: Home) -> None:
    for shard in (home.folder / "work" / "patches").rglob("*.npy"):
        flip(shard, shard.stat().st_size - 5)
    evaluated = home.check("patch_cache", "patches_match_volumes")
    text = found(evaluated["patches_match_volumes"])
    assert "patches whose bytes are not those that were written" in text
    assert "Materialize patch_cache for the partition train" in text
    damaged = next((home.folder / "work" / "patches" / "train").glob("patches-*"))
    assert home.materialize("patch_cache", partition="train")
    assert compare_digests(damaged).damaged == ()


def test_a_patch_cache_that_is_gone_or_of_other_settings_is_told(home: Home) -> None:
    file = home.folder / "dataset.yaml"
    file.write_text(file.read_text().replace("per_volume: 4", "per_volume: 3"), encoding="utf-8")
    text = found(
        home.check("patch_cache", "patches_are_there")["patches_are_there"], dg.AssetCheckSeverity.WARN
    )
    assert "other settings" in text
    shutil.rmtree(home.folder / "work" / "patches")
    text = found(
        home.check("patch_cache", "patches_are_there")["patches_are_there"], dg.AssetCheckSeverity.WARN
    )
    assert "no patch cache" in text


def test_sources_that_vanish_or_change_are_told(home: Home) -> None:
    shutil.rmtree(home.folder / "landing" / "one")
    (home.folder / "landing" / "two" / "more.txt").write_text("a note", encoding="utf-8")
    evaluation = home.check("raw_dicom", "sources_still_there")["sources_still_there"]
    text = found(evaluation, dg.AssetCheckSeverity.WARN)
    assert "no longer in the landing zone" in text
    assert "not those that were taken in" in text
    assert {row["arrival"] for row in _table(evaluation)} == {"one", "two"}


def test_nothing_is_deleted_whose_source_is_gone(home: Home) -> None:
    change_row(home, "ct", slope=2.0)
    found(home.check("ct", "volumes_verified")["volumes_verified"])
    shutil.rmtree(home.folder / "landing" / "one")
    before = len(home.obs("ct"))
    assert not home.materialize("ct", partition="one")
    assert len(home.obs("ct")) == before


def add_volume(home: Home, obs_id: str, voxels: np.ndarray, **attributes: str) -> None:
    uri = ensure_collection(home.store_uri, "ct")
    row = home.obs("ct")[0]
    affine = np.eye(4)
    affine[:3] = np.array([[row[f"affine_{i}{j}"] for j in range(4)] for i in range(3)], dtype=float)
    staged = stage_volume(
        uri,
        obs_id=obs_id,
        obs_subject_id="phantom-extra",
        voxels=voxels,
        affine=affine,
        attributes={"kind": "image", "modality": "CT", **attributes},
    )
    commit_volumes(uri, [staged], with_subjects=True)


def test_one_image_under_two_ids_is_found(home: Home) -> None:
    first = RadiObject(home.store_uri).collection("ct").iloc[0]
    add_volume(home, "copy", first.to_numpy(stored=True), series_uid=str(home.obs("ct")[0]["series_uid"]))
    evaluation = home.check("dataset", "images_once")["images_once"]
    text = found(evaluation)
    assert "same image under two ids" in text
    assert "one series UID under two subjects" in text


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: np.full((8, 8, 4), 7, dtype=np.int16), "all voxels have one value"),
        (
            lambda: np.where(np.arange(256) == 3, np.nan, -1000.0).reshape(8, 8, 4).astype(np.float32),
            "not numbers",
        ),
        (lambda: np.arange(256, dtype=np.int16).reshape(8, 8, 4), "was the rescale lost"),
    ],
    ids=["constant", "nan", "raw"],
)
def test_values_that_no_ct_has_are_told(home: Home, make: Callable[[], np.ndarray], word: str) -> None:
    add_volume(home, "odd", make())
    evaluation = home.check("ct", "volumes_verified")["volumes_verified"]
    assert word in found(evaluation, dg.AssetCheckSeverity.WARN) + json.dumps(_table(evaluation))


def test_an_empty_split_and_a_cache_without_patches_fail(home: Home) -> None:
    seg = RadiObject(home.store_uri).collection("seg")
    seg.delete([one for one in seg.obs_ids if one.startswith("phantom-004")])
    for asset, partition in (
        ("dataset", None),
        ("splits", None),
        ("patch_cache", "train"),
        ("patch_cache", "test"),
    ):
        assert home.materialize(asset, partition=partition)
    assert "without anything to train or test on" in found(
        home.check("splits", "splits_are_usable")["splits_are_usable"]
    )
    evaluated = home.check("patch_cache", "patches_are_there")
    text = found(evaluated["patches_are_there"])
    assert "a patch cache without patches" in text


def test_quarantined_series_are_told_over_all_arrivals(home: Home) -> None:
    files = sorted(
        path for path in (home.folder / "landing" / "one").rglob("*") if path.stat().st_size > 4000
    )
    files[len(files) // 2].unlink()  # a slice is missing
    assert home.run_pass().runs
    evaluation = home.check("ct", "series_taken_in")["series_taken_in"]
    text = found(evaluation, dg.AssetCheckSeverity.WARN)
    assert "large part of the series is quarantined" in text
    assert "would be quarantined today" in text


def test_a_peak_above_the_budget_is_told(home: Home) -> None:

    with open_instance(home.folder / "dagster") as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                "ct", partition="one", metadata={"memory_above_idle_mb": 5226.0, "memory_budget_mb": 2048}
            )
        )
    text = found(
        home.check("dataset", "memory_within_budget")["memory_within_budget"], dg.AssetCheckSeverity.WARN
    )
    assert "more memory than its budget" in text


def test_changed_patches_and_splits_are_made_again_by_the_condition_sensor(home: Home) -> None:
    assert home.run_pass().runs == ()
    file = home.folder / "dataset.yaml"
    file.write_text(file.read_text().replace("per_volume: 4", "per_volume: 3"), encoding="utf-8")
    made = home.run_pass()
    assert {run.what for run in made.runs} == {"patch_cache[test]", "patch_cache[train]"}
    assert made.failed == ()
    assert home.check("patch_cache", "patches_are_there")["patches_are_there"].passed
    assert home.run_pass().runs == ()
    file.write_text(file.read_text().replace("split: {", "split: {seed: 8, "), encoding="utf-8")
    assert next(run.what for run in home.run_pass().runs) == "splits"
    assert home.run_pass().runs == ()


def test_where_nothing_is_there_yet_no_check_is_green_and_none_breaks(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "dataset.yaml").write_text(DATASET, encoding="utf-8")
    for one in Home(tmp_path).standing():
        assert not one.passed, one.check_name
        assert "nothing to look at yet" in (one.description or "")
        assert one.severity == dg.AssetCheckSeverity.WARN
