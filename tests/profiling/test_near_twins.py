"""Near twins: found in every form, and nothing else is taken for them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from benchmarks.perturbations import jpeg
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Report
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.diagnostics.twin_rules import near_twins
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.forgetting.documents import clear_documents, documents_with
from radiobject_assets.forgetting.person import PersonFound
from radiobject_assets.forgetting.traces import Traces
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.phantom.cohort import cohort_truth
from radiobject_assets.profiling import twin_search
from radiobject_assets.profiling.compared_pairs import PAIRS, KeptPairs
from radiobject_assets.profiling.kept_profiles import keep_profiles
from radiobject_assets.profiling.thumbnail import ORIENTATIONS, coarse, descriptors, oriented
from radiobject_assets.profiling.twin_fit import Fit
from radiobject_assets.profiling.twin_grain import Sameness, compared_in_detail
from radiobject_assets.resources import WorkingTables
from radiobject_assets.store import arrays_of_subjects, open_storage
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget


def anatomy(seed: int) -> NDArray[np.float32]:
    """A head-like thing with structure of its own at several scales, and noise."""
    random = np.random.default_rng(seed)
    shape = (48, 44, 40)
    at = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    inside = (at**2).sum(0) < 0.8
    found = np.zeros(shape)
    for scale, strength in ((4, 120.0), (8, 90.0)):
        field = random.normal(0, 1, (scale,) * 3)
        for axis, size in enumerate(shape):
            index = np.linspace(0, scale - 1, size)
            low = np.clip(np.floor(index).astype(int), 0, scale - 2)
            part = (index - low).reshape([-1 if one == axis else 1 for one in range(3)])
            field = np.take(field, low, axis) * (1 - part) + np.take(field, low + 1, axis) * part
        found += strength * field
    return np.where(inside, 500 + found, 20).astype(np.float32) + random.normal(0, 8, shape).astype(
        np.float32
    )


def changed(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cropped, mirrored, its axes in another order, windowed, and in 8 bits."""
    voxels = voxels[3:-2, 2:, 1:-1].transpose(2, 0, 1)[:, ::-1]
    low, high = np.percentile(voxels, (5, 99))
    return np.round((np.clip(voxels, low, high) - low) / (high - low) * 255).astype(np.float32)


def test_an_image_in_another_form_is_found_under_another_subject_and_no_other(tmp_path: Path) -> None:
    images = {f"{seed:02d}": anatomy(seed) for seed in range(5)}
    images["05"] = changed(images["02"])
    for subject, voxels in images.items():
        folder = tmp_path / "d" / f"sub-{subject}"
        folder.mkdir(parents=True)
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(folder / f"sub-{subject}_T1w.nii")
    uri = str(tmp_path / "store")
    ingest_sources(
        [tmp_path / "d"], uri, DatasetSettings(), budget=MemoryBudget(512), compute=Compute(workers=1)
    )
    rows, tables = read_inventory(uri), open_storage(str(tmp_path / "tables"), None)
    assert near_twins(uri, rows, tables, None).looked_at == 0
    keep_profiles(tables, uri, rows)
    ids = sorted(rows["obs_subject_id"])
    splits = pd.DataFrame({"obs_subject_id": ids, "split": ["train"] * 5 + ["test"]})

    found = near_twins(uri, rows, tables, splits)
    assert found.looked_at == 6
    (one,) = found.findings
    assert one.kind is kinds.NEAR_TWINS
    tokens = sorted(str(rows.loc[rows["obs_subject_id"] == ids[n], "volume"].item())[:10] for n in (2, 5))
    pair = "-".join(tokens)
    assert one.about == f"twins {pair}"
    assert not any(subject in one.evidence for subject in ids if len(subject) > 3)
    # in one split it is a warning; what somebody found to be fine is not told
    (same,) = near_twins(uri, rows, tables, splits.assign(split="train")).findings
    assert same.kind is kinds.NEAR_TWINS_IN_A_SPLIT
    assert near_twins(uri, rows, tables, splits, [pair]).is_sound
    # two images of one subject are no leak
    assert near_twins(uri, rows.assign(obs_subject_id="one"), tables, None).is_sound


def test_a_copy_that_lost_its_spacing_is_found(tmp_path: Path) -> None:
    voxels = anatomy(2)
    for subject, values, spacing in (("a", voxels, 3.0), ("b", voxels * 2, 1.0), ("c", anatomy(3), 1.0)):
        folder = tmp_path / "d" / f"sub-{subject}"
        folder.mkdir(parents=True)
        image = nib.Nifti1Image(values, np.diag([spacing] * 3 + [1.0]))
        image.to_filename(folder / f"sub-{subject}_T1w.nii")
    uri = str(tmp_path / "store")
    ingest_sources(
        [tmp_path / "d"], uri, DatasetSettings(), budget=MemoryBudget(512), compute=Compute(workers=1)
    )
    rows, tables = read_inventory(uri), open_storage(str(tmp_path / "tables"), None)
    keep_profiles(tables, uri, rows)
    assert near_twins(uri, rows, tables, None).numbers["twins"] == 1


