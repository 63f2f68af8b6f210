"""Which label volume belongs to which image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from radiobject_assets.training.pairing import LeftOutReason, VolumeRow, pair_labels, volume_rows

SHIFTED = np.eye(4)
SHIFTED[0, 3] = 10.0


def volume(obs_id, subject="s1", labels_of="", shape=(4, 4, 4), affine=None, slope=1.0):
    return VolumeRow(
        obs_id=obs_id,
        obs_subject_id=subject,
        shape=shape,
        dtype=np.dtype(np.int16),
        affine=np.eye(4) if affine is None else affine,
        slope=slope,
        intercept=0.0,
        content=f"digest of {obs_id}",
        labels_of=labels_of,
        lineage=(),
    )


def paired(images, labels):
    pairs, left_out = pair_labels(images, labels)
    return [(image.obs_id, label.obs_id) for image, label in pairs], [(x.obs_id, x.reason) for x in left_out]


def test_labels_belong_to_the_image_that_they_name_whatever_their_order():
    images = [volume("ct1"), volume("ct2"), volume("ct3", "s2")]
    labels = [
        volume("seg-z", labels_of="ct1"),
        volume("seg-a", labels_of="ct3"),
        volume("seg-b", labels_of="ct2"),
    ]
    assert paired(images, labels) == ([("ct1", "seg-z"), ("ct2", "seg-b"), ("ct3", "seg-a")], [])


def test_labels_without_a_name_belong_to_the_image_of_their_subject_with_their_grid():
    images = [volume("ct1", affine=SHIFTED), volume("ct2"), volume("ct3", "s2")]
    labels = [volume("seg-b", "s2"), volume("seg-a", affine=SHIFTED), volume("seg-c")]
    assert paired(images, labels) == ([("ct1", "seg-a"), ("ct2", "seg-c"), ("ct3", "seg-b")], [])


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], LeftOutReason.NO_LABELS),
        ([volume("seg", "another subject")], LeftOutReason.NO_LABELS),
        ([volume("seg", labels_of="another image")], LeftOutReason.NO_LABELS),
        ([volume("a", labels_of="ct"), volume("b", labels_of="ct")], LeftOutReason.SEVERAL_LABEL_VOLUMES),
        ([volume("a"), volume("b")], LeftOutReason.SEVERAL_LABEL_VOLUMES),
        ([volume("seg", affine=SHIFTED)], LeftOutReason.GRIDS_DIFFER),
        ([volume("seg", labels_of="ct", shape=(4, 4, 5))], LeftOutReason.GRIDS_DIFFER),
        ([volume("seg", labels_of="ct", shape=(4, 4, 4, 2))], LeftOutReason.NOT_3D),
        ([volume("seg", labels_of="ct", slope=2.0)], LeftOutReason.LABELS_RESCALED),
    ],
)
def test_an_image_without_exactly_one_fitting_label_volume_is_left_out_with_a_reason(labels, reason):
    assert paired([volume("ct")], labels) == ([], [("ct", reason)])


def test_obs_rows_become_values_whatever_is_missing_in_them():
    columns = {f"affine_{i}{j}": float(i == j) for i in range(3) for j in range(4)}
    sizes = {"ndim": 3, "size_x": 5, "size_y": 6, "size_z": 7, "size_t": 1}
    row = {
        "obs_subject_id": "s",
        "obs_id": "o",
        "volume": "token",
        "dtype": "uint16",
        "slope": 2.0,
        "intercept": -1024.0,
        "series_uid": None,
        **sizes,
        **columns,
    }
    (value,) = volume_rows(pd.DataFrame([row]))
    assert (value.shape, value.dtype, value.slope, value.intercept) == ((5, 6, 7), np.uint16, 2.0, -1024.0)
    assert value.content == "token"
    assert dict(value.lineage) == {"series_uid": "", "study_uid": "", "source_digest": ""}
    (indexed,) = volume_rows(pd.DataFrame([row]).set_index(["obs_subject_id", "obs_id"]))
    assert dataclasses.replace(indexed, affine=value.affine) == value
