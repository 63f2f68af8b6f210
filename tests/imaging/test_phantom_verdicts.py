"""Scan, series and decoding give back exactly what the phantom cohort's truth says was written."""

from __future__ import annotations

import numpy as np
import pytest

from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.scanning.scan import ScanResult, scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series
from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.phantom.truth import CohortTruth

SHAPE = (64, 64, 32)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[CohortTruth, ScanResult, tuple[Series, ...]]:
    landing = tmp_path_factory.mktemp("landing")
    truth = make_cohort(landing, shape=SHAPE)
    found = scan([landing])
    return truth, found, build_series(found)


Cohort = tuple[CohortTruth, ScanResult, tuple[Series, ...]]


def _voxels(series: Series, grid: Grid | None = None) -> np.ndarray:
    source = open_series(series, grid)
    voxels = np.zeros(source.shape, source.dtype)
    for slab in source.slabs(7):
        voxels[:, :, slab.z : slab.z + slab.voxels.shape[2]] = slab.voxels
    return voxels * source.slope + source.intercept


def test_every_series_gets_the_verdict_and_reason_that_it_deserves(cohort: Cohort) -> None:
    truth, found, built = cohort
    assert {one.series_uid: (one.verdict, one.reason) for one in built if one.series_uid} == truth.verdicts
    named = {(one.path.name, str(one.reason)) for one in found.unreadable}
    assert named >= {pair for subject in truth.subjects for pair in subject.unreadable}
    assert {name for name, _ in named} == {"note.txt", "participants.tsv", "_COMPLETE"}


def test_every_file_is_counted_once(cohort: Cohort) -> None:
    truth, found, built = cohort
    sizes = {one.series_uid: len(one.files) for one in built if one.series_uid}
    assert all(truth.series[uid].n_files == count for uid, count in sizes.items())
    assert sum(sizes.values()) == len(found.instances)
    assert len(found.niftis) == len(truth.subjects)


def test_every_ingestable_image_equals_the_truth_voxel_by_voxel(cohort: Cohort) -> None:
    truth, _, built = cohort
    compared = 0
    for one in built:
        if one.verdict == "ingestable" and one.kind == "image" and one.series_uid:
            volume = truth.series[one.series_uid].volume
            assert volume is not None
            assert one.affine is not None
            assert volume.largest_difference(_voxels(one), one.affine) == 0
            compared += 1
    assert compared == sum(s.kind == "image" and s.volume is not None for s in truth.series.values())


def test_every_t1w_equals_the_truth_voxel_by_voxel(cohort: Cohort) -> None:
    truth, _, built = cohort
    niftis = {one.files[0].name: one for one in built if not one.series_uid}
    for subject in truth.subjects:
        one = niftis[f"{subject.subject_id}_T1w.nii.gz"]
        assert one.affine is not None
        assert subject.t1w.largest_difference(_voxels(one), one.affine) == 0


def test_every_seg_gives_the_true_labels_on_the_grid_of_its_ct(cohort: Cohort) -> None:
    truth, _, built = cohort
    by_uid = {one.series_uid: one for one in built}
    for subject in truth.subjects:
        if subject.seg_series_uid is None:
            continue
        seg, ct = by_uid[subject.seg_series_uid], by_uid[subject.ct_series_uid]
        assert seg.kind == "labels"
        assert seg.references == (subject.ct_series_uid,)
        assert ct.shape is not None
        assert ct.affine is not None
        labels = _voxels(seg, Grid(ct.shape[:3], ct.affine))
        expected = truth.series[subject.seg_series_uid].volume
        assert expected is not None
        assert expected.largest_difference(labels, ct.affine) == 0