def test_small_phantoms_of_one_making_are_no_twins_and_a_copy_of_one_is(tmp_path: Path) -> None:
    bodies = [
        one.ct.stored.astype(np.float32) for one in cohort_truth(subjects=6, shape=(48, 48, 24)).subjects
    ]
    images = {f"{n}": body for n, body in enumerate(bodies)}
    uri, tables = _stored(tmp_path, {**images, "copy": jpeg(bodies[2], np.random.default_rng(0))})
    rows = read_inventory(uri)
    report = near_twins(uri, rows, tables.storage, None)
    assert report.numbers["compared_now"] > 10
    (only,) = report.findings
    named = only.about.removeprefix("twins ").split("-")
    assert set(rows.loc[rows["volume"].str[:10].isin(named), "obs_subject_id"]) == {"sub-2", "sub-copy"}


def test_the_same_body_scanned_twice_is_two_images_if_only_the_noise_differs() -> None:
    random = np.random.default_rng(5)
    body = np.kron(random.normal(0, 100, (6, 6, 4)), np.ones((8, 8, 8))).astype(np.float32)
    one, other = (body + random.normal(0, 15, body.shape).astype(np.float32) for _ in range(2))
    assert compared_in_detail(one, other, Fit(1.0, 0)).sameness is Sameness.TWO
    assert compared_in_detail(one, one[:, :, :] * 3 + 7, Fit(1.0, 0)).sameness is Sameness.ONE
    # nothing to see in either, and nothing that could tell
    smooth = np.broadcast_to(np.linspace(0, 1, 48, dtype=np.float32)[:, None, None], (48, 48, 32))
    assert compared_in_detail(smooth, smooth, Fit(1.0, 0)).sameness is Sameness.ALIKE


