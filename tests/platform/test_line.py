"""The whole line, from a landing zone to patches, against the phantom's truth."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from radiobject_assets.cli.demo import print_summary, run_demo
from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.phantom.truth import CohortTruth
from radiobject_assets.platform.headless import open_instance
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.training.cache.cache_reading import PatchCache

if TYPE_CHECKING:
    from tests.platform.conftest import Line


def test_every_ct_in_the_store_has_the_truths_voxels_and_place(line: Line) -> None:
    ct = RadiObject(line.store_uri).collection("ct")
    rows = ct.to_obs().reset_index().set_index("series_uid")
    for subject in line.truth.subjects:
        volume = ct.loc[rows.loc[subject.ct_series_uid, "obs_id"]]
        assert volume.obs_subject_id == subject.subject_id
        assert subject.ct.largest_difference(volume.to_numpy(), volume.affine) == 0


def test_every_ingestable_series_is_stored_and_no_other(line: Line) -> None:
    store = RadiObject(line.store_uri)
    stored = {
        uid for name in ("ct", "seg") for uid in store.collection(name).to_obs().reset_index()["series_uid"]
    }
    assert stored == {uid for uid, (verdict, _) in line.truth.verdicts.items() if verdict == "ingestable"}
    reasons = [reason for _, reason in line.truth.verdicts.values() if reason]
    assert line.first.overview.quarantined == {reason: reasons.count(reason) for reason in set(reasons)}


def test_every_t1w_has_the_truths_values_and_place(line: Line) -> None:
    t1w = RadiObject(line.store_uri).collection("t1w")
    for subject in line.truth.subjects:
        (volume,) = list(t1w.sel(subject=subject.subject_id))
        assert subject.t1w.largest_difference(volume.to_numpy(), volume.affine) <= 1e-3


def test_lesion_volumes_are_within_a_voxel_layer_of_the_exact_ones(line: Line) -> None:
    seg = RadiObject(line.store_uri).collection("seg")
    for subject in line.truth.subjects:
        found = list(seg.sel(subject=subject.subject_id)) if subject.lesions else []
        assert len(found) == (1 if subject.seg_series_uid else 0)
        for volume in found:
            labels = volume.to_numpy(stored=True)
            assert labels.shape == subject.ct.shape
            for number, exact in enumerate(subject.lesion_volumes_mm3, start=1):
                measured = np.count_nonzero(labels == number) * subject.ct.voxel_mm3
                layer = _surface_mm2(exact) * max(subject.ct.spacing_mm)
                assert abs(measured - exact) <= layer


def _surface_mm2(volume_mm3: float) -> float:
    """Of a ball of that volume; the lesions are nearly balls."""
    return float(np.pi ** (1 / 3) * (6 * volume_mm3) ** (2 / 3))


def test_labels_lie_on_their_own_patients_image(line: Line) -> None:
    store = RadiObject(line.store_uri)
    for row in store.collection("seg").to_obs().reset_index().itertuples():
        image = store.collection("ct").loc[row.labels_of]
        labels = store.collection("seg").loc[row.obs_id]
        assert image.obs_subject_id == row.obs_subject_id
        assert np.allclose(image.affine, labels.affine)


def test_subjects_carry_the_columns_of_their_table(line: Line) -> None:
    stored = RadiObject(line.store_uri).obs_meta.read().reset_index().set_index("obs_subject_id")
    truth = line.truth.participants.set_index("participant_id")
    assert set(stored.index) == set(truth.index)
    for column in ("age", "sex", "site", "diagnosis"):
        assert list(stored.loc[truth.index, column].astype(str)) == list(truth[column].astype(str))


def test_every_subject_is_in_one_split_and_no_split_is_empty(line: Line) -> None:
    table = pd.read_parquet(line.home / "work" / "splits.parquet")
    assert sorted(table["obs_subject_id"]) == sorted(s.subject_id for s in line.truth.subjects)
    assert set(table["split"]) == {"train", "validation", "test"}


def test_patches_come_from_their_splits_subjects_and_equal_the_truth(line: Line) -> None:
    table = pd.read_parquet(line.home / "work" / "splits.parquet").set_index("obs_subject_id")["split"]
    by_uid = {s.ct_series_uid: s for s in line.truth.subjects}
    seen = 0
    for cache in line.first.overview.patches:
        patches = PatchCache(cache.path)
        for index in range(len(patches)):
            image, label, row = patches[index]
            assert table[row["obs_subject_id"]] == cache.split
            subject = by_uid[row["series_uid"]]
            assert subject.subject_id == row["obs_subject_id"]
            start = [row[f"start_{axis}"] for axis in "xyz"]
            affine = np.array([[row[f"affine_{i}{j}"] for j in range(4)] for i in range(3)])
            corner = affine[:, :3] @ np.array([5, 6, 7]) + affine[:, 3]
            if min(start) >= 0:
                assert image[5, 6, 7] == pytest.approx(float(subject.ct.at(corner)))
            assert label is not None
            assert label.shape == image.shape == (32, 32, 32)
            seen += 1
    assert seen == 8 * sum(subject.seg_series_uid is not None for subject in line.truth.subjects)


def test_all_checks_of_the_first_run_passed(line: Line) -> None:
    checks = line.first.overview.checks
    assert checks.failures == ()
    # who has no lesion has no labels, and gives no patches: that is told, and is no failure
    assert any(subject.seg_series_uid is None for subject in line.truth.subjects)
    assert checks.warnings == ("demo/dataset: labels_complete",)
    # for each of three arrivals one on series and one on ct, seg, t1w; six more on dataset, two on splits;
    # one on profile; one on each of three patch caches, and one on all of them; one over all arrivals
    assert checks.passed == (1 + 3) * 3 + 6 + 2 + 1 + 3 + 1 + 1


def test_pictures_show_something(line: Line) -> None:
    pictures = line.first.overview.pictures
    assert len(pictures) == 9
    for path in pictures:
        grey = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("L"))
        assert grey.std() > 20


def test_a_second_run_does_nothing_and_says_so(line: Line) -> None:
    before = _files(line.home / "store")
    with open_instance(line.home / "dagster") as instance:
        runs = instance.get_runs_count()
    again = run_demo(line.home, shape=line.shape)
    with open_instance(line.home / "dagster") as instance:
        assert instance.get_runs_count() == runs
    assert again.was_needless
    assert _files(line.home / "store") == before
    said = Console(record=True, width=120, file=io.StringIO())
    print_summary(again, said)
    assert "Nothing to do" in said.export_text()


def test_the_command_line_and_the_assets_give_the_same_reasons(line: Line, tmp_path: Path) -> None:
    dataset = load_dataset(line.home / "dataset.yaml")
    report = ingest_sources(
        [line.home / "landing"],
        str(tmp_path / "store"),
        dataset,
        budget=MemoryBudget(512),
        compute=Compute(workers=1),
    )
    told = json.loads(json.dumps(report.to_json()))
    by_command = Counter(item["reason"] for item in told["series"] if item["reason"])
    assert by_command == Counter(line.first.overview.quarantined)
    tables = (line.home / "work" / "arrivals").glob("*/series.parquet")
    rows = pd.concat([pd.read_parquet(path) for path in tables])
    assert Counter(rows["reason"].dropna()) == by_command
    assert {*by_command, *(item["reason"] for item in told["unreadable"])} <= {str(r) for r in Reason}


def test_every_materialization_tells_time_and_memory_beside_the_budget(line: Line) -> None:
    with open_instance(line.home / "dagster") as instance:
        for name in (
            "raw_dicom",
            "series",
            "ct",
            "seg",
            "t1w",
            "subjects",
            "dataset",
            "profile",
            "splits",
            "sheet",
            "patch_cache",
        ):
            event = instance.get_latest_materialization_event(dg.AssetKey(["demo", name]))
            assert event is not None
            assert event.asset_materialization is not None
            metadata = event.asset_materialization.metadata
            for number in ("seconds", "memory_above_idle_mb", "memory_budget_mb"):
                assert isinstance(metadata[number].value, (int, float)), (name, number)
            told = str(metadata["memory"].value)
            assert "interpreters and libraries, which the budget does not count" in told
            assert next(iter(metadata)) == "summary", "what happened stands first"
            assert not any("bytes" in label for label in metadata), "people read MB"
            assert event.asset_materialization.tags["dagster/data_version"]


def test_nothing_in_the_instance_names_a_patient(line: Line) -> None:
    forbidden = _identifiers(line.truth)
    looked_at = 0
    for path in (line.home / "dagster").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            looked_at += len(content)
            found = {name for name in forbidden if name.encode("utf-8") in content}
            # JSON writes other scripts as escapes
            found |= {name for name in forbidden if name.encode("unicode_escape") in content}
            assert not found, (path.name, found)
    assert looked_at > 100_000


def _identifiers(truth: CohortTruth) -> set[str]:
    names = {text for subject in truth.subjects for text in subject.identifiers if len(text) > 3}
    uids = {uid for subject in truth.subjects for uid in (subject.ct_series_uid,)}
    return names | {subject.subject_id for subject in truth.subjects} | uids


def _files(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