def test_candidates_are_the_nearest_of_other_owners_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(3)
    points = random.normal(0, 0.06, (300, 80)).astype(np.float32) + random.integers(0, 2, (300, 1))
    owners = [str(n // 3) for n in range(300)]
    monkeypatch.setattr(twin_search, "_ROWS", 64)
    monkeypatch.setattr(twin_search, "_COLUMNS", 50)
    wanted = set()
    for row in range(300):
        square = ((points - points[row]) ** 2).sum(axis=1)
        square[[n for n in range(300) if owners[n] == owners[row]]] = np.inf
        best = np.argsort(square)[: twin_search.NEIGHBOURS]
        wanted |= {(min(row, n), max(row, n)) for n in best.tolist() if square[n] < twin_search.REACH**2}
    assert wanted
    assert set(twin_search.candidate_pairs(points, owners)) == wanted


def test_a_descriptor_is_the_same_however_the_image_is_turned() -> None:
    cube = np.random.default_rng(0).integers(0, 65535, (24, 24, 24)).astype(np.uint16)
    turned = np.stack([oriented(cube, way) for way in range(len(ORIENTATIONS))])
    assert len({one.tobytes() for one in turned}) == 48
    np.testing.assert_allclose(descriptors(turned), np.repeat(descriptors(cube[None]), 48, 0), atol=1e-4)
    assert np.allclose((coarse(turned) ** 2).sum(axis=(1, 2, 3)), 1)


def test_only_pairs_can_be_named_as_known() -> None:
    assert DatasetSettings(near_twins={"known": ["0123456789-abcdef0123"]}).near_twins.known
    with pytest.raises((ValueError, ConfigurationError), match="copy it from the check"):
        DatasetSettings(near_twins={"known": ["sub-01"]})


def _stored(tmp_path: Path, images: dict[str, NDArray[np.float32]]) -> tuple[str, WorkingTables]:
    """A store of images, each of a subject of its own, with profiles, and the tables beside it."""
    for subject, voxels in images.items():
        folder = tmp_path / "d" / f"sub-{subject}"
        folder.mkdir(parents=True)
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(folder / f"sub-{subject}_T1w.nii")
    uri = str(tmp_path / "store")
    ingest_sources(
        [tmp_path / "d"], uri, DatasetSettings(), budget=MemoryBudget(512), compute=Compute(workers=1)
    )
    tables = WorkingTables(open_storage(str(tmp_path / "tables"), None))
    keep_profiles(tables.storage, uri, read_inventory(uri))
    return uri, tables


def _kept(tables: WorkingTables) -> KeptPairs:
    return KeptPairs(
        lambda: tables.frame(PAIRS) if tables.has(PAIRS) else None, partial(tables.change_frame, PAIRS)
    )


def _codes(report: Report) -> set[str]:
    return {finding.kind.code for finding in report.findings}


@pytest.fixture
def trio(tmp_path: Path) -> tuple[str, WorkingTables]:
    """One image in three forms, and another."""
    one = anatomy(2)
    return _stored(tmp_path, {"a": one, "b": changed(one), "c": one[::-1, :, 1:], "d": anatomy(3)})


def test_a_look_that_has_no_time_goes_on_in_the_next_and_says_what_is_left(
    trio: tuple[str, WorkingTables],
) -> None:
    uri, tables = trio
    rows = read_inventory(uri)
    whole = near_twins(uri, rows, tables.storage, None)
    assert whole.numbers["twins"] == 3
    n_pairs = int(whole.numbers["compared_now"])
    for n in range(1, n_pairs + 1):
        report = near_twins(uri, rows, tables.storage, None, compared=_kept(tables), seconds=-1)
        assert report.numbers["compared_now"] == 1
        assert report.numbers["pairs_left"] == n_pairs - n
        assert ("pairs_not_compared" in _codes(report)) == (n < n_pairs)
    assert {f.id for f in report.findings} == {f.id for f in whole.findings}
    searched = _kept(tables).searched()
    assert searched  # the next look takes its pairs from there
    again = near_twins(uri, rows, tables.storage, None, compared=_kept(tables))
    assert again.numbers["compared_now"] == 0
    assert {f.id for f in again.findings} == {f.id for f in whole.findings}
    # two that became one person's are no pair any more, and others are searched anew
    merged = rows.assign(obs_subject_id=rows["obs_subject_id"].where(rows.index != rows.index[0], "other"))
    near_twins(uri, merged.iloc[:3], tables.storage, None, compared=_kept(tables))
    assert _kept(tables).searched() != searched


def test_what_an_earlier_search_kept_is_compared_anew(trio: tuple[str, WorkingTables]) -> None:
    uri, tables = trio
    rows = read_inventory(uri)
    whole = near_twins(uri, rows, tables.storage, None, compared=_kept(tables))
    now = tables.frame(PAIRS)
    assert _kept(tables).searched()
    for earlier in (now.drop(columns=["is_certain", "searched"]), now):
        tables.put_frame(PAIRS, earlier.assign(version="1", likeness=0.0))
        assert not _kept(tables).searched()
        again = near_twins(uri, rows, tables.storage, None, compared=_kept(tables))
        assert {f.id for f in again.findings} == {f.id for f in whole.findings}
        assert again.numbers["compared_now"] == len(now)
        assert set(tables.frame(PAIRS)["version"]) == set(now["version"])


def test_pairs_of_a_forgotten_person_go_and_those_of_others_stay(trio: tuple[str, WorkingTables]) -> None:
    uri, tables = trio
    rows = read_inventory(uri)
    near_twins(uri, rows, tables.storage, None, compared=_kept(tables))
    before = tables.frame(PAIRS)
    token = before["volume_a"].iloc[0]
    subject = str(rows.loc[rows["volume"] == token, "obs_subject_id"].item())
    found = PersonFound(Traces(lambda one: one == subject, {subject}))
    found.know_arrays(arrays_of_subjects(uri, [subject]))
    assert PAIRS in set(documents_with(tables.storage, found.traces))
    clear_documents(tables.storage, found.traces)
    after = tables.frame(PAIRS)
    theirs = (before["volume_a"] == token) | (before["volume_b"] == token)
    assert len(after) == len(before) - theirs.sum() > 0
    assert token not in {*after["volume_a"], *after["volume_b"]}


@pytest.mark.parametrize("n_left", [0, 1])
def test_an_image_without_a_thumbnail_is_told_and_is_profiled_anew(
    trio: tuple[str, WorkingTables], n_left: int
) -> None:
    uri, tables = trio
    rows = read_inventory(uri)
    assert "images_not_compared" not in _codes(near_twins(uri, rows, tables.storage, None))
    (signatures,) = [name for name in tables.below("profile") if "signatures" in name]
    tables.put_arrow(signatures, tables.arrow(signatures).slice(0, n_left))
    report = near_twins(uri, rows, tables.storage, None)
    (lost,) = [finding for finding in report.findings if finding.kind is kinds.NOT_COMPARED]
    assert lost.evidence.startswith(f"{len(rows) - n_left} of ")
    assert keep_profiles(tables.storage, uri, rows).new == len(rows) - n_left
    mended = near_twins(uri, rows, tables.storage, None)
    assert "images_not_compared" not in _codes(mended)
    assert mended.numbers["twins"] == 3


def test_images_that_are_not_profiled_yet_are_told(trio: tuple[str, WorkingTables]) -> None:
    uri, tables = trio
    rows = read_inventory(uri)
    keep_profiles(tables.storage, uri, rows.iloc[:2])
    report = near_twins(uri, rows, tables.storage, None)
    assert [f.evidence[:4] for f in report.findings if f.kind is kinds.NOT_COMPARED] == ["2 of"]
    assert "2 of 4 images are profiled" in report.summary()
